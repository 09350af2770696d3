"""Scores over frames as the coordinates of a plot, in percent of its size."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

MAX_DOTS = 48  # more of them would hide the line
_NUM_TICKS = 4


def lines(values: Mapping[str, Sequence[float]]) -> dict[str, Any] | None:
    """Lay out lines over frames.

    Args:
        values: For each line, by its name, one value a frame; an infinite one leaves a
            gap.

    Returns:
        "lines": for each name its points ("x", "y", "value", "index") in pieces without
        gaps; "ticks": position and text of the axis of values; "frames": those of the
        axis of frames; "has_dots". None if no value is finite.
    """
    finite = [v for line in values.values() for v in line if math.isfinite(v)]
    if not finite:
        return None
    ticks = nice_ticks(min(finite), max(finite))
    low, high = ticks[0], ticks[-1]
    num_frames = max(map(len, values.values()))

    def place(index: int, value: float) -> dict[str, float]:
        x = 50.0 if num_frames == 1 else 100 * index / (num_frames - 1)
        y = 100 * (high - value) / (high - low)
        return {"x": round(x, 3), "y": round(y, 3), "value": value, "index": index}

    pieces = {}
    for name, line in values.items():
        runs = itertools.groupby(
            enumerate(line), key=lambda pair: math.isfinite(pair[1])
        )
        pieces[name] = [
            [place(index, value) for index, value in run]
            for is_finite, run in runs
            if is_finite
        ]
    decimals = max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9))
    step = max(1, round(_nice_step((num_frames - 1) / 5 or 1)))
    frames = range(0, num_frames, step)
    return {
        "lines": pieces,
        "ticks": [(place(0, tick)["y"], f"{tick:.{decimals}f}") for tick in ticks],
        "frames": [(place(index, low)["x"], index) for index in frames],
        "has_dots": num_frames <= MAX_DOTS,
    }


def nice_ticks(low: float, high: float) -> list[float]:
    """Return round values, evenly spaced, that enclose a range."""
    step = _nice_step(max(high - low, 0.1) / _NUM_TICKS)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [step * n for n in range(first, max(last, first + 1) + 1)]


def _nice_step(least: float) -> float:
    """Return 1, 2 or 5 times a power of ten, not less than a number."""
    unit = 10 ** math.floor(math.log10(least))
    return next(unit * n for n in (1, 2, 5, 10) if unit * n >= least * 0.999)
