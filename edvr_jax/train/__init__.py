"""Training: state, step, loop, checkpoints, and what a run reports."""

from edvr_jax.train.trainer import train

__all__ = ["train"]
