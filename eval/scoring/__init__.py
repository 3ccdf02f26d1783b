"""What is right, and how sure that is."""
