"""Restore a clip frame by frame: scenes, networks one after the other, ensembles.

Each scene is a clip of its own, so that no window reaches across a cut. Within it the
networks form a chain of streams: each sees the restored frames of the one before,
padded at the ends of the scene like any other clip.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from edvr_jax.config import CascadeConfig, ModelConfig
from edvr_jax.data import scenes
from edvr_jax.data.windows import PADDING_MODES
from edvr_jax.errors import InputError
from edvr_jax.restore import tiles
from edvr_jax.restore.network import Network, create_networks, to_levels
from edvr_jax.restore.stage import Planner, Stage

# Axes of [H, W, C] that each member of the self-ensemble flips.
_FLIPS = ((), (1,), (0,), (0, 1))


def restore_frames(
    config: ModelConfig | CascadeConfig,
    params: Any,
    frames: Iterable[np.ndarray],
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
            ``edvr_jax.data.windows.PADDING_MODES``.
        model: The module to apply if it is not ``create_model(config)``, for one
            with a part replaced.
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
        InputError: for an unknown padding, for tiles that are too small and, while
            iterating, for a frame whose shape or type does not fit; it names the
            frame's index.
    """
    networks = create_networks(config, params, model)
    restorer = Restorer(
        networks,
        padding=padding,
        tile=tile,
        overlap=overlap,
        ensemble=ensemble,
        scene_cuts=scene_cuts,
        dtype=dtype,
    )
    return restorer(frames, only=only)


class Restorer:
    """Networks in a chain, ready for clips.

    Attributes:
        stages: One per network, with its plan once a frame was restored.
        dtype: Type of the restored frames.
    """

    def __init__(
        self,
        networks: Sequence[Network],
        *,
        padding: str = "reflection_circle",
        tile: int | str | None = None,
        overlap: int | None = None,
        ensemble: bool = False,
        scene_cuts: bool = False,
        dtype: Any = np.float32,
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
        if isinstance(tile, str) and tile != "auto":
            raise InputError(f'tile must be a number of pixels or "auto", got {tile!r}')
        self._padding = padding
        self._with_ensemble = ensemble
        self._with_scene_cuts = scene_cuts
        self.dtype = np.dtype(dtype)
        self._num_channels = networks[0].config.in_channels
        devices = jax.local_devices() if tile is not None else jax.local_devices()[:1]
        self.stages = []
        enlargement = 1
        for network in networks:
            margin = _overlap(network.config, overlap, enlargement)
            if isinstance(tile, int):
                tiles.check_tile(tile * enlargement, margin)
            self.stages.append(
                Stage(
                    network,
                    _planner(tile, margin, devices, enlargement),
                    devices,
                    overlap=margin,
                    log=log,
                )
            )
            enlargement *= network.config.output_scale

    @property
    def scale(self) -> int:
        """Size of the restored frames over that of the frames."""
        return int(np.prod([s.network.config.output_scale for s in self.stages]))

    @property
    def plans(self) -> list[dict[str, Any]]:
        """How frames go through each network, ready for JSON; after set_plans."""
        return [
            {
                "tile": max(stage.plan.tile_size),
                "overlap": stage.overlap,
                "batch": stage.plan.batch,
                "keeps_features": stage.plan.keeps_features,
            }
            for stage in self.stages
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
        for index, stage in enumerate(self.stages):
            stage.on_change = on_change
            if plans:
                stage.plan = tiles.make_plan(
                    stage.network.config, (height, width), **plans[index]
                )
            stage.plan_for((height, width))
            scale = stage.network.config.output_scale
            height, width = height * scale, width * scale

    def __call__(
        self, frames: Iterable[np.ndarray], *, only: Container[int] | None = None
    ) -> Iterator[np.ndarray]:
        """Restore the frames of a clip; see :func:`restore_frames`."""
        frames = _check_frames(frames, self._num_channels)
        clips = scenes.split(frames) if self._with_scene_cuts else [frames]
        first = 0
        for clip in clips:
            counted = _Counted(clip)
            shifted = None if only is None else _Shifted(only, first)
            restored = self._restore_scene(counted, shifted)
            yield from (frame for frame in restored if frame is not None)
            first += counted.count

    def _restore_scene(
        self, frames: Iterable[np.ndarray | None], only: Container[int] | None
    ) -> Iterator[np.ndarray | None]:
        for index, stage in enumerate(self.stages):
            is_last = index == len(self.stages) - 1
            wanted = only
            if not is_last and only is not None:
                later = self.stages[index + 1 :]
                reach = sum(s.network.config.num_frames * 2 for s in later)
                wanted = _Around(only, reach)
            frames = self._restore_by(stage, frames, wanted, is_last=is_last)
        return iter(frames)

    def _restore_by(
        self,
        stage: Stage,
        frames: Iterable[np.ndarray | None],
        only: Container[int] | None,
        *,
        is_last: bool,
    ) -> Iterator[np.ndarray | None]:
        run = functools.partial(stage.restore, padding=self._padding, only=only)
        dtype = self.dtype if is_last else np.dtype(np.float32)
        if not self._with_ensemble:
            restored = run(frames, dtype=dtype)
        else:
            members = [
                _flip(run(_flip(copy, axes)), axes)
                for copy, axes in zip(
                    itertools.tee(frames, len(_FLIPS)), _FLIPS, strict=True
                )
            ]
            restored = (_mean(images, dtype) for images in zip(*members, strict=True))
        if is_last:
            return restored
        # The next network gets what an image file would hold, but for the rounding.
        return (None if frame is None else np.clip(frame, 0, 1) for frame in restored)


def _overlap(config: ModelConfig, overlap: int | None, enlargement: int) -> int:
    if overlap is not None:
        return overlap * enlargement
    return tiles.OVERLAP * (4 if config.hr_in else 1)


def _planner(
    tile: int | str | None,
    overlap: int,
    devices: Sequence[Any],
    enlargement: int,
) -> Planner:
    if tile == "auto":
        return functools.partial(tiles.fit_plan, devices=devices, overlap=overlap)
    side = None if tile is None else int(tile) * enlargement
    return functools.partial(tiles.make_plan, tile=side, overlap=overlap)


def _flip(
    frames: Iterable[np.ndarray | None], axes: tuple[int, ...]
) -> Iterator[np.ndarray | None]:
    return (None if frame is None else np.flip(frame, axes) for frame in frames)


def _mean(images: Sequence[np.ndarray | None], dtype: np.dtype) -> np.ndarray | None:
    found = [image for image in images if image is not None]
    if not found:
        return None
    return np.asarray(to_levels(sum(found) / np.float32(len(found)), dtype))


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
    frames: Iterable[np.ndarray], num_channels: int
) -> Iterator[np.ndarray]:
    first_shape = None
    for index, frame in enumerate(frames):
        frame = np.asarray(frame)
        if frame.ndim != 3 or frame.shape[2] != num_channels or not frame.size:
            raise InputError(
                f"frame {index} has shape {frame.shape}; this network takes "
                f"[H, W, {num_channels}]"
            )
        first_shape = first_shape or frame.shape
        if frame.shape != first_shape:
            raise InputError(
                f"frame {index} has shape {frame.shape} but frame 0 has "
                f"{first_shape}; all frames of a clip must have one size"
            )
        is_float = np.issubdtype(frame.dtype, np.floating)
        if not is_float and frame.dtype not in (np.uint8, np.uint16):
            raise InputError(
                f"frame {index} is {frame.dtype}; give uint8, uint16, or float in "
                "[0, 1]"
            )
        yield frame.astype(np.float32) if is_float else frame
