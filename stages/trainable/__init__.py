"""Which parts train, and how: patterns, adapters, new tokens."""
