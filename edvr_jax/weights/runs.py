"""Weights out of a training run's folder, also of one that is still running.

``RUN`` stands for the moving average of its newest checkpoint, ``RUN@best`` for that of
the best validation, ``RUN@250000`` for that of a step. Nothing in the folder is
touched, and no lock is taken: a checkpoint has its name only when it is complete.
"""

import json
import logging
import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from edvr_jax import config as config_lib
from edvr_jax.config import CascadeConfig, ModelConfig, NetworkConfig
from edvr_jax.errors import InputError, first_line, needs_extra
from edvr_jax.models import params as params_lib
from edvr_jax.weights import native

# Names in the folder; workdir.py has those that only training reads.
CONFIG, CHECKPOINTS, SCORES = "config.json", "checkpoints", "scores.json"
PARTS = "parts.json"  # what a run uses of the user's own; see train/parts.py
WEIGHTS = "ema.safetensors"
BEST = "best"
LICENSE = "set by the owner of the training data"

_SELECTED = re.compile(r"(.+)@([^@/]*)")
_TREES = {False: ("ema_params", "average"), True: ("params", "no average")}


def split(name: str) -> tuple[Path, str | None] | None:
    """Split the name of a run's weights.

    Args:
        name: ``RUN``, ``RUN@best`` or ``RUN@STEP``.

    Returns:
        The folder, and which checkpoint, not checked; None if this is no folder.
    """
    if Path(name).is_dir():
        return Path(name), None
    match = _SELECTED.fullmatch(name)
    if match is None or not Path(match[1]).is_dir() or Path(name).exists():
        return None
    return Path(match[1]), match[2]


def read_config(folder: Path) -> NetworkConfig:
    """Return the network of a run.

    Raises:
        InputError: if the folder is none of a run; it names the phases of a chain.
    """
    path = folder / CONFIG
    if not path.exists():
        phases = sorted(str(file.parent) for file in folder.glob(f"*/{CONFIG}"))
        if phases:
            raise InputError(
                f"{folder} holds the phases of a chain; name one: {', '.join(phases)}"
            )
        raise InputError(
            f"{folder}: this folder is no training run; name a run or a weights file"
        )
    try:
        fields = json.loads(path.read_text())["model"]
        cls = CascadeConfig if "stage1" in fields else ModelConfig
        return config_lib.from_dict(cls, fields)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not the settings of a run ({error})") from None


def read_dataset(folder: Path) -> str:
    """Return the name of the published dataset of a run; "" for clips of your own."""
    name = json.loads((folder / CONFIG).read_text())["data"]["dataset"]
    return "" if name == "folder_of_clips" else name


def read_parts(folder: Path) -> dict[str, Any]:
    """Return what a run uses of the user's own, as train/parts.py names it.

    Raises:
        InputError: if the file is damaged.
    """
    path = folder / PARTS
    if not path.exists():
        return {}
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path}: not the parts of a run ({error})") from None


def describe(
    folder: Path, selected: str | None = None
) -> tuple[NetworkConfig, str, str]:
    """Return what there is to say about the weights of a run.

    Args:
        folder: Its folder.
        selected: As for :func:`read`.

    Returns:
        Configuration, origin, and the name of the user's own module or "".

    Raises:
        InputError: if the folder is no run, or has no such checkpoint.
    """
    config, model = read_config(folder), read_parts(folder).get("model", "")
    steps = _steps(folder)
    if _is_finished_only(folder, steps, selected):
        return config, native.read_metadata(folder / WEIGHTS)["origin"], model
    step = _choose(folder, steps, selected)
    return config, _origin(folder, step, raw=False), model


def read(
    folder: Path, selected: str | None = None, *, raw: bool = False
) -> tuple[NetworkConfig, dict[str, Any], str]:
    """Read the weights of a run, those of the network of its configuration.

    Args:
        folder: Its folder.
        selected: "best", or a step; None is the newest checkpoint.
        raw: The parameters themselves, not their moving average.

    Returns:
        Configuration, parameters (nested, float32 NumPy arrays), and their origin.

    Raises:
        InputError: if the folder is no run, or has no such checkpoint, or it is
            damaged, or they belong to a module of the user's own.
    """
    stored = read_stored(folder, selected, raw=raw)
    params = stored.fit(None, source=stored.origin)
    return stored.config, params, stored.origin


