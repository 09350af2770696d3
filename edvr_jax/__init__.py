"""EDVR, video restoration with enhanced deformable convolutions, in JAX and Flax.

Wang, Chan, Yu, Dong, Loy: "EDVR: Video Restoration with Enhanced Deformable
Convolutional Networks", CVPR Workshops 2019, arXiv:1905.02716.
"""

from importlib import metadata

from edvr_jax import export, ops
from edvr_jax.config import CascadeConfig, ModelConfig, NetworkConfig
from edvr_jax.errors import InputError
from edvr_jax.models import create_model
from edvr_jax.restore.restorer import restore_frames
from edvr_jax.weights import load_weights, save_weights
from edvr_jax.weights.torch_files import from_torch, to_torch

__version__ = metadata.version("edvr-jax")
"""Version of the package."""

__all__ = [
    "CascadeConfig",
    "InputError",
    "ModelConfig",
    "NetworkConfig",
    "__version__",
    "create_model",
    "export",
    "from_torch",
    "load_weights",
    "ops",
    "restore_frames",
    "save_weights",
    "to_torch",
]
