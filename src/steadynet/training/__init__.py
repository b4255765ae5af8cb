"""Training: from a table to a bundle."""
