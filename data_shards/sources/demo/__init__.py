"""Data that is made or unpacked here: what the quickstart trains on."""
