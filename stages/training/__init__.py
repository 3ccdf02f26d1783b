"""The chain of stages, and THE loop."""
