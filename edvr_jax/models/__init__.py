"""EDVR and its parts as pure linen modules."""

from edvr_jax.models.cascade import Cascade, create_model
from edvr_jax.models.edvr import EDVR
from edvr_jax.models.pcd import PCDAlignment
from edvr_jax.models.predeblur import PredeblurModule
from edvr_jax.models.tsa import ConcatFusion, TSAFusion

__all__ = [
    "EDVR",
    "Cascade",
    "ConcatFusion",
    "PCDAlignment",
    "PredeblurModule",
    "TSAFusion",
    "create_model",
]
