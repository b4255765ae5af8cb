"""Versions and aliases, kept in MLflow, with a verified local cache of bundles."""
