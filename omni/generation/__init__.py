"""Everything that samples tokens."""
