"""A frozen encoder's outputs, kept in memory or in files."""
