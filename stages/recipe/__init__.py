"""What a recipe may say: its dataclasses, its checks, and where its lines are."""
