"""Write restored frames to a pipe."""

import contextlib
import logging
from collections.abc import Iterator
from fractions import Fraction
from typing import BinaryIO

import numpy as np
from av.error import FFmpegError

from edvr_jax.errors import OutputError
from edvr_jax.media.read.timeline import Timeline
from edvr_jax.media.write import encode
from edvr_jax.media.write.containers import CONTAINERS, open_output
from edvr_jax.media.write.encode import Encoding

_log = logging.getLogger(__name__)


class Pipe:
    """A :class:`Sink` that writes YUV4MPEG2 to a pipe.

    Attributes:
        dtype: Type of the frames.
    """

    def __init__(self, file: BinaryIO, encoding: Encoding, time_base: Fraction):
        """Write the header.

        Args:
            file: The pipe.
            encoding: How the frames are encoded.
            time_base: Seconds of one unit of the clip's times.
        """
        self.dtype = encoding.dtype
        self._encoding, self._time_base = encoding, time_base
        self._times: list[int] = []
        with _report_pipe():
            self._container = open_output(file, CONTAINERS[".y4m"])
        self._stream = encode.add_stream(self._container, encoding)

    @property
    def num_written(self) -> int:
        """Frames written so far."""
        return len(self._times)

    def write(self, image: np.ndarray, *, time: int) -> None:
        """Write a frame; see :class:`Sink`."""
        with _report_pipe():
            packets = encode.encode(
                self._stream, image, self._encoding, time=self.num_written
            )
            self._container.mux(packets)
        self._times.append(time)

    def finish(self) -> None:
        """Write the last packets; log a warning if the times need a variable rate."""
        with _report_pipe():
            self._container.mux(self._stream.encode(None))
            self._container.close()
        timeline = Timeline(self._times, 0, self._time_base, self._encoding.fps)
        warn_of_variable_rate("the output pipe", timeline)

    def close(self) -> None:
        """Close the pipe."""
        with contextlib.suppress(OSError, FFmpegError):
            self._container.close()


@contextlib.contextmanager
def _report_pipe() -> Iterator[None]:
    try:
        yield
    except (OSError, FFmpegError) as error:
        raise OutputError(
            f"the output pipe cannot be written: {error.strerror}; see what the "
            "program that reads it says"
        ) from None


def warn_of_variable_rate(output: str, timeline: Timeline) -> None:
    """Log a warning if an output with one frame rate cannot keep the times."""
    index = timeline.find_irregular()
    if index is not None:
        _log.warning(
            "%s has one frame rate, so frame %d and others are not shown at their "
            "times; .mp4 and .mkv keep them",
            output,
            index,
        )
