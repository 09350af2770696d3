"""Parts of a frame that a network restores one by one, and how large they may be.

Every tile is cut with a margin that is thrown away, so that a pixel that is kept sees
as much of its surroundings as it would in the whole frame. All tiles of a frame have
one size, so that one compiled program serves them.
"""

import dataclasses
import functools
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from edvr_jax.config import ModelConfig

# Pixels around a tile's kept part, for features at the frame's size. docs/restore.md
# shows the error that is left.
OVERLAP = 32
# Share of the free memory that a stream may plan with.
_SHARE = 0.5
# Larger tiles do not make a CPU faster.
_CPU_BYTES = 4 * 2**30
# Windows computed in one call on accelerators: until so many pixels of features.
_BATCH_PIXELS = 2**17
_MAX_BATCH = 8
# Side of a tile that fits into any memory.
_SMALLEST = 64

Span = tuple[int, int]  # first, and one after the last


@dataclasses.dataclass(frozen=True)
class Tile:
    """Where a tile lies, in pixels of the padded frame, rows before columns.

    Attributes:
        start: First row and column of the part that the network sees.
        inner: Rows and columns of that part which are kept.
        outer: Rows and columns of the frame that they become.
    """

    start: tuple[int, int]
    inner: tuple[Span, Span]
    outer: tuple[Span, Span]


@dataclasses.dataclass(frozen=True)
class Plan:
    """How frames of one size go through a network.

    Attributes:
        frame_size: Height and width of the frames.
        tile_size: Height and width of every tile, margins included.
        tiles: The tiles, which cover the frame.
        batch: Windows computed in one call.
        keeps_features: Features are kept from one window to the next; else only
            frames are, and features are computed again, which takes less memory.
    """

    frame_size: tuple[int, int]
    tile_size: tuple[int, int]
    tiles: tuple[Tile, ...]
    batch: int = 1
    keeps_features: bool = True


def make_plan(
    config: ModelConfig,
    frame_size: tuple[int, int],
    *,
    tile: int | None,
    overlap: int,
    batch: int = 1,
    keeps_features: bool = True,
) -> Plan:
    """Cut frames into tiles.

    Args:
        config: The network.
        frame_size: Height and width.
        tile: Side of the tiles in pixels, margins included, :func:`least_tile` or
            more, rounded up to a size that the network takes; None is the whole frame.
        overlap: Pixels around the kept part of a tile.
        batch: Windows computed in one call.
        keeps_features: Whether features are kept from one window to the next.
    """
    multiple = config.size_multiple
    sides, spans = [], []
    for length in frame_size:
        padded = _round_up(length, multiple)
        side = padded if tile is None else min(padded, _round_up(tile, multiple))
        sides.append(side)
        spans.append(_cut(length, padded, side, overlap, multiple))
    tiles = tuple(
        Tile((y[0], x[0]), (y[1], x[1]), (y[2], x[2]))
        for y in spans[0]
        for x in spans[1]
    )
    height, width = sides
    return Plan(frame_size, (height, width), tiles, batch, keeps_features)


def least_tile(config: ModelConfig, overlap: int) -> int:
    """Return the least side of a tile of which something is left between margins."""
    return _round_up(2 * overlap, config.size_multiple) + 1


def _smallest_side(config: ModelConfig, overlap: int) -> int:
    """Side below which tiles are not made for lack of memory: a third of it is kept."""
    least = max(3 * overlap, least_tile(config, overlap), _SMALLEST)
    return _round_up(least, config.size_multiple)


