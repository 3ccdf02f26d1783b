"""The on-disk contract: samples in tar shards, their manifest, and how they are written."""
