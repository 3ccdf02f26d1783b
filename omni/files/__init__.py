"""Files that are there whole or not at all, that only grow, or that one process may write."""
