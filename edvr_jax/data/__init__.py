"""Datasets, their windows and training samples."""

from edvr_jax.data.clips import TrainClip, open_clips
from edvr_jax.data.loader import TrainLoader

__all__ = ["TrainClip", "TrainLoader", "open_clips"]
