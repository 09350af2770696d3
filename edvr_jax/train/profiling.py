"""A trace of some steps for XProf."""

from pathlib import Path

import jax

from edvr_jax import files


class Profile:
    """Traces from one step to another; leaving the ``with`` ends a trace under way.

    Args:
        steps: Trace the steps after the first number up to the second; None traces
            nothing.
        folder: Where the trace goes; ``xprof FOLDER`` or TensorBoard shows it.
    """

    def __init__(self, steps: tuple[int, int] | None, folder: Path):
        self._steps, self._folder = steps, folder
        self._is_running = False

    def __enter__(self):
        """Return self."""
        return self

    def __exit__(self, *_):
        """End the trace.

        Raises:
            OutputError: if it cannot be written; also by :meth:`before`.
        """
        self._stop()

    def before(self, step: int) -> None:
        """Start or end the trace, with ``step`` steps made so far."""
        if self._steps is None:
            return
        first, last = self._steps
        if not self._is_running and first <= step < last:
            jax.profiler.start_trace(str(self._folder))
            self._is_running = True
        elif self._is_running and step >= last:
            self._stop()

    def _stop(self) -> None:
        if self._is_running:
            self._is_running = False
            with files.report_failure(self._folder, RuntimeError):
                jax.profiler.stop_trace()
