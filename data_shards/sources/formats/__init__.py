"""Converters of users' own files; a new one is one file and one line in `SOURCES`."""
