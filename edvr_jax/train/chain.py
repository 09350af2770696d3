"""Several runs in a row, each starting from the weights of earlier ones."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edvr_jax.config import Phase
from edvr_jax.errors import InputError
from edvr_jax.train import trainer, warm_start
from edvr_jax.train import workdir as workdir_lib
from edvr_jax.train.parts import check_parts
from edvr_jax.train.reporter import Log

_OWN = ("model", "loss", "metrics", "augment")


def train_chain(
    phases: Sequence[Phase],
    *,
    workdir: Path,
    cache: Path | None = None,
    overwrite: bool = False,
    log: Log,
    **options: Any,
) -> None:
    """Train the phases of a chain, or continue them.

    A phase that is done is not run again; one that was stopped is continued.

    Args:
        phases: The runs, in order.
        workdir: Folder that gets a working directory for each phase, ``NAME``.
        cache: Folder for decoded frames, which the phases share; None is
            ``workdir/frames``.
        overwrite: Delete the runs of all phases, and start again.
        log: Called with each line for the user.
        **options: Other options of :func:`edvr_jax.train.trainer.train`, except for
            ``init``, which belongs to the phases.

    Raises:
        InputError: if a phase cannot be run; before any is, if their names or their
            sources of weights do not fit together.
        Stopped: as :func:`edvr_jax.train.trainer.train`.
        FloatingPointError: likewise.
    """
    _check(phases)
    for number, phase in enumerate(phases, 1):
        folder = workdir / phase.name
        own = {name: options.get(name) for name in _OWN}
        parts = check_parts(phase.config, **own).record(phase.config)
        is_done = not overwrite and workdir_lib.is_done(folder, phase.config, parts)
        state = ", done before" if is_done else ""
        log(f"phase {number} of {len(phases)}: {phase.name}{state}")
        if not is_done:
            trainer.train(
                phase.config,
                workdir=folder,
                cache=cache or workdir / workdir_lib.FRAMES,
                init=tuple(_resolve(entry, phases, workdir) for entry in phase.init),
                overwrite=overwrite,
                log=log,
                **options,
            )


def _check(phases: Sequence[Phase]) -> None:
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
    """Replace the name of an earlier phase by the path of its final weights."""
    subtree, source = warm_start.parse_source(entry)
    if source in [phase.name for phase in phases]:
        source = str(root / source / workdir_lib.WEIGHTS)
    return f"{subtree}={source}" if subtree else source
