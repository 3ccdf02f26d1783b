"""Rows of our own definition, on samples that no stage has seen."""
