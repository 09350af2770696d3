"""The folder of a run: claimed by one experiment, never overwritten unless asked."""

import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edvr_jax import files, parallel
from edvr_jax.config import Config, from_dict, to_json
from edvr_jax.errors import InputError

CONFIG, LOG, WEIGHTS = "config.json", "log.jsonl", "ema.safetensors"
CHECKPOINTS, SCORES, WANDB_ID = "checkpoints", "scores.json", "wandb_id"


def claim(
    workdir: Path, config: Config, *, accept_changes: bool = False, overwrite: bool
) -> None:
    """Write ``config.json``, or check that the run there is of the same experiment.

    Args:
        workdir: Folder of the run; made if needed.
        config: The experiment.
        accept_changes: Go on although other settings than the network's differ.
        overwrite: Delete the run that is there.

    Raises:
        InputError: if the folder holds something else.
    """
    if workdir.exists() and not workdir.is_dir():
        raise InputError(f"{workdir} is a file; name a folder")
    old = _read_config(workdir)
    if old is None and workdir.exists() and any(workdir.iterdir()):
        raise InputError(f"{workdir} is not empty and holds no run; use another")
    # Before its first checkpoint a run has nothing to lose.
    is_kept = _has_checkpoint(workdir) and not overwrite
    if old is not None and is_kept:
        _check(workdir, old, config, accept_changes)
    parallel.wait_for_all("workdir checked")
    try:
        if parallel.is_main():
            with files.report_failure(workdir):
                if not is_kept:
                    _clear(workdir)
                if old != config:  # the weights of a run that was done before
                    (workdir / WEIGHTS).unlink(missing_ok=True)
                workdir.mkdir(parents=True, exist_ok=True)
            files.write(workdir / CONFIG, to_json(config).encode())
    finally:
        parallel.wait_for_all("workdir claimed")


def is_done(workdir: Path, config: Config) -> bool:
    """Tell whether a run of this experiment has come to its end there."""
    return (workdir / WEIGHTS).exists() and _read_config(workdir) == config


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


def _has_checkpoint(workdir: Path) -> bool:
    return any(path.name.isdigit() for path in (workdir / CHECKPOINTS).glob("*"))


def _clear(workdir: Path) -> None:
    """Delete a run; decoded frames stay."""
    for name in (CHECKPOINTS, "tensorboard", "images", "profile"):
        if (workdir / name).exists():
            shutil.rmtree(workdir / name)
    for name in (LOG, WEIGHTS, SCORES, WANDB_ID, CONFIG):
        (workdir / name).unlink(missing_ok=True)


def _check(workdir: Path, old: Config, config: Config, accept_changes: bool) -> None:
    changes = _differences(dataclasses.asdict(old), dataclasses.asdict(config))
    if old.model != config.model:
        raise InputError(
            f"{workdir} holds a run of another network ({'; '.join(changes)}); "
            "use another --workdir, or --overwrite to delete it"
        )
    if changes and not accept_changes:
        raise InputError(
            f"{workdir} holds a run with another configuration "
            f"({'; '.join(changes)}); use another --workdir, --accept-changes to go "
            "on with the new one, or --overwrite to delete it"
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
