"""Messages -> tensors: the only place that does it."""
