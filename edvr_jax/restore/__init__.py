"""Restore clips: streaming through a network, and writing the result."""
