"""The folder of a run: checked, locked, then prepared for one experiment."""

import contextlib
import dataclasses
import itertools
import json
import os
import shutil
import socket
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import filelock

from edvr_jax import files
from edvr_jax.config import Config, from_dict, to_json
from edvr_jax.errors import InputError
from edvr_jax.models import params as params_lib
from edvr_jax.train import parallel
from edvr_jax.train.plan import plan
from edvr_jax.weights.runs import (
    CHECKPOINTS,
    CONFIG,
    PARTS,
    SCORES,
    WEIGHTS,
    read_parts,
)

LOG, WANDB_ID = "log.jsonl", "wandb_id"
FRAMES = "frames"  # decoded frames, unless a cache is named
_LOCK, _OWNER = "lock", "owner"


def check(
    workdir: Path,
    config: Config,
    *,
    parts: Mapping[str, Any] = MappingProxyType({}),
    accept_changes: bool = False,
    overwrite: bool,
) -> bool:
    """Check whether an experiment may run in a folder; nothing is changed there.

    Args:
        workdir: Folder of the run.
        config: The experiment.
        parts: The user's own parts, see :meth:`edvr_jax.train.parts.Parts.record`.
        accept_changes: Accept other settings than those of the run in the folder,
            except for the network's.
        overwrite: The run in the folder will be deleted.

    Returns:
        Whether the run in the folder is continued; otherwise it starts at step 0.

    Raises:
        InputError: if the folder holds something else, or a run would lose something.
    """
    if workdir.exists() and not workdir.is_dir():
        raise InputError(f"{workdir} is a file; name a folder")
    old = _read_config(workdir)
    if old is None and workdir.exists():
        found = {path.name for path in workdir.iterdir()}
        if found - {FRAMES, _LOCK, _OWNER}:
            raise InputError(f"{workdir} is not empty and holds no run; use another")
    if old is None or overwrite:
        return False
    if any(path.name.isdigit() for path in (workdir / CHECKPOINTS).glob("*")):
        _check_changes(workdir, old, config, parts, accept_changes)
        return True
    # Before its first checkpoint a run has nothing to lose. The first save makes the
    # folder; planned steps without a skipped update are always saved.
    is_deleted = not (workdir / CHECKPOINTS).exists() and any(
        plan(line["step"], old).save and line.get("num_skipped") == 0
        for line in read_log(workdir)
    )
    if (workdir / WEIGHTS).exists() or is_deleted:
        raise InputError(
            f"{workdir} holds a run without its checkpoints; put them back to continue "
            "it, use another --workdir, or --overwrite to delete the rest of it"
        )
    return False


def read_log(workdir: Path) -> list[dict[str, Any]]:
    """Return the lines of the log, without half a line of a run that was killed."""
    path, lines = workdir / LOG, []
    for line in path.read_text().splitlines() if path.exists() else ():
        with contextlib.suppress(ValueError):
            lines.append(json.loads(line))
    return lines


def prepare_workdir(
    workdir: Path,
    config: Config,
    *,
    parts: Mapping[str, Any] = MappingProxyType({}),
    is_continued: bool,
) -> None:
    """Write ``config.json`` and ``parts.json``; delete a run that is not continued.

    The final weights of a run with other settings are renamed ``ema-1``, ...

    Args:
        workdir: Folder of the run, checked; made if needed.
        config: The experiment.
        parts: As for :func:`check`; without any there is no ``parts.json``.
        is_continued: What :func:`check` returned.

    Raises:
        InputError: if the folder cannot be written.
    """
    old, old_parts = _read_config(workdir), read_parts(workdir)
    parallel.wait_for_all("workdir checked")
    try:
        if parallel.is_main():
            with files.report_failure(workdir):
                if not is_continued:
                    _clear(workdir)
                if (old, old_parts) != (config, parts):
                    _keep_weights(workdir)
                workdir.mkdir(parents=True, exist_ok=True)
            # First of all: without it the folder holds no run, and is refused.
            files.write(workdir / CONFIG, to_json(config).encode())
            if parts:
                files.write(workdir / PARTS, json.dumps(parts).encode())
            else:
                (workdir / PARTS).unlink(missing_ok=True)
    finally:
        parallel.wait_for_all("workdir prepared")


