"""Answers as sound: how it is made, and what is sent of it."""
