"""Write restored frames to a pipe, as they come."""

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from typing import BinaryIO

import numpy as np
from av.error import FFmpegError

from edvr_jax.errors import OutputError
from edvr_jax.media.write import encode
from edvr_jax.media.write.containers import CONTAINERS, open_output
from edvr_jax.media.write.encode import Encoding


class Pipe:
    """Writes YUV4MPEG2 to a pipe as frames come.

    Attributes:
        dtype: Type of the frames that are written.
        num_frames: 0: a pipe has none of an earlier job.
        num_written: Frames written so far.
    """

    def __init__(
        self,
        file: BinaryIO,
        encoding: Encoding,
        size: tuple[int, int],
        fps: Fraction,
    ):
        self.dtype = encoding.dtype
        self.num_frames = 0
        self.num_written = 0
        self._encoding, self._fps = encoding, fps
        with _report_pipe():
            self._container = open_output(file, CONTAINERS[".y4m"])
        self._stream = encode.add_stream(
            self._container, encoding, size, fps=fps, time_base=1 / fps
        )

    def write(self, image: np.ndarray, *, time: int) -> None:
        """Write a frame; the format has no times, only a rate."""
        del time
        with _report_pipe():
            packets = encode.encode(
                self._stream,
                image,
                colors=self._encoding.colors,
                time=self.num_written,
                time_base=1 / self._fps,
            )
            self._container.mux(packets)
        self.num_written += 1

    def finish(self) -> None:
        """Write what is left."""
        with _report_pipe():
            self._container.mux(self._stream.encode(None))
            self._container.close()

    def close(self) -> None:
        """Let go of the pipe."""
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
