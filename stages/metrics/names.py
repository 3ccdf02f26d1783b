"""Names of what is logged of each step, for those who read a log and need no torch."""

COUNTS = ("label_tokens", "tokens", "samples", "quarantined", "images", "audio_seconds",
          "positions")  # fmt: skip
"""what is counted of a batch, see `data_shards.read.batch.Batch`"""
OF_GROUP = ("samples", "tokens", "labels")
"""what is counted of the documents of one source, or of one set of modalities"""
