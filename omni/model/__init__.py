"""The model: its configuration, how it is made, what its forward does, and the LM head."""
