"""One network over the frames of a scene: a ring of features, tiles, little memory.

Each frame is encoded once per tile (PreDeblur, feature extraction, pyramid), when a
window first needs it; windows are aligned, fused and reconstructed from the features in
the ring. Memory does not grow with the number of frames, which need not be known.
"""

import collections
import contextlib
import dataclasses
import itertools
import threading
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
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

_to_levels = jax.jit(pixels.to_levels, static_argnames="dtype")

# Called with the configuration and the frames' size.
Planner = Callable[[ModelConfig, tuple[int, int]], Plan]


class TiledNetwork:
    """A network with a plan for frames of one size.

    Attributes:
        network: The network.
        overlap: Pixels around the kept part of a tile.
        cancelled: Set to end with :exc:`Cancelled` before the next tile.
        plan: How frames go through the network; None before the first frame. It
            becomes smaller when memory runs out.
        on_change: Called after that.
        on_tile: Called before each tile with its index and their number.
    """

    def __init__(
        self,
        network: CompiledNetwork,
        planner: Planner,
        devices: Sequence[Any],
        *,
        overlap: int,
        log: Callable[[str], Any],
        cancelled: threading.Event,
        on_tile: Callable[[int, int], Any],
    ):
        self.network = network
        self.overlap = overlap
        self.cancelled = cancelled
        self.plan: Plan | None = None
        self.on_change: Callable[[], Any] = lambda: None
        self._planner = planner
        self._devices = devices
        self._log = log
        self.on_tile = on_tile

    def restore(
        self,
        frames: Iterable[np.ndarray | None],
        *,
        padding: str,
        only: Container[int] | None = None,
        dtype: Any = np.float32,
    ) -> Iterator[np.ndarray | None]:
        """Restore the frames of one scene, in order.

        Args:
            frames: RGB frames of one size, [H, W, C], uint8, uint16 or float in
                [0, 1]; None for frames that no window of ``only`` needs.
            padding: What stands in for frames beyond the ends.
            only: Indices of the frames to restore; None is all of them.
            dtype: Type of the restored frames: float32, or uint8 or uint16, rounded.

        Yields:
            One item per frame: [s*H, s*W, C], or None for one that is not restored.

        Raises:
            Cancelled: if that is asked for.
            ResourceError: if the memory does not even suffice for small tiles.
        """
        windows = iter_windows(
            map(_Frame, frames),
            num_frames=self.network.config.num_frames,
            center=self.network.config.center,
            padding=padding,
        )
        run = _SceneRun(self, windows, only, np.dtype(dtype))
        try:
            while True:
                try:
                    yield from run.run()
                    return
                except _OutOfMemory as error:
                    self._shrink(error)
        finally:
            run.wait()

    def plan_for(self, frame_size: tuple[int, int]) -> Plan:
        """Return the plan for frames of a size; a new one if the size is new."""
        if self.plan is None or self.plan.frame_size != frame_size:
            self.plan = self._planner(self.network.config, frame_size)
        return self.plan

    @property
    def num_devices(self) -> int:
        """Devices that share the tiles."""
        return len(self._devices)

    @property
    def is_on_cpu(self) -> bool:
        """The devices are processors."""
        return self._devices[0].platform == "cpu"

    def device(self, tile: int) -> Any:
        """Return the device of a tile."""
        return self._devices[tile % len(self._devices)]

    def _shrink(self, error: Exception) -> None:
        before = self.plan
        assert before is not None
        plan = tiles.shrink(self.network.config, before, overlap=self.overlap)
        if plan is None:
            height, width = before.tile_size
            raise ResourceError(
                f"out of memory even with tiles of {width}x{height}; close other "
                "programs, or use a smaller network or smaller frames"
            ) from error
        self.plan = plan
        self.on_change()
        self._log(f"out of memory; going on with {_change(before, plan)}")


