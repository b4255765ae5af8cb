"""Checks of the Open Inference Protocol against any server, by its address."""
