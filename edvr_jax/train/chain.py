"""Several runs in a row, each starting from the weights of earlier ones."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from edvr_jax.config import Phase
from edvr_jax.errors import InputError
from edvr_jax.train import trainer, warm_start, workdir
from edvr_jax.train.reporter import Log
from edvr_jax.train.trainer import Place


def train_chain(phases: Sequence[Phase], place: Place, *, log: Log) -> None:
    """Train, or go on with, the phases of a chain.

    A phase that is done is not run again; one that was stopped goes on.

    Args:
        phases: The runs, in order.
        place: Data, and the folder that gets a working directory for each phase,
            ``NAME``; the decoded frames are shared. ``init`` belongs to the phases.
        log: Called with each line meant for the user.

    Raises:
        InputError: if a phase cannot be run; before any is, if their names or what
            they start from do not fit together.
        Stopped: as :func:`edvr_jax.train.trainer.train`.
        FloatingPointError: likewise.
    """
    _check(phases, place)
    for number, phase in enumerate(phases, 1):
        folder = place.workdir / phase.name
        init = tuple(_resolve(entry, phases, place.workdir) for entry in phase.init)
        is_done = workdir.is_done(folder, phase.config) and not place.overwrite
        state = ", done before" if is_done else ""
        log(f"phase {number} of {len(phases)}: {phase.name}{state}")
        if is_done:
            continue
        phase_place = dataclasses.replace(
            place,
            workdir=folder,
            init=init,
            cache=place.cache or place.workdir / "frames",
        )
        trainer.train(phase.config, phase_place, log=log)


def _check(phases: Sequence[Phase], place: Place) -> None:
    if place.init:
        raise InputError("--init does not go with --chain: its phases say their own")
    names: list[str] = []
    for phase in phases:
        if phase.name in names or not phase.name.isidentifier():
            raise InputError(
                f"phase {phase.name!r}: names of phases must be identifiers, each once"
            )
        for entry in phase.init:
            _, source = warm_start.parse_source(entry)
            if source not in names and source in [p.name for p in phases]:
                raise InputError(
                    f"phase {phase.name} starts from {source}, a later one"
                )
        names.append(phase.name)


def _resolve(entry: str, phases: Sequence[Phase], root: Path) -> str:
    """Put the final weights of an earlier phase in the place of its name."""
    subtree, source = warm_start.parse_source(entry)
    if source in [phase.name for phase in phases]:
        source = str(root / source / workdir.WEIGHTS)
    return f"{subtree}={source}" if subtree else source
