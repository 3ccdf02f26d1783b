"""Benchmarks: how good a model is."""
