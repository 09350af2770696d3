"""Tiles: the parts of a frame that are restored one by one, and how large they may be.

Each tile has a margin that is discarded, so that every pixel that is kept sees as much
of its surroundings as in the whole frame. All tiles of a frame have one size, so that
one compiled program serves them.
"""

import dataclasses
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from edvr_jax.config import ModelConfig

# Margin in pixels for features at the frame's size. docs/restore.md has the error that
# remains.
OVERLAP = 32
# Share of the free memory that a plan may use.
_SHARE = 0.5
# Larger tiles are no faster on a CPU.
_CPU_BYTES = 4 * 2**30
# On accelerators, windows are computed together up to this many pixels of features.
_BATCH_PIXELS = 2**17
_MAX_BATCH = 8
# Side of a tile that fits into any memory.
_SMALLEST = 64

Span = tuple[int, int]  # first, and one after the last


@dataclasses.dataclass(frozen=True)
class Tile:
    """Position of a tile in the padded frame, in pixels, rows before columns.

    Attributes:
        start: First row and column of the network's input.
        inner: Rows and columns of that input that are kept.
        outer: The same rows and columns, counted in the frame.
    """

    start: tuple[int, int]
    inner: tuple[Span, Span]
    outer: tuple[Span, Span]


@dataclasses.dataclass(frozen=True)
class Plan:
    """How a network processes frames of one size.

    Attributes:
        frame_size: Height and width of the frames.
        tile_size: Height and width of every tile, margins included.
        tiles: The tiles, which cover the frame.
        overlap: Margin of a tile in pixels.
        batch: Windows computed in one call.
        keeps_features: Features are kept from one window to the next. Otherwise only
            frames are kept and features are computed again, which takes less memory.
    """

    frame_size: tuple[int, int]
    tile_size: tuple[int, int]
    tiles: tuple[Tile, ...]
    overlap: int
    batch: int = 1
    keeps_features: bool = True

    @property
    def tile_pixels(self) -> int:
        """Pixels of a tile, margins included."""
        return self.tile_size[0] * self.tile_size[1]

    def to_dict(self) -> dict[str, Any]:
        """Return the arguments of :func:`make_plan` for this plan, ready for JSON."""
        return {
            "tile": max(self.tile_size) if len(self.tiles) > 1 else None,
            "overlap": self.overlap,
            "batch": self.batch,
            "keeps_features": self.keeps_features,
        }