def _change(before: Plan, after: Plan) -> str:
    if before.batch != after.batch:
        return "one window at a time"
    if before.keeps_features != after.keeps_features:
        return "features computed again for each window"
    height, width = after.tile_size
    return f"tiles of {width}x{height}"


class Cancelled(Exception):
    """The stream was asked to end."""


class _OutOfMemory(Exception):
    pass


@contextlib.contextmanager
def _noticing_lack_of_memory() -> Iterator[None]:
    """Tell lack of memory on the host or a device from all other failures."""
    try:
        yield
    except MemoryError as error:
        raise _OutOfMemory from error
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" in str(error):
            raise _OutOfMemory from error
        raise


class _Frame:
    """A frame in the ring, and the features of its tiles that were needed so far."""

    def __init__(self, image: np.ndarray | None):
        self.image = image
        self._padded: np.ndarray | None = None
        self._plan: Plan | None = None
        self._pyramids: dict[int, Pyramid] = {}

    def pyramids(self, plan: Plan) -> dict[int, Pyramid]:
        """Return the features under a plan, by tile."""
        if self._plan is not plan:
            self._plan, self._pyramids = plan, {}
        return self._pyramids

    def cut(self, plan: Plan, tile: Tile, multiple: int) -> np.ndarray:
        """Return a tile of the frame padded to whole multiples, [h, w, C]."""
        if self._padded is None:
            assert self.image is not None
            self._padded = _pad(self.image, multiple)
        (y, x), (height, width) = tile.start, plan.tile_size
        return self._padded[y : y + height, x : x + width]


def _pad(image: np.ndarray, multiple: int) -> np.ndarray:
    for axis in (0, 1):
        size = image.shape[axis]
        if pad := -size % multiple:
            widths = [(0, 0)] * 3
            widths[axis] = (0, pad)
            # A mirror is the better guess, but needs more pixels than it makes.
            image = np.pad(image, widths, mode="reflect" if pad < size else "edge")
    return image


@dataclasses.dataclass
class _Batch:
    """Windows that are computed together, and their restored frames.

    Attributes:
        windows: The windows; None for frames that are not restored.
        plan: The plan under which they are computed now.
        outputs: Their frames, so far.
        num_missing: Tiles that are not there yet.
    """

    windows: list[list[_Frame] | None]
    plan: Plan | None = None
    outputs: list[np.ndarray] | None = None
    num_missing: int = 0


@dataclasses.dataclass
class _TileTask:
    """A tile of a batch that a device works on; no tile for a batch of no windows."""

    batch: _Batch
    tile: Tile | None = None
    restored: jax.Array | None = None


