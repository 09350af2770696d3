"""A process that prepares one case and then runs it whenever it is told to.

Requests and replies are lines of JSON on stdin and stdout; whatever a library prints
goes to stderr. Needs Linux (memory is read from /proc) and no framework.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class Work(NamedTuple):
    """A case, ready to run.

    Attributes:
        run: The timed part; takes what ``before`` returned, and returns only when
            the device has finished.
        outputs: Takes what ``run`` returned; gives the arrays to compare.
        before: The part before each run that is not timed.
    """

    run: Callable[[Any], Any]
    outputs: Callable[[Any], Mapping[str, np.ndarray]]
    before: Callable[[], Any] = lambda: None


def serve(
    about: Mapping[str, Any],
    build: Callable[..., tuple[Work, int]],
    device_peak_bytes: Callable[[], int | None],
) -> None:
    """Answer requests until stdin ends.

    The first line written is ``about`` with the memory held so far. Then ``prepare``
    builds a case, warms it up, writes its outputs to ``file`` and answers with the
    seconds of the first run, which compiles; ``run`` runs it once and answers with
    the seconds; ``memory`` answers with the peaks since the start.

    Args:
        about: Facts about this worker for the report.
        build: Makes the work and its number of warm-up runs from a request.
        device_peak_bytes: Most memory used on the accelerator; None without one.
    """
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def reply(values: Mapping[str, Any]) -> None:
        replies.write(json.dumps(values) + "\n")
        replies.flush()

    reply({**about, "baseline_bytes": _memory_bytes("VmRSS")})
    work = None
    for line in sys.stdin:
        request = json.loads(line)
        action = request.pop("do")
        if action == "prepare":
            file = Path(request.pop("file"))
            work, num_warm_up = build(**request)
            reply({"first_seconds": _warm_up(work, num_warm_up, file)})
        elif action == "run":
            assert work is not None
            reply({"seconds": _time(work)[0]})
        elif action == "memory":
            peaks = {"peak_bytes": _memory_bytes("VmHWM")}
            reply({**peaks, "device_peak_bytes": device_peak_bytes()})


def _warm_up(work: Work, num_runs: int, file: Path) -> float:
    first_seconds, result = _time(work)
    for _ in range(num_runs - 1):
        _, result = _time(work)
    np.savez(file, allow_pickle=False, **work.outputs(result))
    return first_seconds


def _time(work: Work) -> tuple[float, Any]:
    value = work.before()
    start = time.perf_counter()
    result = work.run(value)
    return time.perf_counter() - start, result


def _memory_bytes(field: str) -> int:
    """Memory of this process: VmRSS is held now, VmHWM the most since its start."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}")