def make_plan(
    config: ModelConfig,
    frame_size: tuple[int, int],
    *,
    tile: int | None,
    overlap: int,
    batch: int = 1,
    keeps_features: bool = True,
) -> Plan:
    """Divide frames into tiles.

    Args:
        config: The network.
        frame_size: Height and width.
        tile: Side of a tile in pixels, margins included: :func:`least_tile` or more,
            rounded up to a size that the network takes. None is the whole frame.
        overlap: Margin of a tile in pixels.
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
    return Plan(frame_size, (height, width), tiles, overlap, batch, keeps_features)


def least_tile(config: ModelConfig, overlap: int) -> int:
    """Return the smallest side of a tile that keeps any pixels between its margins."""
    return _round_up(2 * overlap, config.size_multiple) + 1


def _smallest_side(config: ModelConfig, overlap: int) -> int:
    """Side below which tiles are not shrunk for lack of memory; a third is kept."""
    least = max(3 * overlap, least_tile(config, overlap), _SMALLEST)
    return _round_up(least, config.size_multiple)


def _round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def _cut(
    length: int, padded: int, side: int, overlap: int, multiple: int
) -> list[tuple[int, Span, Span]]:
    """Divide one axis: start of each tile, the span kept of it, the span in the frame.

    Starts are multiples, so that the network's strides fall on the same pixels as in
    the whole frame.
    """
    count = 1
    if side < padded:
        step = (side - 2 * overlap) // multiple * multiple
        count += -(-(padded - side) // step)
    starts = [
        i * (padded - side) // max(1, count - 1) // multiple * multiple
        for i in range(count)
    ]
    # Neighboring tiles meet in the middle of their common pixels.
    cuts = [(b + a + side) // 2 for a, b in itertools.pairwise(starts)]
    bounds = [0, *cuts, length]
    return [
        (start, (first - start, last - start), (first, last))
        for start, (first, last) in zip(starts, itertools.pairwise(bounds), strict=True)
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
        devices: The devices that share the tiles; large frames get a tile for each.
        overlap: Margin of a tile in pixels.
        num_streams: Streams that keep features at the same time; they compute in turn.
    """
    on_cpu = devices[0].platform == "cpu"
    free = min(free_memory(device) for device in devices) * _SHARE
    if on_cpu:
        # The frames of a window and two outputs take the same memory.
        values = config.num_frames + 1 + 6 * config.output_scale**2
        frames = 4 * frame_size[0] * frame_size[1] * values
        free = max(free - frames * num_streams, free / 4)
    budget = min(free, _CPU_BYTES) if on_cpu else free / 2
    max_pixels = int(budget / working_bytes(config))
    plan = _cut_small(config, frame_size, overlap, max_pixels, num_tiles=len(devices))
    pixels = plan.tile_pixels
    if not on_cpu:
        # Small windows do not keep an accelerator busy.
        most = min(max_pixels, _BATCH_PIXELS * _shrinkage(config)) // pixels
        plan = dataclasses.replace(plan, batch=max(1, min(_MAX_BATCH, most)))
    tiles_per_device = -(-len(plan.tiles) // (1 if on_cpu else len(devices)))
    kept = tiles_per_device * pixels * feature_bytes(config) * (config.num_frames + 1)
    free -= plan.batch * pixels * working_bytes(config)
    return dataclasses.replace(plan, keeps_features=kept * num_streams <= free)


def _cut_small(
    config: ModelConfig,
    frame_size: tuple[int, int],
    overlap: int,
    max_pixels: int,
    num_tiles: int,
) -> Plan:
    """Make tiles smaller until they fit, and until there are enough of them."""
    plan = make_plan(config, frame_size, tile=None, overlap=overlap)
    side, smallest = max(frame_size), _smallest_side(config, overlap)
    while side > smallest:
        has_enough = len(plan.tiles) >= num_tiles or side <= 4 * overlap
        if plan.tile_pixels <= max_pixels and has_enough:
            break
        side = max(smallest, side * 7 // 8)
        plan = make_plan(config, frame_size, tile=side, overlap=overlap)
    return plan


def shrink(config: ModelConfig, plan: Plan) -> Plan | None:
    """Return a plan that takes less memory, or None if there is none."""
    if plan.batch > 1:
        return dataclasses.replace(plan, batch=1)
    # Before smaller tiles, which have more margins and so more features to keep.
    if plan.keeps_features:
        return dataclasses.replace(plan, keeps_features=False)
    smallest = _smallest_side(config, plan.overlap)
    side = max(plan.tile_size)
    if side <= smallest:
        return None
    return make_plan(
        config,
        plan.frame_size,
        tile=max(smallest, side * 2 // 3),
        overlap=plan.overlap,
        keeps_features=False,
    )


def feature_bytes(config: ModelConfig) -> float:
    """Return the bytes of a frame's features, per pixel of the frame."""
    levels = (1 + 1 / 4 + 1 / 16) if config.with_alignment else 1
    itemsize = 4 if config.dtype == "float32" else 2
    return levels * config.num_features * itemsize / _shrinkage(config)


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
    """Pixels of a frame per position of its features."""
    return 16 if config.hr_in else 1


def free_memory(device: Any) -> int:
    """Return the free bytes of a device; on CPU, those that this process may use."""
    stats = None if device.platform == "cpu" else device.memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    free = psutil.virtual_memory().available
    return max(0, min(free, *map(free_in_group, _control_groups())))


def _control_groups() -> list[Path]:
    """Folders of this process's Linux control groups, innermost first."""
    root = Path("/sys/fs/cgroup")
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return [root]
    names = [line.removeprefix("0::/") for line in lines if line.startswith("0::/")]
    folder = root.joinpath(*names)
    return [folder, *folder.parents]


def free_in_group(folder: Path) -> int:
    """Return the bytes that a Linux control group leaves to its processes.

    Args:
        folder: The group's folder (version 2). Without a limit, or without the folder,
            the result is larger than any memory.
    """
    try:
        limit = int((folder / "memory.max").read_text())
        used = int((folder / "memory.current").read_text())
        stat = (folder / "memory.stat").read_text().splitlines()
    except (OSError, ValueError):  # "max": no limit
        return sys.maxsize
    # Cached files count as used, but the kernel drops them when memory is needed.
    droppable = dict(line.split() for line in stat).get("inactive_file", 0)
    return limit - used + int(droppable)
