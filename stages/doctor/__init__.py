"""What a stage will be trained on, and whether it fits, without training it."""
