"""Public benchmarks: one tuple of `Benchmark` for each kind of input."""
