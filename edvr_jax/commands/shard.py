"""--shard: the share of a library or a clip that one of several processes restores."""

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from edvr_jax.commands.paths import is_pipe
from edvr_jax.errors import InputError
from edvr_jax.restore.shards import Shard

if TYPE_CHECKING:
    from edvr_jax.commands.restore import Restore

_SLURM, _KUBERNETES = "SLURM_ARRAY_TASK_ID", "JOB_COMPLETION_INDEX"
_SYNTAX = re.compile(r"(\d+|auto)/(\d+)|auto")


def parse_shard(text: str, environment: Mapping[str, str] | None = None) -> Shard:
    """Return the shard that an option names.

    Args:
        text: "3/8" for the third of eight; "auto" for the task of a Slurm array;
            "auto/8" for a task of a Slurm array or of a Kubernetes indexed job, where
            the count is the user's.
        environment: Variables of the scheduler; None is this process's.

    Raises:
        InputError: if there is no such shard, or if the scheduler's variables do not
            say which one it is.
    """
    environment = os.environ if environment is None else environment
    match = _SYNTAX.fullmatch(text)
    if match is None:
        raise InputError(
            f"--shard {text}: give the share and the number of shares as in 3/8, or "
            "auto, or auto/8"
        )
    if text == "auto":
        return _shard_of_array(environment)
    count = int(match[2])
    number = _find_number(text, environment) if match[1] == "auto" else int(match[1])
    if not 1 <= number <= count:
        is_slurm = match[1] == "auto" and _SLURM in environment
        hint = f"; number the array from 1, as in --array=1-{count}" if is_slurm else ""
        raise InputError(
            f"--shard {text}: there is no share {number} of {count}, they count from 1"
            f"{hint}"
        )
    return Shard(number, count)


def parse_shard_of_clip(command: "Restore") -> Shard | None:
    """Return the share of a clip that a command restores; None is all of it.

    Raises:
        InputError: as :func:`parse_shard`, or for other options that exclude shares.
    """
    shard = parse_shard(command.shard) if command.shard is not None else None
    if shard is not None and command.join:
        raise InputError("--join joins all shares; leave --shard out")
    option = "--shard" if shard is not None else "--join" if command.join else None
    if option and (is_pipe(command.input) or is_pipe(command.output)):
        raise InputError(f"{option} needs files, not a pipe; leave it out")
    if option and command.report_html is not None:
        raise InputError(
            f"--report-html shows frames that one process restores; leave {option} or "
            "--report-html out"
        )
    return shard


def _shard_of_array(environment: Mapping[str, str]) -> Shard:
    """Return the shard of a task in a Slurm array, which must be complete."""
    if _SLURM not in environment:
        raise InputError(
            f"--shard auto: this is no task of a Slurm array ({_SLURM} is not set); "
            f"give 3/8, or auto/8 where {_KUBERNETES} is set"
        )
    number = _read(environment, _SLURM)
    count = _read(environment, "SLURM_ARRAY_TASK_COUNT")
    first = environment.get("SLURM_ARRAY_TASK_MIN", "1")
    last = environment.get("SLURM_ARRAY_TASK_MAX", str(count))
    if first != "1" or last != str(count) or not 1 <= number <= count:
        raise InputError(
            f"--shard auto: the Slurm array has {count} tasks from {first} to {last}, "
            f"this is {number}; number them as in --array=1-8, or give the number of "
            "shares as in --shard auto/8"
        )
    return Shard(number, count)


def _find_number(text: str, environment: Mapping[str, str]) -> int:
    found = [name for name in (_SLURM, _KUBERNETES) if name in environment]
    if len(found) != 1:
        which = "both" if found else "none"
        raise InputError(
            f"--shard {text}: of {_SLURM} and {_KUBERNETES}, {which} are set; give the "
            "share by its number, as in 3/8"
        )
    # Kubernetes counts from 0.
    return _read(environment, found[0]) + (found[0] == _KUBERNETES)


def _read(environment: Mapping[str, str], name: str) -> int:
    value = environment.get(name, "")
    if not re.fullmatch(r"\d+", value):
        raise InputError(f"{name} must be a number for --shard auto, got {value!r}")
    return int(value)
