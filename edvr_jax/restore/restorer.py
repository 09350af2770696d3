"""Restore a clip frame by frame: scenes, networks one after the other, ensembles.

Each scene is a clip of its own, so that no window reaches across a cut. Within it the
networks form a chain of streams: each sees the restored frames of the one before,
padded at the ends of the scene like any other clip.
"""

import dataclasses
import functools
import itertools
import threading
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from jax.typing import ArrayLike

from edvr_jax.config import ModelConfig, NetworkConfig
from edvr_jax.errors import InputError
from edvr_jax.media.read import pixels, scenes
from edvr_jax.restore import tiles
from edvr_jax.restore.compiled import CompiledNetwork, create_networks
from edvr_jax.restore.tiled_network import TiledNetwork
from edvr_jax.restore.windows import PADDING_MODES

# Axes of [H, W, C] that each member of the self-ensemble flips.
_FLIPS = ((), (1,), (0,), (0, 1))
_DTYPES = ("float32", "uint8", "uint16")


def restore_frames(  # noqa: PLR0913
    config: NetworkConfig,
    params: Any,
    frames: Iterable[ArrayLike],
    *,
    padding: str = "reflection_circle",
    model: nn.Module | None = None,
    only: Container[int] | None = None,
    tile: int | str | None = None,
    overlap: int | None = None,
    ensemble: bool = False,
    scene_cuts: bool = False,
    dtype: Any = np.float32,
) -> Iterator[np.ndarray]:
    """Restore the frames of one clip, in order, one out for each one in.

    Args:
        config: Architecture of the network, or of the two of a cascade.
        params: Its parameters.
        frames: RGB frames of one size, [H, W, C], uint8, uint16 or float in [0, 1];
            any size.
        padding: What stands in for frames beyond the ends of the clip; one of
            ``edvr_jax.restore.windows.PADDING_MODES``.
        model: The module to apply if it is not ``create_model(config)``, for one
            with a part replaced; it has the methods ``encode`` and ``reconstruct``.
        only: Indices of the frames to restore; None is all of them.
        tile: Side in pixels of the parts that large frames are cut into, margins
            included; "auto" is as large as the free memory of the devices allows,
            None is the whole frame on one device. Several devices share the tiles.
        overlap: Margin of a tile in pixels; None is one whose seams are not seen.
        ensemble: Restore every frame also flipped and average (the four flips of the
            reference), in four times the time.
        scene_cuts: Find cuts and treat each scene as a clip of its own.
        dtype: Type of the restored frames: float32, or uint8 or uint16, rounded.

    Returns:
        Iterator over the restored frames, [s*H, s*W, C] with s =
        ``config.output_scale``. As float32 they are the network's output as it is; it
        may overshoot [0, 1] by a little.

    Raises:
        InputError: for an unknown padding or type, for tiles that are too small and,
            while iterating, for a frame whose shape or type does not fit; it names
            the frame's index.
        ResourceError: while iterating, if the memory does not even suffice for small
            tiles.
    """
    networks = create_networks(config, params, model)
    restorer = Restorer(
        networks,
        padding=padding,
        tile=tile,
        overlap=overlap,
        ensemble=ensemble,
        scene_cuts=scene_cuts,
    )
    return restorer(frames, only=only, dtype=dtype)


