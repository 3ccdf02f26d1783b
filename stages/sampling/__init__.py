"""Answers of a checkpoint, as data for a later stage."""
