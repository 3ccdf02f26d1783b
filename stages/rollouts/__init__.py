"""Answers that a model draws to learn from: sampled, verified, paid and packed."""
