"""Clips on disk, their frames, windows and training samples."""
