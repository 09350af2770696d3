"""Restore a clip frame by frame: scenes, chains of networks, self-ensembles.

Each scene is a separate clip, so that no window reaches across a cut. In a scene the
networks form a chain of streams: each one processes the restored frames of the one
before, padded at the ends of the scene like any other clip.
"""

import dataclasses
import functools
import itertools
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
from edvr_jax.restore.tiled_network import Observer, TiledNetwork
from edvr_jax.restore.windows import PADDING_MODES

# Axes of [H, W, C] that each member of the self-ensemble flips.
_FLIPS = ((), (1,), (0,), (0, 1))
_DTYPES = ("float32", "uint8", "uint16")

_Frames = Iterator[np.ndarray | None]


@dataclasses.dataclass(frozen=True)
class RestoreOptions:
    """How frames are restored.

    Attributes:
        padding: Frames that stand in for those beyond the ends of a clip; one of
            ``edvr_jax.restore.windows.PADDING_MODES``.
        tile: Side in pixels of the tiles that large frames are divided into, margins
            included; several devices share the tiles. "auto" is as large as the free
            memory of the devices allows, None is the whole frame on one device.
        overlap: Margin of a tile in pixels; None is one that leaves no visible seams.
        ensemble: Restore every frame also flipped and average (the four flips of the
            reference), in four times the time.
        scene_cuts: Detect cuts and restore each scene as a separate clip.

    Raises:
        InputError: for a value outside its range.
    """

    padding: str = "reflection_circle"
    tile: int | str | None = None
    overlap: int | None = None
    ensemble: bool = False
    scene_cuts: bool = False

    def __post_init__(self):
        """Check the values."""
        if self.padding not in PADDING_MODES:
            names = ", ".join(PADDING_MODES)
            raise InputError(f"padding must be one of {names}; got {self.padding!r}")
        if not (self.tile in (None, "auto") or isinstance(self.tile, int)):
            raise InputError(
                f'tile must be a number of pixels or "auto", got {self.tile!r}'
            )
        overlap = self.overlap
        if overlap is not None and not (isinstance(overlap, int) and overlap >= 0):
            raise InputError(f"overlap must be 0 or more pixels, got {overlap!r}")


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
    """Restore the frames of one clip, in order, one output per input.

    Args:
        config: Architecture of the network, or of the two of a cascade.
        params: Its parameters.
        frames: RGB frames of one size, [H, W, C], uint8, uint16 or float in [0, 1];
            any size.
        padding: See :class:`RestoreOptions`.
        model: The module to apply if it is not ``create_model(config)``: one with a
            part replaced, or any module from windows to restored frames. If it has
            the methods ``encode`` and ``reconstruct`` of
            :class:`edvr_jax.models.EDVR`, each frame is encoded once.
        only: Indices of the frames to restore; None is all of them.
        tile: See :class:`RestoreOptions`.
        overlap: See :class:`RestoreOptions`.
        ensemble: See :class:`RestoreOptions`.
        scene_cuts: See :class:`RestoreOptions`.
        dtype: Type of the restored frames: float32, or uint8 or uint16, rounded.

    Returns:
        Iterator over the restored frames, [s*H, s*W, C] with s =
        ``config.output_scale``. In float32 they are the network's unclipped output,
        which may overshoot [0, 1] by a little.

    Raises:
        InputError: for an unknown padding or type, for tiles that are too small and,
            while iterating, for a frame whose shape or type does not fit; it names
            the frame's index.
        ResourceError: while iterating, if memory does not suffice even for the
            smallest tiles.
    """
    options = RestoreOptions(padding, tile, overlap, ensemble, scene_cuts)
    restorer = Restorer(create_networks(config, params, model), options)
    return restorer(frames, only=only, dtype=dtype)