def read_stored(
    folder: Path, selected: str | None = None, *, raw: bool = False
) -> native.Stored:
    """Read the weights of a run, without checking which parameters they are.

    Args:
        folder: As for :func:`read`, and so are the others.
        selected: Which checkpoint.
        raw: Whether not the average.
    """
    config, model = read_config(folder), read_parts(folder).get("model", "")
    steps = _steps(folder)
    if not raw and _is_finished_only(folder, steps, selected):
        return native.read(folder / WEIGHTS)._replace(config=config)
    step = _choose(folder, steps, selected)
    try:
        params = _restore(folder / CHECKPOINTS / str(step) / "state", _TREES[raw][0])
    except InputError:
        if _steps(folder) == steps:
            raise
        # The run has deleted it meanwhile, since there is a newer or better one.
        return read_stored(folder, selected, raw=raw)
    return native.Stored(config, params, model, _origin(folder, step, raw=raw))


def _is_finished_only(folder: Path, steps: list[int], selected: str | None) -> bool:
    """Report whether the final weights stand for a run without its checkpoints."""
    return not steps and selected is None and (folder / WEIGHTS).exists()


def _origin(folder: Path, step: int, *, raw: bool) -> str:
    what = _TREES[raw][1]
    return f"edvr_jax, run {folder.resolve().name}, step {step}, {what}"


def _steps(folder: Path) -> list[int]:
    paths = (folder / CHECKPOINTS).glob("*")
    return sorted(int(path.name) for path in paths if path.name.isdigit())


def _choose(folder: Path, steps: list[int], selected: str | None) -> int:
    if not steps:
        raise InputError(f"{folder}: this run has no checkpoint yet")
    if selected is None:
        return steps[-1]
    if selected != BEST:
        if not selected.isdecimal() or int(selected) not in steps:
            raise InputError(
                f"{folder}: no checkpoint of step {selected}; there are "
                f"{', '.join(map(str, steps))}"
            )
        return int(selected)
    scores = read_scores(folder / SCORES)
    scored = [step for step in steps if scores.get(step, -math.inf) > -math.inf]
    if not scored:
        raise InputError(
            f"{folder}: no checkpoint was validated yet; name a step: "
            f"{', '.join(map(str, steps))}"
        )
    return max(scored, key=scores.__getitem__)


def read_scores(path: Path) -> dict[int, float]:
    """Return the scores of a run's validations, by step; -inf for an infinite one.

    Args:
        path: Its ``scores.json``.

    Raises:
        InputError: if the file is damaged.
    """
    if not path.exists():
        return {}
    try:
        scores = json.loads(path.read_text())
        return {
            int(step): -math.inf if score is None else float(score)
            for step, score in scores.items()
        }
    except (OSError, ValueError, TypeError, AttributeError):
        raise InputError(
            f"{path}: damaged; name a step, or delete the file (which checkpoint was "
            "best is then unknown, and training no longer keeps it)"
        ) from None


def read_shapes(folder: Path, step: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the parameters in a checkpoint, under flat names.

    Args:
        folder: Folder of the checkpoints.
        step: Step of the checkpoint.
    """
    ocp = _import_orbax()

    reader = ocp.Checkpointer(ocp.PyTreeCheckpointHandler())
    stored: Any = reader.metadata((folder / str(step) / "state").absolute())
    found = params_lib.flatten(stored.item_metadata.tree["params"])
    return {key: tuple(x.shape) for key, x in found.items()}


def _import_orbax() -> Any:
    """Import it when it is needed: that takes a second."""
    with needs_extra("train", "checkpoints need orbax-checkpoint"):
        import orbax.checkpoint as ocp
    return ocp


def _restore(path: Path, tree: str) -> dict[str, np.ndarray]:
    """Read one tree of a checkpoint, under flat names."""
    ocp = _import_orbax()

    logging.getLogger("absl").setLevel(logging.ERROR)
    reader = ocp.Checkpointer(ocp.PyTreeCheckpointHandler())
    try:
        stored: Any = reader.metadata(path.absolute()).item_metadata
        names = params_lib.flatten(stored.tree[tree])
        item = {tree: params_lib.unflatten(dict.fromkeys(names, np.zeros(0)))}
        as_numpy = ocp.RestoreArgs(restore_type=np.ndarray)
        restored = reader.restore(
            path.absolute(),
            args=ocp.args.PyTreeRestore(
                item=item,  # pyright: ignore[reportCallIssue]
                restore_args={  # pyright: ignore[reportCallIssue]
                    tree: params_lib.unflatten(dict.fromkeys(names, as_numpy))
                },
                partial_restore=True,  # pyright: ignore[reportCallIssue]
            ),
        )
    except Exception as error:  # orbax and tensorstore raise a dozen kinds
        raise InputError(
            f"{path.parent}: this checkpoint is damaged or of another version "
            f"({first_line(error)}); name another one, RUN@STEP"
        ) from None
    flat = params_lib.flatten(restored[tree])
    return {key: np.asarray(value, np.float32) for key, value in flat.items()}
