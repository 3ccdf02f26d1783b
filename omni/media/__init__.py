"""Bytes -> arrays under limits, and what a file is without decoding it."""