def _round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def _cut(
    length: int, padded: int, side: int, overlap: int, multiple: int
) -> list[tuple[int, Span, Span]]:
    """Cut one axis: the start of each tile, what is kept of it, and where that goes.

    Starts are multiples, so that the network's strides fall on the same pixels as
    they do in the whole frame.
    """
    count = 1
    if side < padded:
        step = (side - 2 * overlap) // multiple * multiple
        count += -(-(padded - side) // step)
    starts = [
        i * (padded - side) // max(1, count - 1) // multiple * multiple
        for i in range(count)
    ]
    # Two tiles share what they both see halfway.
    cuts = [(b + a + side) // 2 for a, b in itertools.pairwise(starts)]
    bounds = [0, *cuts, length]
    return [
        (start, (first - start, last - start), (first, last))
        for start, first, last in zip(starts, bounds, bounds[1:], strict=False)
    ]


def fit_plan(
    config: ModelConfig,
    frame_size: tuple[int, int],
    devices: Sequence[Any],
    *,
    overlap: int,
    num_streams: int = 1,
) -> Plan:
    """Choose the largest tiles that the free memory of the devices allows.

    Args:
        config: The network.
        frame_size: Height and width.
        devices: The devices that share the tiles.
        overlap: Pixels around the kept part of a tile.
        num_streams: Streams like this one that go on at once, each with its features;
            they take turns at computing.

    Returns:
        A plan whose tiles are no fewer than the devices, as far as frames are large
        enough for it.
    """
    free = min(free_memory(device) for device in devices) * _SHARE
    on_cpu = devices[0].platform == "cpu"
    pixels = frame_size[0] * frame_size[1]
    if on_cpu:
        # Frames and two outputs lie there too.
        frames = pixels * 4 * (config.num_frames + 1 + 6 * config.output_scale**2)
        free = max(free - frames * num_streams, free / 4)
    budget = min(free, _CPU_BYTES) if on_cpu else free / 2
    tile_pixels = int(budget / working_bytes(config))
    make = functools.partial(make_plan, config, frame_size, overlap=overlap)
    plan = make(tile=None)
    tile = max(frame_size)
    smallest = _smallest_side(config, overlap)
    while tile > smallest and (
        plan.tile_size[0] * plan.tile_size[1] > tile_pixels
        or (len(plan.tiles) < len(devices) and tile > 4 * overlap)
    ):
        tile = max(smallest, tile * 7 // 8)
        plan = make(tile=tile)
    pixels = plan.tile_size[0] * plan.tile_size[1]
    if not on_cpu:
        # Small windows do not keep an accelerator busy.
        most = min(_MAX_BATCH, _BATCH_PIXELS * _shrinkage(config) // pixels)
        batch = max(1, min(most, tile_pixels // pixels))
        plan = dataclasses.replace(plan, batch=batch)
    tiles_of_device = -(-len(plan.tiles) // (1 if on_cpu else len(devices)))
    kept = tiles_of_device * pixels * feature_bytes(config) * (config.num_frames + 1)
    working = plan.batch * pixels * working_bytes(config)
    return dataclasses.replace(
        plan, keeps_features=kept * num_streams <= free - working
    )


def shrink(config: ModelConfig, plan: Plan, *, overlap: int) -> Plan | None:
    """Plan with less memory, after there was not enough; None if there is no less."""
    if plan.batch > 1:
        return dataclasses.replace(plan, batch=1)
    # Before smaller tiles, which with their margins hold more features.
    if plan.keeps_features:
        return dataclasses.replace(plan, keeps_features=False)
    smallest = _smallest_side(config, overlap)
    side = max(plan.tile_size)
    if side <= smallest:
        return None
    return make_plan(
        config,
        plan.frame_size,
        tile=max(smallest, side * 2 // 3),
        overlap=overlap,
        keeps_features=plan.keeps_features,
    )


def feature_bytes(config: ModelConfig) -> float:
    """Return the bytes of a frame's features, per pixel of the frame."""
    levels = (1 + 1 / 4 + 1 / 16) if config.with_alignment else 1
    return levels * config.num_features * _itemsize(config) / _shrinkage(config)


def working_bytes(config: ModelConfig) -> float:
    """Return the bytes that restoring a window takes, per pixel of the tile.

    A fit to what XLA plans on CPU for EDVR-M, -L and the small network, up to 5 %
    above it: features, and the positions and weights of the samples of every tap and
    group, for all frames of the window; or the enlarged features of one frame, twice.
    """
    features, taps = config.num_features, 9 * config.deformable_groups
    window = 4 * config.num_frames * (5 * features + 6.5 * taps)
    enlarged = 4 * (2 * 64 * (16 if config.hr_in else config.scale**2) + 2 * features)
    return max(window, enlarged) / _shrinkage(config)


def _shrinkage(config: ModelConfig) -> int:
    """Pixels of a frame for each position of its features."""
    return 16 if config.hr_in else 1


def _itemsize(config: ModelConfig) -> int:
    return np.dtype("float32").itemsize if config.dtype == "float32" else 2


def free_memory(device: Any) -> int:
    """Return the bytes that are free on a device; on CPU, to this process."""
    stats = None if device.platform == "cpu" else device.memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    free = psutil.virtual_memory().available
    return max(0, min(free, *(free_in_group(group) for group in _control_groups())))


def _control_groups() -> list[Path]:
    """Folders of Linux's control groups of this process, the innermost first."""
    root = Path("/sys/fs/cgroup")
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return [root]
    names = [line.removeprefix("0::/") for line in lines if line.startswith("0::/")]
    folder = root.joinpath(*names)
    return [folder, *folder.parents]


def free_in_group(folder: Path) -> int:
    """Return the bytes that a control group of Linux leaves to its processes.

    Args:
        folder: Of the group, with the files of version 2; without a limit, or where
            there is no such folder, the result is larger than any memory.
    """
    try:
        limit = int((folder / "memory.max").read_text())
        used = int((folder / "memory.current").read_text())
        stat = (folder / "memory.stat").read_text().splitlines()
    except (OSError, ValueError):  # "max" is no limit
        return sys.maxsize
    # Files that are only remembered in case they are read again count as used.
    forgettable = dict(line.split() for line in stat).get("inactive_file", 0)
    return limit - used + int(forgettable)
