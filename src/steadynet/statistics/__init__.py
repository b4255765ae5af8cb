"""Pure statistics that rollout and monitoring share: moments, sequences, tests. NumPy or less."""
