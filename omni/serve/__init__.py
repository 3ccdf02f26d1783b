"""Talking to a model: the terminal chat, and an OpenAI-compatible server."""
