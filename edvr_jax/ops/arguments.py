"""What the operations share about arguments: checks, and binding static ones."""

import functools
import operator
from typing import Any

import jax

# A partial that is the same object for the same arguments: JAX traces it once for each
# shape.
bind = functools.cache(functools.partial)


def whole_number(name: str, value: Any, *, least: int = 1) -> int:
    """Return an argument as an int.

    Args:
        name: Of the argument, for the message.
        value: An integer of Python or NumPy.
        least: Smallest number allowed.

    Raises:
        TypeError: if it is not a whole number.
        ValueError: if it is smaller than ``least``.
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number, got {value!r}") from None
    if number < least:
        raise ValueError(f"{name} must be at least {least}, got {number}")
    return number


def is_empty(x: jax.Array) -> bool:
    """Return whether an axis of x has size 0; sizes open in jax.export do not count."""
    return any(isinstance(size, int) and size == 0 for size in x.shape)
