"""Datasets, their windows and training samples."""
