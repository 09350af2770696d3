"""Runs for the tests: in this process, or as a command that can be killed."""

import dataclasses
import functools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from edvr_jax.train import steps, trainer

ROOT = Path(__file__).resolve().parent.parent


def run(
    config,
    clips,
    workdir,
    *,
    stop_at=None,
    number=signal.SIGTERM,
    action=None,
    **options,
):
    """Train; ``stop_at`` sends a signal, or acts, when that step is logged."""
    lines = []
    action = action or functools.partial(signal.raise_signal, number)

    def log(line):
        lines.append(line)
        if stop_at is not None and line.startswith(f"step {stop_at}/"):
            action()

    state = trainer.train(config, data=clips, workdir=workdir, log=log, **options)
    return state, lines


def on_one_device(function, *more_specs):
    """Compile a function of parameters, batch and more, in which the axis is one.

    Cheaper than ``jax.vmap``, whose tracing takes half as long again.
    """
    mesh = jax.make_mesh(
        (1,), (steps.BATCH_AXIS,), (AxisType.Auto,), devices=jax.local_devices()[:1]
    )
    mapped = jax.shard_map(
        function,
        mesh=mesh,
        in_specs=(P(), P(steps.BATCH_AXIS), *more_specs),
        out_specs=P(),
        check_vma=False,
    )
    compiled = jax.jit(mapped)
    # On the host, what is returned can be given again without another compilation.
    return lambda *arguments: jax.device_get(compiled(*arguments))


def start(config, clips, workdir, *options, num_devices=None):
    """Start ``train.py`` on the experiment; other devices than this process's."""
    file = workdir.with_suffix(".py")
    file.write_text(
        f"from edvr_jax.config import *\n\n\ndef get_config():\n    return {config!r}\n"
    )
    places = {"config": file, "data": clips, "workdir": workdir}
    arguments = [f"--{name}={value}" for name, value in places.items()]
    environment = dict(os.environ)
    if num_devices is not None:
        environment["XLA_FLAGS"] = environment["XLA_FLAGS"].replace(
            "device_count=4", f"device_count={num_devices}"
        )
    return subprocess.Popen(
        [sys.executable, "train.py", *arguments, *options],
        cwd=ROOT,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )


def read_log(workdir):
    """Return the lines of ``log.jsonl``, the last of which may be incomplete."""
    path = workdir / "log.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    records = []
    for line in lines:
        try:
            records.append(json.loads(line))
        except ValueError:
            break
    return records


def losses(workdir):
    """Return the loss of each logged step."""
    return {r["step"]: r["loss"] for r in read_log(workdir) if "loss" in r}


def last_step(workdir):
    """Return the newest step in the log; 0 if there is none."""
    return max((record["step"] for record in read_log(workdir)), default=0)


def wait_until(condition, *processes):
    """Wait for something that running processes do."""
    give_up = time.monotonic() + 600
    while not condition():
        for process in processes:
            if process.poll() is not None:
                raise AssertionError(f"ended by itself: {process.communicate()[1]}")
        assert time.monotonic() < give_up
        time.sleep(0.002)


def assert_same_bits(actual, expected):
    """Compare two states: parameters, average, optimizer, counts."""
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


def replace(config, **changes):
    """Replace fields of an experiment; ``optim__peak_lr`` one of a part of it."""
    for name, value in changes.items():
        part, _, field = name.partition("__")
        if field:
            value = dataclasses.replace(getattr(config, part), **{field: value})
        config = dataclasses.replace(config, **{part: value})
    return config
