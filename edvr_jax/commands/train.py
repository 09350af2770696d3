"""``edvr train``: train an experiment of ``configs/``, or go on with it."""

import dataclasses
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from edvr_jax import trainer
from edvr_jax.commands.output import INTERRUPTED
from edvr_jax.config import Config
from edvr_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Train:
    """Train a network on a folder of clips, or go on with a run that was stopped.

    Attributes:
        config: Experiment file, such as configs/debug.py; each of its settings is an
            option below.
        data: Folder of sharp clips: video files and folders of frames.
        workdir: Folder of the run: checkpoints, config.json, log.jsonl and, at the
            end, ema.safetensors. If it holds this run already, the run goes on.
        cache: Folder for decoded frames, about 3 bytes per pixel; default is
            WORKDIR/frames. Runs may share it.
        init: Weights to start from, instead of random ones: a name that ships, or a
            file. Not used by a run that goes on.
        accept_changes: Go on with a run although its settings were changed.
        settings: The experiment.
    """

    config: Path
    data: Path
    workdir: Path
    settings: Annotated[Config, tyro.conf.arg(name="")]
    cache: Path | None = None
    init: str | None = None
    accept_changes: bool = False

    def run(self) -> int | None:
        """Train.

        Returns:
            Exit code: None (0), 1 if the loss stopped being finite, or 130 after
            Ctrl-C.
        """
        try:
            trainer.train(
                self.settings,
                data=self.data,
                workdir=self.workdir,
                cache=self.cache,
                init=self.init,
                accept_changes=self.accept_changes,
                log=_write_line,
            )
        except KeyboardInterrupt:
            return INTERRUPTED
        except FloatingPointError as error:
            sys.stderr.write(f"error: {error}; the last checkpoint is good\n")
            return 1
        return None


def with_config_file(arguments: Sequence[str]) -> type[Train]:
    """Make the file after ``--config`` give the defaults of all settings.

    Args:
        arguments: The whole command line; looked at if its command is ``train``.

    Returns:
        The command, its ``settings`` defaulting to the file's.

    Raises:
        InputError: if the file is missing or has no ``get_config``.
    """
    path = _find_config(arguments) if arguments[:1] == ["train"] else None
    default = Config() if path is None else load_config(path)
    field = dataclasses.field(default=default)
    return dataclasses.make_dataclass(
        "Train",
        [("settings", Annotated[Config, tyro.conf.arg(name="")], field)],
        bases=(Train,),
        frozen=True,
        kw_only=True,
        namespace={"__doc__": Train.__doc__},
    )


def load_config(path: Path) -> Config:
    """Run an experiment file and return what its ``get_config()`` gives.

    Raises:
        InputError: if the file is missing or has no ``get_config`` to return one.
    """
    if path.suffix != ".py" or not path.is_file():
        raise InputError(f"{path}: no such config file; see configs/*.py")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "get_config"):
        raise InputError(f"{path}: has no get_config() function")
    config = module.get_config()
    if not isinstance(config, Config):
        raise InputError(f"{path}: get_config() must return a Config, see configs/")
    return config


def _find_config(arguments: Sequence[str]) -> Path | None:
    for i, argument in enumerate(arguments):
        if argument == "--config" and i + 1 < len(arguments):
            return Path(arguments[i + 1])
        if argument.startswith("--config="):
            return Path(argument.partition("=")[2])
    return None


def _write_line(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
