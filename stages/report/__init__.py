"""What a run did: one json file, one page, one picture."""
