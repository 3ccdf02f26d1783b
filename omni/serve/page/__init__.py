"""A page in the browser: a visitor asks one model, or two of them side by side."""