class _SceneRun:
    """The way of a scene's windows through a network.

    Tiles are fetched some jobs after they were started, so that a device works while
    the host copies and the caller uses the frames before.
    """

    def __init__(
        self,
        stage: TiledNetwork,
        windows: Iterator[list[_Frame]],
        only: Container[int] | None,
        dtype: np.dtype,
    ):
        self._stage, self._network, self._dtype = stage, stage.network, dtype
        self._windows: Iterator[list[_Frame] | None] = (
            window if only is None or index in only else None
            for index, window in enumerate(windows)
        )
        self._latest: Any = None
        self._unfinished: collections.deque[_Batch] = collections.deque()
        self._jobs: collections.deque[_TileTask] = collections.deque()

    def run(self) -> Iterator[np.ndarray | None]:
        """Yield the restored frames; call it again after _OutOfMemory, to go on."""
        self._jobs.clear()
        self._latest = None
        again = [window for batch in self._unfinished for window in batch.windows]
        self._unfinished.clear()
        self._windows = itertools.chain(again, self._windows)
        while batch := self._next_batch():
            self._unfinished.append(batch)
            for job in self._start(batch):
                self._jobs.append(job)
                while len(self._jobs) > self._num_ahead():
                    yield from self._finish(self._jobs.popleft())
        while self._jobs:
            yield from self._finish(self._jobs.popleft())

    def wait(self) -> None:
        """Wait for the devices.

        What still runs reads the frames' memory, which Python frees at its exit:
        without waiting, Ctrl-C ends in a crash.
        """
        # A failure of what nobody asks for any more does not matter.
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            jax.block_until_ready([self._latest, *(job.restored for job in self._jobs)])

    def _num_ahead(self) -> int:
        # On CPU two tiles at once would take twice the memory and be no faster.
        return 0 if self._stage.is_on_cpu else 2 * self._stage.num_devices

    def _next_batch(self) -> _Batch | None:
        windows: list[list[_Frame] | None] = []
        for window in self._windows:
            windows.append(window)
            if len(windows) >= self._batch_size(window):
                break
        return _Batch(windows) if windows else None

    def _batch_size(self, window: list[_Frame] | None) -> int:
        if window is None:
            return self._stage.plan.batch if self._stage.plan else 1
        image = window[self._network.config.center].image
        assert image is not None
        return self._stage.plan_for(image.shape[:2]).batch

    def _start(self, batch: _Batch) -> Iterator[_TileTask]:
        windows = [window for window in batch.windows if window is not None]
        if not windows:
            self._check_wanted()
            yield _TileTask(batch)
            return
        plan = self._stage.plan
        assert plan is not None
        batch.plan, batch.outputs, batch.num_missing = plan, None, len(plan.tiles)
        # Programs are compiled for whole batches.
        windows += windows[-1:] * (plan.batch - len(windows))
        for index, tile in enumerate(plan.tiles):
            self._check_wanted()
            self._stage.on_tile(index, len(plan.tiles))
            with _noticing_lack_of_memory():
                restored = self._restore_tile(plan, index, windows)
            yield _TileTask(batch, tile, restored)

    def _check_wanted(self) -> None:
        if self._stage.cancelled.is_set():
            raise Cancelled

    def _restore_tile(
        self, plan: Plan, index: int, windows: list[list[_Frame]]
    ) -> jax.Array:
        config, device = self._network.config, self._stage.device(index)
        params, tile = self._network.params_on(device), plan.tiles[index]

        def cut(frames):
            images = [frame.cut(plan, tile, config.size_multiple) for frame in frames]
            return jax.device_put(pixels.to_float(np.stack(images)), device)

        new = [
            frame
            for frame in dict.fromkeys(frame for window in windows for frame in window)
            if index not in frame.pyramids(plan)
        ]
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
            for frame in (frame for window in windows for frame in window):
                frame.pyramids(plan).pop(index, None)
        centers = cut([window[config.center] for window in windows])
        restored = self._network.reconstruct(params, features, centers)
        return _to_levels(restored, self._dtype)

    def _finish(self, job: _TileTask) -> Iterator[np.ndarray | None]:
        batch = job.batch
        if job.tile is not None:
            with _noticing_lack_of_memory():
                self._paste(batch, job.tile, np.asarray(job.restored))
            batch.num_missing -= 1
            if batch.num_missing:
                return
        self._unfinished.popleft()
        outputs = iter(batch.outputs or ())
        for window in batch.windows:
            yield None if window is None else next(outputs)

    def _paste(self, batch: _Batch, tile: Tile, restored: np.ndarray) -> None:
        assert batch.plan is not None
        scale = self._network.config.output_scale
        num_windows = sum(window is not None for window in batch.windows)
        if batch.outputs is None:
            height, width = batch.plan.frame_size
            shape = (height * scale, width * scale, restored.shape[-1])
            batch.outputs = [
                np.empty(shape, restored.dtype) for _ in range(num_windows)
            ]
        inner, outer = (
            tuple(slice(first * scale, last * scale) for first, last in spans)
            for spans in (tile.inner, tile.outer)
        )
        for output, image in zip(batch.outputs, restored, strict=False):
            output[outer] = image[inner]
