"""TensorBoard's event file, written directly so that a full disk raises an error.

tensorboardX's own writer passes events to a thread through a short queue. If the disk
is full, that thread ends, and the next event waits for space in the queue forever.
"""

import os
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tensorboardX import summary as summaries
from tensorboardX.proto import event_pb2
from tensorboardX.record_writer import masked_crc32c

from edvr_jax import files

_proto: Any = event_pb2  # its names are defined at import


class EventFile:
    """A new event file; every call appends to it and closes it again.

    Args:
        folder: Folder of the event files; made if needed.
        first_step: First step of this file; TensorBoard drops this step and later
            ones of earlier files.

    Raises:
        OutputError: if it cannot be written; also by the methods.
    """

    def __init__(self, folder: Path, *, first_step: int):
        process = f"{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}"
        self._path = folder / f"events.out.tfevents.{process}"
        with files.report_failure(folder):
            folder.mkdir(parents=True, exist_ok=True)
        start = _proto.SessionLog(status=_proto.SessionLog.START)
        self._append(_proto.Event(file_version="brain.Event:2"))
        self._append(_proto.Event(step=first_step, session_log=start))

    def add_scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write the values of a step."""
        event = _proto.Event(step=step)
        for name, value in values.items():
            event.summary.MergeFrom(summaries.scalar(name, value))
        self._append(event)

    def add_image(self, step: int, name: str, image: np.ndarray) -> None:
        """Write an image, [H, W, 3] uint8 RGB."""
        summary = summaries.image(name, image, dataformats="HWC")
        self._append(_proto.Event(step=step, summary=summary))

    def _append(self, event: Any) -> None:
        event.wall_time = time.time()
        data = event.SerializeToString()
        length = struct.pack("<Q", len(data))
        record = length + _checksum(length) + data + _checksum(data)
        with files.report_failure(self._path), self._path.open("ab") as file:
            file.write(record)


def _checksum(data: bytes) -> bytes:
    return struct.pack("<I", masked_crc32c(data))
