"""From a plan to batches: read, decode, collate, and name what is bad."""
