"""Restore clips: stream their frames through a network, and write the result."""
