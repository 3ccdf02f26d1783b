"""What a step tells: speed, operations, losses, and where they are written."""
