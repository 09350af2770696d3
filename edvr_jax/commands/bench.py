"""``edvr bench``: how fast this machine restores and trains, and what limits it."""

import dataclasses
import json
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from edvr_jax.bench import measure
from edvr_jax.commands import output
from edvr_jax.errors import INTERRUPTED, InputError


@dataclasses.dataclass(frozen=True)
class Bench:
    """Measure speed and memory of the parts of EDVR on this machine.

    The operations and bytes of a case are counted from its shapes and compared with
    a matrix product and a copy measured beside it. Items are restored frames or
    windows to train on; per core is per second of processor time. The host memory is
    the most that the case's process held, the framework included.

    Attributes:
        cases: What to measure; matmul and copy are always measured, first. The data
            pipeline (data_...) only if named; its records need the extra "data".
        dtype: Computation type.
        repeats: Timed runs of each case; the median counts.
        json: File for the measurements; it is replaced.
        compare: Earlier file of measurements; adds the ratio of the new to the old
            times.
    """

    cases: tuple[measure.CaseName, ...] = measure.DEFAULT_CASES
    dtype: measure.Dtype = "float32"
    repeats: int = 7
    json: Path | None = None
    compare: Path | None = None

    def run(self) -> int | None:
        """Measure, print a table as results come, and write the file."""
        if self.repeats < 1:
            raise InputError(f"--repeats must be positive, got {self.repeats}")
        output.check_json(self.json)
        old = {} if self.compare is None else _read(self.compare)
        done: list[measure.Measurement] = []
        try:
            for measurement in measure.measure_all(
                self.cases, dtype=self.dtype, repeats=self.repeats
            ):
                done.append(measurement)
                sys.stderr.write(f"{measurement.case}: {measurement.summary}\n")
        except KeyboardInterrupt:
            sys.stderr.write("interrupted\n")
            return INTERRUPTED
        finally:
            self._report(done, old)  # also what was measured before a failure
        return None

    def _report(self, done: list[measure.Measurement], old: dict[str, float]) -> None:
        if len(done) < len(measure.REFERENCES):
            return
        sys.stdout.write(output.format_table(_table(done, old)))
        if self.json is not None:
            report = {"machine": _machine(), "dtype": self.dtype}
            report["cases"] = {m.case: dataclasses.asdict(m) for m in done}
            output.write_json(self.json, report)


def _machine() -> dict[str, Any]:
    return {
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }


def _read(path: Path) -> dict[str, float]:
    """Medians in seconds of an earlier run, by case."""
    try:
        cases = json.loads(path.read_text())["cases"]
        return {case: float(values["median_s"]) for case, values in cases.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: not a file that edvr bench --json wrote ({error})"
        ) from None


def _table(
    measurements: Sequence[measure.Measurement], old: dict[str, float]
) -> list[list[str]]:
    matmul, copy = measurements[:2]
    peak_flops = matmul.flops / matmul.median_s
    peak_bytes = copy.bytes / copy.median_s
    header = "case,ms,quartiles,GFLOP/s,of matmul,GB/s,of copy,items/s,per core"
    rows = [[*header.split(","), "compile s", "host MB", "device MB"]]
    if old:
        rows[0].append("new/old")
    for m in measurements:
        flops, moved = m.flops / m.median_s, m.bytes / m.median_s
        low, high = (1e3 * value for value in m.quartiles_s)
        row = [
            m.case,
            f"{1e3 * m.median_s:.1f}",
            f"{low:.1f}-{high:.1f}",
            f"{flops / 1e9:.0f}",
            f"{flops / peak_flops:.0%}",
            f"{moved / 1e9:.1f}",
            f"{moved / peak_bytes:.0%}",
            f"{m.items / m.median_s:.2f}" if m.items else "-",
            f"{m.items / m.median_s / m.cores:.2f}" if m.items else "-",
            f"{m.compile_s:.1f}",
            _megabytes(m.host_peak_bytes),
            _megabytes(m.device_peak_bytes),
        ]
        if old:
            row.append(f"{m.median_s / old[m.case]:.2f}" if m.case in old else "-")
        rows.append(row)
    return rows


def _megabytes(count: int | None) -> str:
    return "-" if count is None else f"{count / 1e6:.0f}"
