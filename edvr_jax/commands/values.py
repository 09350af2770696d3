"""Read what users write for times and rates, exactly."""

import math
from fractions import Fraction

from edvr_jax.errors import InputError


def parse_seconds(text: str, name: str) -> Fraction:
    """Read seconds, M:SS or H:MM:SS.

    Raises:
        InputError: if it is none of them; it says ``name``.
    """
    try:
        seconds = Fraction(0)
        for part in text.split(":"):
            seconds = seconds * 60 + Fraction(part)
    except (ValueError, ZeroDivisionError):
        raise InputError(
            f"{name} must be seconds or H:MM:SS, such as 90 or 1:30, got {text!r}"
        ) from None
    return seconds


def parse_rate(text: str) -> Fraction:
    """Read frames per second, a number or a ratio.

    29.97 and the like mean 30000/1001, as NTSC's rates are usually rounded.

    Raises:
        InputError: if it is no number above 0.
    """
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if rate <= 0:
        raise InputError(
            f"fps must be a number above 0, or a ratio such as 30000/1001; got {text!r}"
        )
    exact = Fraction(math.ceil(rate) * 1000, 1001)
    is_rounded = rate.denominator > 1 and abs(rate - exact) < Fraction(1, 200)
    return exact if is_rounded else rate.limit_denominator(1001)