class Lock:
    """Keeps other runs out of a folder; use as a context manager.

    An existing folder is locked on entering, a new one by :meth:`hold`, so that a run
    that is refused leaves nothing behind. The system releases the lock when the process
    ends. Only the first process of a job locks.

    Args:
        workdir: Folder of the run.

    Raises:
        InputError: on entering, in all processes, if another run has locked it.
    """

    def __init__(self, workdir: Path):
        self._workdir = workdir
        self._lock = filelock.FileLock(workdir / _LOCK)
        self._is_new = self._is_held = False

    def __enter__(self):
        self._lock_in_main(only_if=self._workdir.is_dir())
        return self

    def __exit__(self, *_):
        if not self._lock.is_locked:
            return
        (self._workdir / _OWNER).unlink(missing_ok=True)
        self._lock.release()
        if self._is_new and not self._is_held:
            (self._workdir / _LOCK).unlink(missing_ok=True)

    def hold(self) -> None:
        """Make the folder and lock it: the run begins.

        Raises:
            InputError: in all processes, if another run has locked it meanwhile, or
                the folder cannot be written.
        """
        self._is_held = True
        self._lock_in_main(only_if=True)

    def _lock_in_main(self, *, only_if: bool) -> None:
        """Lock in the first process; all processes fail if it cannot."""
        failure: InputError | None = None
        if parallel.is_main() and only_if and not self._lock.is_locked:
            try:
                self._acquire()
            except InputError as error:
                failure = error
        if not parallel.all_agree(failure is None):
            raise failure or InputError(
                f"{self._workdir}: the first process of the job could not lock it"
            )

    def _acquire(self) -> None:
        with files.report_failure(self._workdir):
            self._workdir.mkdir(parents=True, exist_ok=True)
            self._is_new = not (self._workdir / _LOCK).exists()
            try:
                # Some file systems have no locks; there, runs are not kept apart.
                with contextlib.suppress(NotImplementedError):
                    self._lock.acquire(timeout=0)
            except filelock.Timeout:
                raise InputError(self._refusal()) from None
            owner = f"process {os.getpid()} on {socket.gethostname()}"
            (self._workdir / _OWNER).write_text(owner)

    def _refusal(self) -> str:
        owner = "another process"
        with contextlib.suppress(OSError):
            owner = (self._workdir / _OWNER).read_text()
        return (
            f"{self._workdir}: {owner} is training there; wait for it, or use another "
            f"--workdir (if it no longer runs, delete {self._workdir / _LOCK})"
        )


def is_done(
    workdir: Path, config: Config, parts: Mapping[str, Any] = MappingProxyType({})
) -> bool:
    """Return whether the folder holds a finished run of this experiment."""
    found = _read_config(workdir), read_parts(workdir)
    return (workdir / WEIGHTS).exists() and found == (config, parts)


def _read_config(workdir: Path) -> Config | None:
    path = workdir / CONFIG
    if not path.exists():
        return None
    try:
        return from_dict(Config, json.loads(path.read_text()))
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} is no configuration of this version: {error}; use another folder"
        ) from None


def _keep_weights(workdir: Path) -> None:
    """Rename the final weights of the same run with other settings."""
    if (workdir / WEIGHTS).exists():
        names = (workdir / f"ema-{number}.safetensors" for number in itertools.count(1))
        free = next(path for path in names if not path.exists())
        (workdir / WEIGHTS).rename(free)


def _clear(workdir: Path) -> None:
    """Delete a run, but not its decoded frames."""
    for name in (CHECKPOINTS, "tensorboard", "images", "profile"):
        if (workdir / name).exists():
            shutil.rmtree(workdir / name)
    for name in (LOG, WEIGHTS, SCORES, WANDB_ID, CONFIG, PARTS):
        (workdir / name).unlink(missing_ok=True)
    for path in workdir.glob("ema-*.safetensors"):
        path.unlink()


def _check_changes(
    workdir: Path,
    old: Config,
    config: Config,
    parts: Mapping[str, Any],
    accept_changes: bool,
) -> None:
    changes = _differences(dataclasses.asdict(old), dataclasses.asdict(config))
    if old.model != config.model:
        raise InputError(
            f"{workdir} holds a run of another network ({'; '.join(changes)}); "
            "use another --workdir, or --overwrite to delete it"
        )
    old_parts = read_parts(workdir)
    shapes, old_shapes = (
        found.get("shapes") or params_lib.shapes(config.model)
        for found in (parts, old_parts)
    )
    differences = params_lib.describe_differences(shapes, old_shapes)
    if differences:
        raise InputError(
            f"{workdir} holds a run of another network: "
            f"{old_parts.get('model', 'that of the configuration')}, and not "
            f"{parts.get('model', 'that of the configuration')} ({differences}); give "
            "the same model=, or use another workdir"
        )
    for name in ("model", "loss", "augment"):
        before, after = (found.get(name) for found in (old_parts, parts))
        if before != after:
            changes.append(f"{name}: {before} -> {after}")
    if changes and not accept_changes:
        raise InputError(
            f"{workdir} holds a run with another configuration "
            f"({'; '.join(changes)}); use another --workdir, --accept-changes to "
            "continue with the new one, or --overwrite to delete it"
        )


def _differences(
    old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = ""
) -> list[str]:
    changes = []
    for key in [*new, *(key for key in old if key not in new)]:
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            changes += _differences(before, after, f"{prefix}{key}.")
        elif before != after:
            changes.append(f"{prefix}{key}: {before} -> {after}")
    return changes
