"""Training: state, step, loop, checkpoints, and what a run reports."""

from edvr_jax.errors import needs_extra

with needs_extra("train", "training needs more libraries than restoring"):
    from edvr_jax.train.trainer import train

__all__ = ["train"]