class Restorer:
    """Networks in a chain, ready for clips.

    Attributes:
        stages: One per network, with its plan once a frame was restored.
        num_passes: How often a frame goes through a network.
        on_tile: Called before each tile of each pass with its index and their number.
    """

    def __init__(
        self,
        networks: Sequence[CompiledNetwork],
        *,
        padding: str = "reflection_circle",
        tile: int | str | None = None,
        overlap: int | None = None,
        ensemble: bool = False,
        scene_cuts: bool = False,
        log: Callable[[str], Any] = lambda line: None,
    ):
        """Check the options; see :func:`restore_frames`.

        Raises:
            InputError: for an unknown padding, or tiles that are too small.
        """
        if padding not in PADDING_MODES:
            raise InputError(
                f"padding must be one of {', '.join(PADDING_MODES)}; got {padding!r}"
            )
        if not (tile in (None, "auto") or isinstance(tile, int)):
            raise InputError(f'tile must be a number of pixels or "auto", got {tile!r}')
        if overlap is not None and not (isinstance(overlap, int) and overlap >= 0):
            raise InputError(f"overlap must be 0 or more pixels, got {overlap!r}")
        self._padding = padding
        self._with_ensemble = ensemble
        self._with_scene_cuts = scene_cuts
        self._cancelled = threading.Event()
        self.on_tile: Callable[[int, int], Any] = lambda index, count: None
        self._num_channels = networks[0].config.in_channels
        devices = jax.local_devices() if tile is not None else jax.local_devices()[:1]
        self.num_passes = len(networks) * (len(_FLIPS) if ensemble else 1)
        self.networks = []
        least_tile, enlargement = 1, 1
        for network in networks:
            margin = _overlap(network.config, overlap, enlargement)
            least = tiles.least_tile(network.config, margin)
            least_tile = max(least_tile, -(-least // enlargement))
            if tile == "auto":
                planner = functools.partial(
                    tiles.fit_plan,
                    devices=devices,
                    overlap=margin,
                    num_streams=self.num_passes,
                )
            else:
                side = None if tile is None else int(tile) * enlargement
                planner = functools.partial(tiles.make_plan, tile=side, overlap=margin)
            self.networks.append(
                TiledNetwork(
                    network,
                    planner,
                    devices,
                    overlap=margin,
                    log=log,
                    cancelled=self._cancelled,
                    on_tile=lambda index, count: self.on_tile(index, count),
                )
            )
            enlargement *= network.config.output_scale
        if isinstance(tile, int) and tile < least_tile:
            raise InputError(
                f"tiles of {tile} pixels have nothing left between their margins; give "
                f"{least_tile} or more, or a smaller overlap"
            )

    @property
    def scale(self) -> int:
        """Size of the restored frames over that of the frames."""
        return int(np.prod([s.network.config.output_scale for s in self.networks]))

    @property
    def plans(self) -> list[dict[str, Any]]:
        """How frames go through each network, ready for JSON; after set_plans."""
        return [
            {
                "tile": max(stage.plan.tile_size)
                if len(stage.plan.tiles) > 1
                else None,
                "overlap": stage.overlap,
                "batch": stage.plan.batch,
                "keeps_features": stage.plan.keeps_features,
            }
            for stage in self.networks
            if stage.plan is not None
        ]

    def set_plans(
        self,
        frame_size: tuple[int, int],
        plans: Sequence[dict[str, Any]] | None,
        on_change: Callable[[], Any],
    ) -> None:
        """Make the plans before the first frame, or take those of an earlier job.

        Args:
            frame_size: Height and width of the clip.
            plans: Of :attr:`plans`, since other tiles change results by rounding; None
                makes new ones.
            on_change: Called when memory runs out and a plan becomes smaller.
        """
        height, width = frame_size
        for index, stage in enumerate(self.networks):
            stage.on_change = on_change
            if plans:
                stage.plan = tiles.make_plan(
                    stage.network.config, (height, width), **plans[index]
                )
            stage.plan_for((height, width))
            scale = stage.network.config.output_scale
            height, width = height * scale, width * scale

    def cancel(self) -> None:
        """End all iterations, by Cancelled before their next tile; from any thread."""
        self._cancelled.set()

    def __call__(
        self,
        frames: Iterable[ArrayLike],
        *,
        only: Container[int] | None = None,
        dtype: Any = np.float32,
    ) -> Iterator[np.ndarray]:
        """Restore the frames of a clip; see :func:`restore_frames`."""
        try:
            found = np.dtype(dtype)
        except TypeError:
            found = None
        if found is None or found.name not in _DTYPES:
            raise InputError(f"dtype must be one of {', '.join(_DTYPES)}; got {dtype}")
        return self._restore(frames, only, found)

    def _restore(
        self,
        frames: Iterable[ArrayLike],
        only: Container[int] | None,
        dtype: np.dtype,
    ) -> Iterator[np.ndarray]:
        checked = _check_frames(frames, self._num_channels)
        clips = scenes.split(checked) if self._with_scene_cuts else [checked]
        first = 0
        for clip in clips:
            counted = _Counted(clip)
            shifted = None if only is None else _Shifted(only, first)
            restored = self._restore_scene(counted, shifted, dtype)
            yield from (frame for frame in restored if frame is not None)
            first += counted.count

    def _restore_scene(
        self,
        frames: Iterable[np.ndarray | None],
        only: Container[int] | None,
        dtype: np.dtype,
    ) -> Iterator[np.ndarray | None]:
        *earlier, last = self.networks
        for index, stage in enumerate(earlier):
            later = self.networks[index + 1 :]
            reach = sum(s.network.config.num_frames * 2 for s in later)
            wanted = None if only is None else _Around(only, reach)
            restored = self._restore_by(stage, frames, wanted, np.dtype(np.float32))
            # The next network gets what an image file would hold, but for rounding.
            frames = (None if x is None else np.clip(x, 0, 1) for x in restored)
        return self._restore_by(last, frames, only, dtype)

    def _restore_by(
        self,
        stage: TiledNetwork,
        frames: Iterable[np.ndarray | None],
        only: Container[int] | None,
        dtype: np.dtype,
    ) -> Iterator[np.ndarray | None]:
        run = functools.partial(stage.restore, padding=self._padding, only=only)
        if not self._with_ensemble:
            return run(frames, dtype=dtype)
        copies = itertools.tee(frames, len(_FLIPS))
        members = [
            _flip(run(_flip(copy, axes)), axes)
            for copy, axes in zip(copies, _FLIPS, strict=True)
        ]
        return (_mean(flips, dtype) for flips in zip(*members, strict=True))


def _overlap(config: ModelConfig, overlap: int | None, enlargement: int) -> int:
    if overlap is not None:
        return overlap * enlargement
    return tiles.OVERLAP * (4 if config.hr_in else 1)


def _flip(
    frames: Iterable[np.ndarray | None], axes: tuple[int, ...]
) -> Iterator[np.ndarray | None]:
    return (None if frame is None else np.flip(frame, axes) for frame in frames)


def _mean(flips: Sequence[np.ndarray | None], dtype: np.dtype) -> np.ndarray | None:
    found = [image for image in flips if image is not None]
    if not found:
        return None
    return pixels.to_levels(sum(found) / np.float32(len(found)), dtype)


@dataclasses.dataclass
class _Counted:
    """Frames that are counted as they are drawn."""

    frames: Iterable[np.ndarray]
    count: int = 0

    def __iter__(self) -> Iterator[np.ndarray]:
        for frame in self.frames:
            self.count += 1
            yield frame


@dataclasses.dataclass(frozen=True)
class _Shifted:
    """Indices counted from a later frame."""

    indices: Container[int]
    first: int

    def __contains__(self, index: object) -> bool:
        return isinstance(index, int) and index + self.first in self.indices


@dataclasses.dataclass(frozen=True)
class _Around:
    """Indices near some others."""

    indices: Container[int]
    reach: int

    def __contains__(self, index: object) -> bool:
        return isinstance(index, int) and any(
            i in self.indices for i in range(index - self.reach, index + self.reach + 1)
        )


def _check_frames(
    frames: Iterable[ArrayLike], num_channels: int
) -> Iterator[np.ndarray]:
    first = None
    for index, frame in enumerate(frames):
        frame = np.asarray(frame)
        if frame.ndim != 3 or frame.shape[2] != num_channels or not frame.size:
            raise InputError(
                f"frame {index} has shape {frame.shape}; this network takes "
                f"[H, W, {num_channels}]"
            )
        shape, dtype = first = first or (frame.shape, frame.dtype)
        if frame.shape != shape:
            raise InputError(
                f"frame {index} has shape {frame.shape} but frame 0 has {shape}; all "
                "frames of a clip must have one size"
            )
        if frame.dtype != dtype:
            raise InputError(
                f"frame {index} is {frame.dtype} but frame 0 is {dtype}; all frames "
                "of a clip must have one type"
            )
        is_float = np.issubdtype(frame.dtype, np.floating)
        if not is_float and frame.dtype not in (np.uint8, np.uint16):
            raise InputError(
                f"frame {index} is {frame.dtype}; give uint8, uint16, or float in "
                "[0, 1]"
            )
        pixels.check_range(frame, f"frame {index}")
        # A copy: who gives the frames may use their memory again.
        yield np.array(frame, np.float32 if is_float else frame.dtype)
