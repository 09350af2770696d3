"""One network over the frames of a scene: windows, tiles, lack of memory.

Each frame is encoded once per tile (PreDeblur, feature extraction, pyramid), when a
window first needs it. Windows are aligned, fused and reconstructed from these features.
Memory does not grow with the number of frames, which need not be known.
"""

import collections
import contextlib
import dataclasses
import itertools
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from edvr_jax.config import ModelConfig
from edvr_jax.errors import ResourceError
from edvr_jax.media.read import pixels
from edvr_jax.restore import tiles
from edvr_jax.restore.compiled import CompiledNetwork, Pyramid
from edvr_jax.restore.tiles import Plan, Tile
from edvr_jax.restore.windows import iter_windows

_log = logging.getLogger(__name__)
_to_levels = jax.jit(pixels.to_levels, static_argnames="dtype")


class Cancelled(Exception):
    """The restoration ended because its observer was cancelled."""


@dataclasses.dataclass(frozen=True)
class Observer:
    """Follows a restoration, and can end it.

    Attributes:
        on_tile: Called before each tile with its index and the number of tiles.
        on_smaller_plan: Called when memory ran out and a plan became smaller.
        cancelled: Set it, from any thread, to end with :exc:`Cancelled` before the
            next tile.
    """

    on_tile: Callable[[int, int], object] = lambda index, count: None
    on_smaller_plan: Callable[[], object] = lambda: None
    cancelled: threading.Event = dataclasses.field(default_factory=threading.Event)

    def check(self) -> None:
        """Raise Cancelled if the restoration is to end."""
        if self.cancelled.is_set():
            raise Cancelled


class TiledNetwork:
    """A network with a plan for frames of one size.

    Attributes:
        network: The network.
        plan: How frames are processed; None before the first one. It becomes smaller
            when memory runs out.
        num_ahead: Tiles that are started before an earlier one is fetched.
    """

    def __init__(
        self,
        network: CompiledNetwork,
        planner: Callable[[ModelConfig, tuple[int, int]], Plan],
        devices: Sequence[Any],
    ):
        """Store the network; the planner makes a plan for a size of frames."""
        self.network = network
        self.plan: Plan | None = None
        # On a CPU, two tiles at once would take twice the memory and be no faster.
        self.num_ahead = 0 if devices[0].platform == "cpu" else 2 * len(devices)
        self._planner, self._devices = planner, devices

    def restore(
        self,
        frames: Iterable[np.ndarray | None],
        *,
        padding: str,
        is_wanted: Callable[[int], bool],
        dtype: np.dtype,
        observer: Observer,
    ) -> Iterator[np.ndarray | None]:
        """Restore the frames of one scene, in order.

        Args:
            frames: RGB frames of one size, [H, W, C], uint8, uint16 or float in
                [0, 1]; None for frames that no wanted frame's window contains.
            padding: One of ``windows.PADDING_MODES``, for both ends of the scene.
            is_wanted: From a frame's index to whether it is restored.
            dtype: Type of the restored frames: float32, or uint8 or uint16, rounded.
            observer: Follows the restoration.

        Yields:
            One item per frame: [s*H, s*W, C], or None if it is not wanted.

        Raises:
            Cancelled: if the observer was cancelled.
            ResourceError: if memory does not suffice even for the smallest tiles.
        """
        config = self.network.config
        windows = iter_windows(
            map(_Frame, frames),
            num_frames=config.num_frames,
            center=config.center,
            padding=padding,
        )
        wanted = (w if is_wanted(index) else None for index, w in enumerate(windows))
        run = _SceneRun(self, wanted, dtype, observer)
        try:
            while True:
                try:
                    yield from run.restore()
                    return
                except _OutOfMemory as error:
                    self._shrink(error)
                    observer.on_smaller_plan()
        finally:
            run.wait()

    def plan_for(self, frame_size: tuple[int, int]) -> Plan:
        """Return the plan for frames of a size; a new one if the size is new."""
        if self.plan is None or self.plan.frame_size != frame_size:
            self.plan = self._planner(self.network.config, frame_size)
        return self.plan

    def device(self, tile: int) -> Any:
        """Return the device that computes a tile."""
        return self._devices[tile % len(self._devices)]

    def _shrink(self, error: Exception) -> None:
        assert self.plan is not None
        plan = tiles.shrink(self.network.config, self.plan)
        height, width = self.plan.tile_size if plan is None else plan.tile_size
        if plan is None:
            raise ResourceError(
                f"out of memory even with tiles of {width}x{height}; close other "
                "programs, or use a smaller network or smaller frames"
            ) from error
        self.plan = plan
        _log.warning(
            "out of memory; continuing with tiles of %dx%d, batches of %d and features "
            "%s for each window",
            *(width, height, plan.batch),
            "kept" if plan.keeps_features else "computed again",
        )


