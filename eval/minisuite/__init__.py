"""Small procedural benchmarks in the exact public schemas, made from held-out pictures."""

from .build import build_minisuite

__all__ = ["build_minisuite"]
