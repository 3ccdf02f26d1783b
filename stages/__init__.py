"""Staged training: what trains, on what, with which objective."""
