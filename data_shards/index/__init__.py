"""Any sample in one read, and its cost without reading it."""
