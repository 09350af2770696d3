"""Trace of some steps for XProf."""

from pathlib import Path

import jax

from edvr_jax import files


class Profile:
    """Traces a range of steps; leaving the ``with`` ends a running trace.

    Args:
        steps: Numbers of steps made before the trace, and at its end; None traces
            nothing.
        folder: Folder of the trace; ``xprof FOLDER`` or TensorBoard shows it.

    Raises:
        OutputError: by the end of the trace, if it cannot be written.
    """

    def __init__(self, steps: tuple[int, int] | None, folder: Path):
        self._steps, self._folder = steps, folder
        self._is_running = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
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
