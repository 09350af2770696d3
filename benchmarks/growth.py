"""How a window's time and memory grow with its frames, size and channels.

Every row runs in a process of its own, starting from EDVR-M on 5 frames of 64x112:

    python benchmarks/growth.py
"""

import concurrent.futures
import dataclasses
import multiprocessing
import sys

import tyro

from edvr_jax import cli
from edvr_jax.bench import measure
from edvr_jax.commands import output
from edvr_jax.config import ModelConfig

BASE = ModelConfig()
WINDOW = (64, 112)
# What changes from one row to the next, and the rows.
ROWS: dict[str, tuple[ModelConfig, tuple[int, int]]] = {
    "M, 5 frames of 64x112": (BASE, WINDOW),
    "3 frames": (dataclasses.replace(BASE, num_frames=3), WINDOW),
    "7 frames": (dataclasses.replace(BASE, num_frames=7), WINDOW),
    "128x224": (BASE, (128, 224)),
    "256x448": (BASE, (256, 448)),
    "32 channels": (dataclasses.replace(BASE, num_features=32), WINDOW),
    "128 channels": (dataclasses.replace(BASE, num_features=128), WINDOW),
    "L (128 channels, 40 blocks)": (measure.LARGE, WINDOW),
    "L, 5 frames of 180x320": (measure.LARGE, (180, 320)),
}


def main(*, repeats: int = 3) -> None:
    """Measure all rows and print them.

    Args:
        repeats: Timed runs of each row; the median counts.
    """
    cli.use_fast_cpu_convolutions()
    table = [["window", "GFLOP", "seconds", "GFLOP/s", "times the first", "host MB"]]
    first = None
    with concurrent.futures.ProcessPoolExecutor(
        max_workers=1,
        mp_context=multiprocessing.get_context("spawn"),
        max_tasks_per_child=1,
    ) as pool:
        for name, (config, size) in ROWS.items():
            work = pool.submit(measure.measure_window, config, size, repeats=repeats)
            m = work.result()
            first = first or m.median_s
            numbers = (
                f"{m.flops / 1e9:.0f}",
                f"{m.median_s:.2f}",
                f"{m.flops / m.median_s / 1e9:.0f}",
                f"{m.median_s / first:.2f}",
                "-" if m.host_peak_bytes is None else f"{m.host_peak_bytes / 1e6:.0f}",
            )
            table.append([name, *numbers])
            sys.stdout.write(output.format_table([table[0], table[-1]]))
            sys.stdout.flush()
    sys.stdout.write(output.format_table(table))


if __name__ == "__main__":
    tyro.cli(main)
