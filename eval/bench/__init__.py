"""Measurements of what this package promises; each is a module with `run(folder, small)`."""

BENCHES: dict[str, str] = {}
