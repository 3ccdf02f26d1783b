"""Tables, comparisons and pages of finished results."""
