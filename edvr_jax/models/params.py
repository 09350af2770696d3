"""Parameter trees: flat names, and the shapes of a configuration.

Flat names join the levels of the tree by a slash: ``pcd_align/cas_dcnpack/kernel``.
"""

import functools
import math
from collections.abc import Mapping
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from edvr_jax.config import CascadeConfig, NetworkConfig
from edvr_jax.errors import InputError, list_some
from edvr_jax.models import cascade

Shape = tuple[int, ...]


def flatten(params: Mapping[str, Any]) -> dict[str, Any]:
    """Turn nested parameters into one level, ``{"conv_first/kernel": ...}``."""
    return flax.traverse_util.flatten_dict(dict(params), sep="/")


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Turn flat names back into nested parameters."""
    return flax.traverse_util.unflatten_dict(dict(flat), sep="/")


@functools.lru_cache(maxsize=128)
def shapes(config: NetworkConfig) -> Mapping[str, Shape]:
    """Return the shape of every parameter of a network, by flat name.

    Nothing is computed: the network is only traced.
    """
    first = config.stage1 if isinstance(config, CascadeConfig) else config
    # Any size that all variants take will do: parameters do not depend on it.
    frames = jax.ShapeDtypeStruct(
        (1, config.num_frames, 16, 16, first.in_channels), jnp.float32
    )
    model = cascade.create_model(config)
    tree = jax.eval_shape(model.init, jax.random.key(0), frames)
    return {key: leaf.shape for key, leaf in flatten(tree["params"]).items()}


def count(config: NetworkConfig) -> int:
    """Return the number of parameters of a network."""
    return sum(math.prod(shape) for shape in shapes(config).values())


def check_shapes(
    found: Mapping[str, Any], expected: Mapping[str, Shape], *, source: str
) -> None:
    """Compare parameters with those of a network, and report all differences.

    Args:
        found: Arrays by name.
        expected: Shapes that the network has, by name.
        source: What the parameters come from, for the message.

    Raises:
        InputError: if a parameter is missing, unexpected or of another shape; the
            message names them all, the shapes of both sides, and the source.
    """
    missing = [key for key in expected if key not in found]
    surplus = [key for key in found if key not in expected]
    wrong = [
        f"{key} is {_cross(np.shape(found[key]))} instead of {_cross(shape)}"
        for key, shape in expected.items()
        if key in found and np.shape(found[key]) != tuple(shape)
    ]
    parts = [
        f"{len(names)} {kind}: {list_some(names)}"
        for kind, names in (
            ("missing", missing),
            ("unexpected", surplus),
            ("of another shape", wrong),
        )
        if names
    ]
    if parts:
        raise InputError(f"{source}: parameters do not fit; {'; '.join(parts)}")


def _cross(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "a scalar"
