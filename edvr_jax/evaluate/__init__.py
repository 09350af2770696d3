"""Evaluation: metrics, published protocols, full-frame scores."""
