"""Offsets that follow the motion: the loss that guides them, and a measure of it.

Source: "Understanding Deformable Alignment in Video Super-Resolution"
(arXiv:2009.07265).
"""

import functools
import re
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from edvr_jax.config import FidelityConfig, OptimConfig
from edvr_jax.models import EDVR, PCDAlignment, layers
from edvr_jax.models import params as params_lib
from edvr_jax.train import losses

FLOW_ERROR, FLOW_MEAN = "flow_error/", "flow_mean/"

# The deformable convolutions of PCDAlignment; the cascaded one has no level.
_LEVEL = re.compile(r"(?:^|/)dcn_pack_l([123])$")
_CASCADE = re.compile(r"(?:^|/)cas_dcnpack$")


def mean_offsets(
    collections: Mapping[str, Any], *, num_frames: int
) -> dict[str, jax.Array]:
    """Return the mean offsets of the deformable convolutions, by name.

    Args:
        collections: The variables that ``apply`` returned, with
            ``layers.MEAN_OFFSETS`` mutable.
        num_frames: Frames of a window.

    Returns:
        For each deformable convolution, by its path, [N, T, h, w, 2].
    """
    flat = params_lib.flatten(collections.get(layers.MEAN_OFFSETS, {}))
    return {
        path.rpartition("/")[0]: offset.reshape(-1, num_frames, *offset.shape[1:])
        for path, offset in flat.items()
    }


def flow_at(name: str, flow: jax.Array) -> jax.Array | None:
    """Return the offsets that a deformable convolution should have on average.

    Args:
        name: Its path, such as ``pcd_align/dcn_pack_l2``.
        flow: Flow from the center frame, (dy, dx) in pixels of level 1,
            [N, T, h, w, 2].

    Returns:
        The flow in the pixels, and on the grid, of its level; zero for the cascaded
        one; None for a module that is not of PCDAlignment.
    """
    if _CASCADE.search(name):
        return jnp.zeros_like(flow)
    match = _LEVEL.search(name)
    if match is None:
        return None
    factor = 2 ** (int(match[1]) - 1)
    n, t, height, width, _ = flow.shape
    blocks = flow.reshape(n, t, height // factor, factor, width // factor, factor, 2)
    return blocks.mean((3, 5)) / factor


def fidelity(
    collections: Mapping[str, Any],
    flow: ArrayLike,
    *,
    config: FidelityConfig,
    weight: ArrayLike | None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Compare the offsets with the optical flow.

    Args:
        collections: As for :func:`mean_offsets`.
        flow: As for :func:`flow_at`.
        config: Tolerance, and whether the cascade is included.
        weight: Factor of each window's loss, [N]; None is 1.

    Returns:
        Sum of :func:`edvr_jax.train.losses.offset_fidelity` over the deformable
        convolutions, and for each of the three levels the means of
        ``|offset - flow|`` and of ``|flow|``, in pixels of the level.

    Raises:
        ValueError: if the network has no deformable convolution of PCDAlignment.
    """
    flow = jnp.asarray(flow, jnp.float32)
    loss, measured = jnp.zeros(()), {}
    offsets = mean_offsets(collections, num_frames=flow.shape[1])
    for name, offset in sorted(offsets.items()):
        is_level = is_trained_alone(name)
        target = flow_at(name, flow) if is_level or not config.alone else None
        if target is None:
            continue
        loss += losses.offset_fidelity(
            offset,
            target,
            tolerance=config.tolerance,
            huber_delta=config.huber_delta,
            weight=weight,
        )
        if is_level:
            error = jax.lax.stop_gradient(offset) - target
            measured[FLOW_ERROR + name] = jnp.abs(error).mean()
            measured[FLOW_MEAN + name] = jnp.abs(target).mean()
    if not measured:
        raise ValueError(
            "the offset-fidelity loss finds no dcn_pack_l1, l2 or l3 in the network"
        )
    return loss, measured


def fidelity_weight(step: jax.Array | int, config: OptimConfig) -> jax.Array:
    """Return the weight of the offset-fidelity loss at a step, float32."""
    weight = jnp.asarray(config.fidelity.weight, jnp.float32)
    if config.fidelity.decay_periods is None:
        return weight
    decay_steps = sum(config.period_steps[: config.fidelity.decay_periods])
    return weight * jnp.maximum(1 - jnp.asarray(step, jnp.float32) / decay_steps, 0)


def has_pcd(model: nn.Module) -> bool:
    """Return whether a network aligns by PCDAlignment, whose offsets are known."""
    return isinstance(model, EDVR) and isinstance(model.pcd_align, PCDAlignment)


def is_trained_alone(name: str) -> bool:
    """Return whether ``FidelityConfig.alone`` trains this deformable convolution."""
    return _LEVEL.search(name) is not None


@functools.partial(jax.jit, static_argnames="model")
def estimate(params: Any, frames: jax.Array, *, model: nn.Module) -> jax.Array:
    """Estimate the motion in windows: the mean offset at level 1.

    Args:
        params: Parameters.
        frames: Windows in [0, 1], [N, T, H, W, C].
        model: EDVR with PCDAlignment.

    Returns:
        (dy, dx) in pixels of level 1, [N, T, h, w, 2].
    """
    _, collections = model.apply(
        {"params": params}, frames, method="align", mutable=[layers.MEAN_OFFSETS]
    )
    offsets = mean_offsets(collections, num_frames=frames.shape[1])
    return next(x for name, x in offsets.items() if name.endswith("dcn_pack_l1"))


def correlation(offset: ArrayLike, flow: ArrayLike) -> float:
    """Pearson's correlation of offsets and flow: 1 follows the motion, 0 does not.

    Args:
        offset: (dy, dx), any shape.
        flow: Likewise, not constant.

    Returns:
        A number in -1..1; 0 for offsets that are all the same.
    """
    x, y = (np.asarray(a, np.float64).ravel() for a in (offset, flow))
    x, y = x - x.mean(), y - y.mean()
    norm = np.sqrt((x @ x) * (y @ y))
    return float(x @ y / norm) if norm else 0.0