class _OutOfMemory(Exception):
    pass


@contextlib.contextmanager
def _detect_out_of_memory() -> Iterator[None]:
    """Raise _OutOfMemory if the host's or a device's memory does not suffice."""
    try:
        yield
    except MemoryError as error:
        raise _OutOfMemory from error
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" in str(error):
            raise _OutOfMemory from error
        raise


class _Frame:
    """A frame of a window, and the features of its tiles computed so far."""

    def __init__(self, image: np.ndarray | None):
        self.image = image
        self._padded: np.ndarray | None = None
        self._plan: Plan | None = None
        self._pyramids: dict[int, Pyramid] = {}

    def pyramids(self, plan: Plan) -> dict[int, Pyramid]:
        """Return the features under a plan, by the index of the tile."""
        if self._plan is not plan:
            self._plan, self._pyramids = plan, {}
        return self._pyramids

    def cut(self, plan: Plan, tile: Tile, multiple: int) -> np.ndarray:
        """Return a tile of the frame padded to whole multiples, [h, w, C]."""
        if self._padded is None:
            assert self.image is not None
            self._padded = pad_to_multiple(self.image, multiple)
        (y, x), (height, width) = tile.start, plan.tile_size
        return self._padded[y : y + height, x : x + width]


def pad_to_multiple(image: np.ndarray, multiple: int) -> np.ndarray:
    """Pad a frame [H, W, C] below and at the right to multiples of a number."""
    for axis in (0, 1):
        size = image.shape[axis]
        if pad := -size % multiple:
            widths = [(0, 0)] * 3
            widths[axis] = (0, pad)
            # Reflection is the better guess, but needs more pixels than it adds.
            image = np.pad(image, widths, mode="reflect" if pad < size else "edge")
    return image


_Window = list[_Frame]


@dataclasses.dataclass
class _Batch:
    """Windows that are computed together, and their restored frames.

    Attributes:
        windows: The windows; None for frames that are not wanted.
        outputs: Restored frames of the others, filled tile by tile.
    """

    windows: list[_Window | None]
    outputs: list[np.ndarray] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class _TileTask:
    """A tile of a batch that a device computes; None if the batch needs no tile."""

    batch: _Batch
    is_last: bool
    tile: Tile | None = None
    restored: jax.Array | None = None


