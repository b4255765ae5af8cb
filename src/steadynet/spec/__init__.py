"""What the user declares: `steadynet.toml` as frozen, strict structures."""
