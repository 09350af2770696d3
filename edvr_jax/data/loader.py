"""Batches of training samples, by Grain: shuffled, prefetched, resumable.

Every center of every clip comes once per epoch, in an order that follows from the seed.
Sample i of a run is a pure function of seed and i, whatever the number of processes
and threads. So the whole state of the iterator is the number of windows taken, and a
run can be continued with other numbers of workers or processes.
"""

import signal
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from edvr_jax.config import Config
from edvr_jax.data.clips import TrainClip
from edvr_jax.data.frames import FrameCache
from edvr_jax.data.windows import Augment, WindowCenters, WindowSampler
from edvr_jax.errors import InputError, first_line, needs_extra

Batch = dict[str, np.ndarray]  # lq [n, T, h, w, 3] and gt [n, H, W, 3], uint8

BATCHES_AHEAD = 2  # per thread or worker
THREADS = 2


class TrainLoader:
    """Iterator over this process's share of endless training batches.

    Close it, or use it as a context manager: workers end with it.

    Args:
        clips: Training clips.
        config: The experiment; the order follows from its seed.
        process_index: Number of this process.
        process_count: Processes that share each global batch.
        augment: Function of your own, ``augment(sample, rng) -> sample``, that changes
            each sample: arrays ``lq`` [T, h, w, 3] and ``gt`` [H, W, 3], uint8, whose
            types and shapes stay. Draw from ``rng`` alone, a NumPy generator that
            follows from seed and window; then a run can be continued to the bit. It
            runs in threads, or in workers, which get it by cloudpickle.

    Raises:
        InputError: if the processes cannot share a batch, or ``augment`` cannot be
            sent to the workers; by taking a batch, if a frame cannot be read, unless
            ``skip_bad`` is set, or a sample has changed its format.
    """

    START: ClassVar = {"windows": 0}

    def __init__(
        self,
        clips: Sequence[TrainClip],
        config: Config,
        *,
        process_index: int = 0,
        process_count: int = 1,
        augment: Augment | None = None,
    ):
        if config.data.batch_size % process_count:
            raise InputError(
                f"data.batch_size ({config.data.batch_size}) must be a multiple of the "
                f"{process_count} processes"
            )
        if augment is not None and config.data.num_workers:
            _check_sent(augment)
        self._clips, self._config, self._augment = clips, config, augment
        self._share = (process_index, process_count)
        self._num_taken = 0
        self._iterator = None

    def __iter__(self):
        return self

    def __next__(self) -> Batch:
        if self._iterator is None:
            self._iterator = iter(self._make_dataset(self._num_taken))
        batch = next(self._iterator)
        self._num_taken += self._config.data.batch_size
        return batch

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self) -> None:
        """End the workers; the next batch starts them again."""
        if self._iterator is not None:
            self._iterator.close()
            self._iterator = None

    def get_state(self) -> dict[str, int]:
        """Return the state for a checkpoint: the windows taken by all processes."""
        return {"windows": self._num_taken}

    def set_state(self, state: Mapping[str, int]) -> None:
        """Continue from a state of :meth:`get_state`."""
        self.close()
        self._num_taken = state["windows"]

    def _make_dataset(self, first: int) -> Any:
        """Build the Grain pipeline, from the window with number ``first``."""
        with needs_extra("train", "the loader needs grain"):
            import grain
            from absl import flags

        if not flags.FLAGS.is_parsed():  # Grain's workers read its flags
            flags.FLAGS.mark_as_parsed()
        data, (process_index, process_count) = self._config.data, self._share
        centers = WindowCenters(self._clips, self._config)
        cache = FrameCache(data.frame_cache_mib * 2**20 // max(1, data.num_workers))
        sampler = WindowSampler(
            self._clips, centers, self._config, cache, self._augment
        )
        windows = (
            grain.MapDataset.source(centers)
            .seed(self._config.seed)
            .shuffle()
            .repeat()
            .random_map(sampler)
            .slice(slice(first + process_index, None, process_count))
            .batch(data.batch_size // process_count, drop_remainder=True)
        )
        threads = 1 if data.num_workers else THREADS
        return windows.to_iter_dataset(
            grain.ReadOptions(
                num_threads=threads, prefetch_buffer_size=threads * BATCHES_AHEAD
            )
        ).mp_prefetch(
            grain.MultiprocessingOptions(num_workers=data.num_workers),
            worker_init_fn=_ignore_signals,
        )


def _check_sent(augment: Augment) -> None:
    """Check that workers can get a function; Grain would fail in pages of text."""
    with needs_extra("train", "workers need cloudpickle"):
        import cloudpickle
    try:
        cloudpickle.dumps(augment)
    except Exception as error:  # whatever an object of the user's raises
        raise InputError(
            f"augment cannot be sent to the workers of data.num_workers "
            f"({type(error).__name__}: {first_line(error)}); make it a function of a "
            "module, or set data.num_workers to 0"
        ) from error


def _ignore_signals(worker_index: int, worker_count: int) -> None:
    """Keep a worker running: the run gets the same signals, saves, and ends it."""
    del worker_index, worker_count
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
