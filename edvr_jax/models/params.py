"""Parameter trees: flat names, and the shapes of a configuration.

Flat names join the levels of the tree by a slash: ``pcd_align/cas_dcnpack/kernel``.
"""

import functools
import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import numpy as np

from edvr_jax.config import NetworkConfig
from edvr_jax.errors import InputError, list_some
from edvr_jax.models import cascade, own

Shape = tuple[int, ...]


def flatten(params: Mapping[str, Any]) -> dict[str, Any]:
    """Turn nested parameters into one level, ``{"conv_first/kernel": ...}``."""
    return flax.traverse_util.flatten_dict(dict(params), sep="/")


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Turn flat names back into nested parameters."""
    return flax.traverse_util.unflatten_dict(dict(flat), sep="/")


def shapes(
    config: NetworkConfig, model: nn.Module | None = None
) -> Mapping[str, Shape]:
    """Return the shape of every parameter of a network, by flat name.

    Nothing is computed: the network is only traced.

    Args:
        config: The network.
        model: A module of your own in its place; None is ``create_model(config)``.

    Raises:
        InputError: if ``model`` does not restore the windows of the configuration.
    """
    if model is not None:
        own.check(config, model)
    return _shapes(config, model)


@functools.lru_cache(maxsize=128)
def _shapes(config: NetworkConfig, model: nn.Module | None) -> Mapping[str, Shape]:
    if model is None:
        stock = cascade.create_model(config)
        frames = own.example(config)
        params = jax.eval_shape(stock.init, jax.random.key(0), frames)["params"]
    else:
        params = own.parameters(config, model)
    return {key: leaf.shape for key, leaf in flatten(params).items()}


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
    differences = describe_differences(
        {key: np.shape(value) for key, value in found.items()}, expected
    )
    if differences:
        raise InputError(f"{source}: parameters do not fit; {differences}")


def describe_differences(
    found: Mapping[str, Shape], expected: Mapping[str, Shape]
) -> str:
    """Name the parameters that are missing, unexpected or of another shape.

    Args:
        found: Shapes by name.
        expected: Likewise.

    Returns:
        All differences; "" if there are none.
    """
    missing = [key for key in expected if key not in found]
    surplus = [key for key in found if key not in expected]
    wrong = [
        f"{key} is {_cross(found[key])} instead of {_cross(shape)}"
        for key, shape in expected.items()
        if key in found and tuple(found[key]) != tuple(shape)
    ]
    return "; ".join(
        f"{len(names)} {kind}: {list_some(names)}"
        for kind, names in (
            ("missing", missing),
            ("unexpected", surplus),
            ("of another shape", wrong),
        )
        if names
    )


def _cross(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "a scalar"
