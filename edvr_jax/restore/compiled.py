"""A network in two compiled halves, for one or more devices.

The first half computes the features of a frame, the second restores the center of a
window of features, so that a stream computes the features of each frame once.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
from flax import linen as nn

from edvr_jax.config import ModelConfig, NetworkConfig
from edvr_jax.models import own
from edvr_jax.models.cascade import Cascade, create_model
from edvr_jax.ops import conv

Pyramid = tuple[jax.Array, ...]  # levels of one frame, [h, w, F]


@dataclasses.dataclass(frozen=True, eq=False)
class CompiledNetwork:
    """A network in two compiled halves.

    Attributes:
        config: Its architecture.
        params: Its parameters, as the halves take them.
        encode: From parameters and frames, float32 in [0, 1], [K, H, W, C], to a
            tuple of K pyramids.
        reconstruct: From parameters, a tuple of K windows, each a tuple of pyramids,
            and the frames to restore, [K, H, W, C], to the restored ones, float32,
            [K, s*H, s*W, C].
    """

    config: ModelConfig
    params: Any
    encode: Callable[[Any, jax.Array], tuple[Pyramid, ...]]
    reconstruct: Callable[[Any, tuple[tuple[Pyramid, ...], ...], jax.Array], jax.Array]

    _params_on: dict[Any, Any] = dataclasses.field(
        default_factory=dict, init=False, repr=False
    )

    def params_on(self, device: Any) -> Any:
        """Return the parameters on a device; they are copied there once."""
        if device not in self._params_on:
            self._params_on[device] = jax.device_put(self.params, device)
        return self._params_on[device]


def create_networks(
    config: NetworkConfig, params: Any, model: nn.Module | None = None
) -> list[CompiledNetwork]:
    """Create the networks that restore a frame one after the other.

    Args:
        config: Architecture of the network, or of the two of a cascade.
        params: Its parameters.
        model: The module to apply if it is not ``create_model(config)``.

    Returns:
        One network, or the two of a cascade.
    """
    halves = _jitted(encode), _jitted(reconstruct)
    return [
        CompiledNetwork(c, p, *(functools.partial(half, m) for half in halves))
        for c, p, m in split_stages(config, params, model)
    ]


def split_stages(
    config: NetworkConfig, params: Any, model: nn.Module | None = None
) -> list[tuple[ModelConfig, Any, nn.Module]]:
    """Return configuration, parameters and module of each network in turn.

    Args:
        config: Architecture of the network, or of the two of a cascade.
        params: Its parameters.
        model: The module to apply if it is not ``create_model(config)``.

    Raises:
        InputError: if the module cannot be that of the configuration.
    """
    if model is None:
        model = create_model(config)
    else:
        own.check(config, model)
    if isinstance(config, ModelConfig):
        return [(config, params, model)]
    stages = cast(Cascade, model)
    return [
        (config.stage1, params["stage1"], stages.stage1),
        (config.stage2, params["stage2"], stages.stage2),
    ]


# Cached, so that equal networks share their compiled programs.
@functools.cache
def _jitted(half):
    return jax.jit(half, static_argnums=0, compiler_options=conv.compiler_options())


def _has_halves(model: nn.Module) -> bool:
    return hasattr(type(model), "encode") and hasattr(type(model), "reconstruct")


def encode(model: nn.Module, params: Any, frames: jax.Array) -> tuple[Pyramid, ...]:
    """Compute the pyramids of frames; see :class:`CompiledNetwork`.

    A module that only restores whole windows has the frames themselves as features.
    """
    if not _has_halves(model):
        return tuple((frames[k],) for k in range(frames.shape[0]))
    levels = model.apply({"params": params}, frames, method="encode")
    return tuple(
        tuple(level[k] for level in cast(Pyramid, levels))
        for k in range(frames.shape[0])
    )


def reconstruct(
    model: nn.Module,
    params: Any,
    windows: tuple[tuple[Pyramid, ...], ...],
    frames: jax.Array,
) -> jax.Array:
    """Restore the centers of windows; see :class:`CompiledNetwork`."""
    frames_of_windows = [
        tuple(jnp.stack(level) for level in zip(*window, strict=True))
        for window in windows
    ]
    levels = tuple(jnp.stack(level) for level in zip(*frames_of_windows, strict=True))
    if not _has_halves(model):
        return own.apply(model, params, levels[0]).astype(jnp.float32)
    restored = model.apply({"params": params}, levels, frames, method="reconstruct")
    return cast(jax.Array, restored).astype(jnp.float32)
