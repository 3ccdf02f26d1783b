"""What each step is trained on: order, mixture, packing. Pure functions."""