class _SceneRun:
    """The windows of a scene on their way through a network.

    A tile is fetched some tasks after it was started, so that devices compute while the
    host copies and the caller uses earlier frames.
    """

    def __init__(
        self,
        tiled: TiledNetwork,
        windows: Iterator[_Window | None],
        dtype: np.dtype,
        observer: Observer,
    ):
        self._tiled, self._network = tiled, tiled.network
        self._windows, self._dtype, self._observer = windows, dtype, observer
        self._latest: Any = None
        self._unfinished: collections.deque[_Batch] = collections.deque()
        self._tasks: collections.deque[_TileTask] = collections.deque()

    def restore(self) -> Iterator[np.ndarray | None]:
        """Yield the restored frames; after _OutOfMemory, call it again to continue."""
        again = [window for batch in self._unfinished for window in batch.windows]
        self._windows = itertools.chain(again, self._windows)
        self._unfinished.clear()
        self._tasks.clear()
        self._latest = None
        while batch := self._next_batch():
            self._unfinished.append(batch)
            for task in self._start(batch):
                self._tasks.append(task)
                while len(self._tasks) > self._tiled.num_ahead:
                    yield from self._finish(self._tasks.popleft())
        while self._tasks:
            yield from self._finish(self._tasks.popleft())

    def wait(self) -> None:
        """Wait for the devices, which read the frames' memory.

        At exit Python frees that memory, and a computation that still runs crashes.
        """
        # Nobody uses these results, so their failures do not matter.
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            results = [task.restored for task in self._tasks]
            jax.block_until_ready([self._latest, *results])

    def _next_batch(self) -> _Batch | None:
        windows, plan = [], self._tiled.plan
        for window in self._windows:
            windows.append(window)
            if window is not None:
                image = window[self._network.config.center].image
                assert image is not None
                plan = self._tiled.plan_for(image.shape[:2])
            if len(windows) >= (plan.batch if plan else 1):
                break
        return _Batch(windows) if windows else None

    def _start(self, batch: _Batch) -> Iterator[_TileTask]:
        windows = [window for window in batch.windows if window is not None]
        if not windows:
            self._observer.check()
            yield _TileTask(batch, is_last=True)
            return
        plan, config = self._tiled.plan, self._network.config
        assert plan is not None
        height, width = (config.output_scale * side for side in plan.frame_size)
        shape = height, width, config.out_channels
        with _detect_out_of_memory():
            batch.outputs = [np.empty(shape, self._dtype) for _ in windows]
        # Programs are compiled for whole batches.
        windows += windows[-1:] * (plan.batch - len(windows))
        for index, tile in enumerate(plan.tiles):
            self._observer.check()
            self._observer.on_tile(index, len(plan.tiles))
            with _detect_out_of_memory():
                restored = self._restore_tile(plan, index, windows)
            yield _TileTask(batch, tile is plan.tiles[-1], tile, restored)

    def _restore_tile(
        self, plan: Plan, index: int, windows: Sequence[_Window]
    ) -> jax.Array:
        config, device = self._network.config, self._tiled.device(index)
        params, tile = self._network.params_on(device), plan.tiles[index]

        def cut(frames: Sequence[_Frame]) -> jax.Array:
            images = [frame.cut(plan, tile, config.size_multiple) for frame in frames]
            return jax.device_put(pixels.to_float(np.stack(images)), device)

        frames = dict.fromkeys(frame for window in windows for frame in window)
        new = [frame for frame in frames if index not in frame.pyramids(plan)]
        for i in range(0, len(new), plan.batch):
            part = new[i : i + plan.batch]
            full = part + part[-1:] * (plan.batch - len(part))
            pyramids = self._latest = self._network.encode(params, cut(full))
            for frame, pyramid in zip(part, pyramids, strict=False):
                frame.pyramids(plan)[index] = pyramid
        features = tuple(
            tuple(frame.pyramids(plan)[index] for frame in window) for window in windows
        )
        if not plan.keeps_features:
            for frame in frames:
                del frame.pyramids(plan)[index]
        centers = cut([window[config.center] for window in windows])
        restored = self._network.reconstruct(params, features, centers)
        is_float = np.issubdtype(self._dtype, np.floating)
        return restored if is_float else _to_levels(restored, self._dtype)

    def _finish(self, task: _TileTask) -> Iterator[np.ndarray | None]:
        if task.tile is not None:
            scale = self._network.config.output_scale
            inner, outer = (
                tuple(slice(first * scale, last * scale) for first, last in spans)
                for spans in (task.tile.inner, task.tile.outer)
            )
            with _detect_out_of_memory():
                restored = np.asarray(task.restored)
            for output, image in zip(task.batch.outputs, restored, strict=False):
                output[outer] = image[inner]
        if task.is_last:
            self._unfinished.popleft()
            outputs = iter(task.batch.outputs)
            for window in task.batch.windows:
                yield None if window is None else next(outputs)
