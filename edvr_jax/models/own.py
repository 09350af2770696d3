"""A module of your own in place of the network that a configuration describes.

The configuration keeps its meaning: frames of a window, center, channels, scale and
the multiple that sizes must have. What the module computes is its own matter.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from edvr_jax.config import CascadeConfig, NetworkConfig
from edvr_jax.errors import InputError, first_line
from edvr_jax.models import cascade
from edvr_jax.models.cascade import Cascade

# Height and width that every configuration takes; parameters do not depend on it.
_SIZE = 16


def example(config: NetworkConfig) -> jax.ShapeDtypeStruct:
    """Return the shape of one window, [1, T, H, W, C], that the network can take."""
    shape = (1, config.num_frames, _SIZE, _SIZE, config.in_channels)
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def is_own(config: NetworkConfig, model: nn.Module | None) -> bool:
    """Return whether a module is another one than ``create_model(config)``."""
    return model is not None and model != cascade.create_model(config)


def describe(model: nn.Module) -> str:
    """Name a module and its parts, such as ``EDVR(pcd_align=MyAlignment)``."""
    parts = [
        f"{name}={type(part).__name__}"
        for name, part in vars(model).items()
        if isinstance(part, nn.Module) and name != "parent"
    ]
    return f"{type(model).__name__}({', '.join(parts)})"


def check(config: NetworkConfig, model: Any) -> None:
    """Check what can be checked of a module without tracing it.

    Args:
        config: The configuration whose windows it is to restore.
        model: The module.

    Raises:
        InputError: if it is no Linen module, cannot be hashed, or is not two stages
            for the configuration of a cascade.
    """
    if not isinstance(model, nn.Module):
        raise InputError(
            "model must be an instance of flax.linen.Module, got "
            f"{model.__name__ if isinstance(model, type) else type(model).__name__}"
        )
    try:
        hash(model)
    except TypeError as error:
        raise InputError(
            f"model {describe(model)}: its fields must be hashable, such as numbers, "
            f"names, tuples and modules ({first_line(error)})"
        ) from None
    if isinstance(config, CascadeConfig) and not isinstance(model, Cascade):
        raise InputError(
            f"model {describe(model)}: a CascadeConfig takes Cascade(stage1=..., "
            "stage2=...); for one network use a ModelConfig"
        )


def parameters(config: NetworkConfig, model: nn.Module) -> Any:
    """Return the shapes of a module's parameters; nothing is computed.

    Args:
        config: The configuration whose windows it is to restore.
        model: The module, checked.

    Returns:
        The parameters as ``jax.ShapeDtypeStruct``, nested.

    Raises:
        InputError: if the module cannot restore such a window, needs more than its
            parameters, or restores another shape.
    """
    frames, name = example(config), f"model {describe(model)}"
    try:
        variables = jax.eval_shape(model.init, jax.random.key(0), frames)
        params = variables.get("params", {})
        restored = jax.eval_shape(model.apply, {"params": params}, frames)
    except Exception as error:  # whatever the code of the module raises
        raise InputError(
            f"{name} cannot restore windows {list(frames.shape)} from its parameters "
            f"alone: {type(error).__name__}: {first_line(error)}"
        ) from error
    size = _SIZE * config.output_scale
    expected = (1, size, size, config.out_channels)
    found = getattr(restored, "shape", type(restored).__name__)
    if found != expected or not jnp.issubdtype(restored.dtype, jnp.floating):
        raise InputError(
            f"{name} must restore windows {list(frames.shape)} as float "
            f"{list(expected)}, got {getattr(restored, 'dtype', '')} {found}"
        )
    return params


def apply(model: nn.Module, params: Any, frames: ArrayLike) -> jax.Array:
    """Apply a module to windows [N, T, H, W, C]; by Linen's types it may be a tuple."""
    restored: Any = model.apply({"params": params}, frames)
    return restored