class Restorer:
    """Networks in a chain, ready for clips.

    Attributes:
        options: How frames are restored.
        networks: The networks, each with its plan.
        num_passes: How often a frame passes through a network.
    """

    def __init__(
        self, networks: Sequence[CompiledNetwork], options: RestoreOptions | None = None
    ):
        """Prepare the networks; without options, use the defaults.

        Raises:
            InputError: if tiles are smaller than their margins.
        """
        self.options = options = options or RestoreOptions()
        self.num_passes = len(networks) * (len(_FLIPS) if options.ensemble else 1)
        devices = jax.local_devices()
        if options.tile is None:
            devices = devices[:1]
        self.networks: list[TiledNetwork] = []
        least_tile, scale = 1, 1
        for network in networks:
            overlap = _overlap(network.config, options.overlap, scale)
            least = tiles.least_tile(network.config, overlap)
            least_tile = max(least_tile, -(-least // scale))
            if options.tile == "auto":
                planner = functools.partial(
                    tiles.fit_plan,
                    devices=devices,
                    overlap=overlap,
                    num_streams=self.num_passes,
                )
            else:
                side = None if options.tile is None else int(options.tile) * scale
                planner = functools.partial(tiles.make_plan, tile=side, overlap=overlap)
            self.networks.append(TiledNetwork(network, planner, devices))
            scale *= network.config.output_scale
        self.scale = scale
        if isinstance(options.tile, int) and options.tile < least_tile:
            raise InputError(
                f"tiles of {options.tile} pixels have nothing left between their "
                f"margins; give {least_tile} or more, or a smaller overlap"
            )

    @property
    def reach(self) -> int:
        """Number of frames before one that matter to it: windows, and finding cuts."""
        windows = sum(2 * tiled.network.config.num_frames for tiled in self.networks)
        return windows + scenes.REACH + 1

    @property
    def plans(self) -> list[dict[str, Any]]:
        """The plan of each network, ready for JSON; see :meth:`set_plans`."""
        plans = [tiled.plan for tiled in self.networks]
        return [plan.to_dict() for plan in plans if plan is not None]

    def set_plans(
        self, frame_size: tuple[int, int], plans: Sequence[dict[str, Any]] = ()
    ) -> None:
        """Make the plans before the first frame, or restore those of an earlier job.

        Other tiles change results by rounding.

        Args:
            frame_size: Height and width of the clip.
            plans: As :attr:`plans` returned them; none makes new ones.
        """
        height, width = frame_size
        for tiled, plan in itertools.zip_longest(self.networks, plans):
            config = tiled.network.config
            if plan:
                tiled.plan = tiles.make_plan(config, (height, width), **plan)
            tiled.plan_for((height, width))
            height, width = height * config.output_scale, width * config.output_scale

    def __call__(
        self,
        frames: Iterable[ArrayLike],
        *,
        only: Container[int] | None = None,
        dtype: Any = np.float32,
        observer: Observer | None = None,
    ) -> Iterator[np.ndarray]:
        """Restore the frames of a clip; see :func:`restore_frames`.

        Raises:
            Cancelled: while iterating, if the observer was cancelled.
        """
        try:
            found = np.dtype(dtype)
        except TypeError:
            found = None
        if found is None or found.name not in _DTYPES:
            raise InputError(f"dtype must be one of {', '.join(_DTYPES)}; got {dtype}")
        return self._restore(frames, only, found, observer or Observer())

    def _restore(
        self,
        frames: Iterable[ArrayLike],
        only: Container[int] | None,
        dtype: np.dtype,
        observer: Observer,
    ) -> Iterator[np.ndarray]:
        checked = _check_frames(frames, self.networks[0].network.config.in_channels)
        clips = scenes.split(checked) if self.options.scene_cuts else [checked]
        num_done = 0
        for clip in clips:

            def is_wanted(index: int, first: int = num_done) -> bool:
                return only is None or first + index in only

            for frame in self._restore_scene(clip, is_wanted, dtype, observer):
                num_done += 1
                if frame is not None:
                    yield frame

    def _restore_scene(
        self,
        frames: _Frames,
        is_wanted: Callable[[int], bool],
        dtype: np.dtype,
        observer: Observer,
    ) -> _Frames:
        for index, tiled in enumerate(self.networks):
            later = self.networks[index + 1 :]
            reach = sum(2 * other.network.config.num_frames for other in later)
            run = functools.partial(
                tiled.restore,
                padding=self.options.padding,
                is_wanted=functools.partial(_is_near, is_wanted, reach),
                observer=observer,
            )
            frames = self._run(run, frames, np.dtype(np.float32) if later else dtype)
            if later:  # which read what an image file would hold, but for rounding
                frames = (None if x is None else np.clip(x, 0, 1) for x in frames)
        return frames

    def _run(
        self, run: Callable[..., _Frames], frames: _Frames, dtype: np.dtype
    ) -> _Frames:
        if not self.options.ensemble:
            return run(frames, dtype=dtype)
        copies = itertools.tee(frames, len(_FLIPS))
        members = [
            _flip(run(_flip(copy, axes), dtype=np.dtype(np.float32)), axes)
            for copy, axes in zip(copies, _FLIPS, strict=True)
        ]
        return (_mean(flips, dtype) for flips in zip(*members, strict=True))


def _overlap(config: ModelConfig, overlap: int | None, scale: int) -> int:
    if overlap is not None:
        return overlap * scale
    return tiles.OVERLAP * (4 if config.hr_in else 1)


def _is_near(is_wanted: Callable[[int], bool], reach: int, index: int) -> bool:
    return any(map(is_wanted, range(index - reach, index + reach + 1)))


def _flip(frames: Iterable[np.ndarray | None], axes: tuple[int, ...]) -> _Frames:
    return (None if frame is None else np.flip(frame, axes) for frame in frames)


def _mean(flips: Sequence[np.ndarray | None], dtype: np.dtype) -> np.ndarray | None:
    found = [image for image in flips if image is not None]
    if not found:
        return None
    return pixels.to_levels(sum(found) / np.float32(len(found)), dtype)


def _check_frames(
    frames: Iterable[ArrayLike], num_channels: int
) -> Iterator[np.ndarray]:
    first = None
    for index, frame in enumerate(frames):
        frame = np.asarray(frame)
        found = f"frame {index} is {frame.dtype} of shape {frame.shape}"
        is_float = np.issubdtype(frame.dtype, np.floating)
        is_image = frame.ndim == 3 and frame.shape[2] == num_channels and frame.size
        if not (is_image and (is_float or frame.dtype in (np.uint8, np.uint16))):
            raise InputError(
                f"{found}; this network takes [H, W, {num_channels}], uint8, uint16 or "
                "float in [0, 1]"
            )
        first = first or (frame.dtype, frame.shape)
        if (frame.dtype, frame.shape) != first:
            raise InputError(
                f"{found} but frame 0 is {first[0]} of shape {first[1]}; all frames of "
                "a clip must have one size and type"
            )
        pixels.check_range(frame, f"frame {index}")
        # A copy: the caller may use the frame's memory again.
        yield np.array(frame, np.float32 if is_float else frame.dtype)
