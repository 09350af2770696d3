"""Signals that stop a run, turned into a request that the training loop handles."""

import os
import signal
import threading

from edvr_jax.errors import INTERRUPTED, PREEMPTED
from edvr_jax.train import parallel


class StopRequest:
    """Listens for Ctrl-C, SIGTERM, SIGUSR1 and preemption notices, inside a ``with``.

    An exception could be raised while the state is being replaced; a request waits for
    the end of the step. A second Ctrl-C raises as usual. Outside the main thread
    signals keep their handlers. With several processes all stop after the same step:
    JAX listens for SIGTERM and agrees on one, and the other signals are turned into it.
    """

    def __init__(self):
        self._received: int | None = None
        self._previous = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            numbers = [signal.SIGINT, signal.SIGUSR1]
            if not parallel.is_job():
                numbers.append(signal.SIGTERM)
            for number in numbers:
                self._previous[number] = signal.signal(number, self._request)
        return self

    def __exit__(self, *_):
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def stop_code(self, step: int) -> int | None:
        """Return the exit code if the run should stop after this step, or None."""
        if parallel.reached_preemption(step):
            return PREEMPTED
        if self._received is None or parallel.is_job():
            return None
        return INTERRUPTED if self._received == signal.SIGINT else PREEMPTED

    def _request(self, number, frame):
        del frame
        self._received = number
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if parallel.is_job():
            os.kill(os.getpid(), signal.SIGTERM)
