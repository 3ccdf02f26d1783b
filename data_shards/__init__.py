"""Streaming tar shards: what a model is trained on."""
