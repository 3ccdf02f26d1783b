"""Small procedural benchmarks in the exact public schemas, made from held-out pictures."""

from .build import BUILDERS, build_minisuite

__all__ = ["BUILDERS", "build_minisuite"]
