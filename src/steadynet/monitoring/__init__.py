"""Watching a served model: pure functions over mergeable windows."""
