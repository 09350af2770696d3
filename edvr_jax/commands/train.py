"""``edvr train``: train an experiment of ``configs/``, or continue it."""

import contextlib
import dataclasses
import importlib.util
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import tyro

from edvr_jax.config import Config, Phase
from edvr_jax.errors import INTERRUPTED, InputError, Stopped


@dataclasses.dataclass(frozen=True)
class Train:
    """Train a network on a folder of clips, or continue a run that was stopped.

    Exit codes: 0 done, 1 training failed and gave up, 2 bad input, 75 stopped by
    SIGTERM, SIGUSR1 or a preemption notice, 130 by Ctrl-C; the last two after saving.

    Attributes:
        config: Experiment file, such as configs/debug.py; each of its settings is an
            option below.
        data: Folder of the dataset (docs/data.md), such as a folder of sharp clips.
        workdir: Folder of the run: checkpoints, config.json, log.jsonl, TensorBoard
            files and, at the end, ema.safetensors. If it holds this run already, the
            run is continued.
        chain: Run all phases of the file's get_chain(), each in WORKDIR/NAME. Settings
            given here apply to all of them.
        eval_data: Folder of the dataset of eval.protocol; default is DATA.
        cache: Folder for decoded frames, about 3 bytes per pixel; default is
            WORKDIR/frames. Runs may share it.
        init: Weights to start from, instead of random ones: a name that ships, a file,
            or hf://ORG/NAME; SUBTREE=WEIGHTS takes one part of the network, such as
            predeblur or stage1. Not used by a run that is continued.
        accept_changes: Continue a run although its settings or clips were changed.
        overwrite: Delete the run in WORKDIR, and start again. Not for a command that is
            repeated after a stop.
        dry_run: Print settings, parameters, multiply-accumulates and the memory that
            each device needs, and stop.
        profile: FIRST:LAST, write a trace of these steps to WORKDIR/profile for XProf.
        wandb: Also log to this project of Weights & Biases.
        distributed: Whether this process joins others: auto does if a launcher (Slurm,
            Open MPI, Kubernetes, TPU pod) started several.
        coordinator: Address of process 0, HOST:PORT, without a launcher.
        num_processes: Processes of the job, without a launcher.
        process_id: Number of this process, without a launcher.
        settings: The experiment.
    """

    arguments: ClassVar[tuple[str, ...]] = ()

    config: Path
    settings: Annotated[Config, tyro.conf.arg(name="")]
    data: Path | None = None
    workdir: Path | None = None
    chain: bool = False
    eval_data: Path | None = None
    cache: Path | None = None
    init: tuple[str, ...] = ()
    accept_changes: bool = False
    overwrite: bool = False
    dry_run: bool = False
    profile: str | None = None
    wandb: str | None = None
    distributed: Literal["auto", "on", "off"] = "auto"
    coordinator: str | None = None
    num_processes: int | None = None
    process_id: int | None = None

    def run(self) -> int | None:
        """Train.

        Returns:
            Exit code, see the class; None is 0.
        """
        from edvr_jax.train import (  # the extra "train"
            chain,
            dry_run,
            parallel,
            trainer,
        )

        phases = self.read_phases() if self.chain else None
        if self.dry_run:
            for phase in phases or (Phase("run", self.settings),):
                dry_run.describe(phase, log=_write_line)
            return None
        options = self._options()
        parallel.initialize(
            self.distributed,
            coordinator=self.coordinator,
            num_processes=self.num_processes,
            process_id=self.process_id,
        )
        options["log"] = _write_line if parallel.is_main() else _ignore
        try:
            if phases is None:
                trainer.train(self.settings, init=self.init, **options)
            else:
                chain.train_chain(phases, **options)
        except Stopped as stopped:
            return stopped.code
        except KeyboardInterrupt:
            return INTERRUPTED
        except FloatingPointError as error:
            sys.stderr.write(f"error: {error}; the last checkpoint is good\n")
            return 1
        return None

    def _options(self) -> dict[str, Any]:
        """Return the options of training that a run and a chain share, checked."""
        for name in ("data", "workdir"):
            if getattr(self, name) is None:
                raise InputError(f"--{name} is missing; see edvr train --help")
        if self.chain and self.init:
            raise InputError("--init does not go with --chain: its phases name theirs")
        names = [
            "data",
            "workdir",
            "eval_data",
            "cache",
            "accept_changes",
            "overwrite",
            "wandb",
        ]
        options = {name: getattr(self, name) for name in names}
        profile = None if self.profile is None else _parse_steps(self.profile)
        return {
            **options,
            "accept_changes": self.accept_changes,
            "overwrite": self.overwrite,
            "profile": profile,
            "wandb": self.wandb,
        }

    def read_phases(self) -> tuple[Phase, ...]:
        """Read the chain; settings of the command line apply to all phases.

        Raises:
            InputError: if the file has no chain.
        """
        return tuple(
            dataclasses.replace(
                phase,
                config=tyro.cli(
                    _with_default(phase.config, self.arguments),
                    args=self.arguments,
                    prog=f"edvr train, phase {phase.name}",
                ).settings,
            )
            for phase in load_chain(self.config)
        )


def _parse_steps(text: str) -> tuple[int, int]:
    first, _, last = text.partition(":")
    if not (first.isdigit() and last.isdigit() and int(first) < int(last)):
        raise InputError(f"--profile {text}: give two steps, FIRST:LAST, such as 10:20")
    return int(first), int(last)


def with_config_file(arguments: Sequence[str]) -> type[Train]:
    """Make the file after ``--config`` give the defaults of all settings.

    Args:
        arguments: The whole command line; read if its command is ``train``.

    Returns:
        The command, its ``settings`` defaulting to the file's.

    Raises:
        InputError: if the file is missing or has no ``get_config``.
    """
    path = _find_config(arguments) if arguments[:1] == ["train"] else None
    default = Config() if path is None else load_config(path)
    return _with_default(default, arguments[1:])


def _with_default(default: Config, arguments: Sequence[str]) -> type[Train]:
    field = dataclasses.field(default=default)
    # The network's class follows from the file: no subcommand chooses it.
    settings = tyro.conf.AvoidSubcommands[Config]
    return dataclasses.make_dataclass(
        "Train",
        [("settings", Annotated[settings, tyro.conf.arg(name="")], field)],
        bases=(Train,),
        frozen=True,
        kw_only=True,
        namespace={"__doc__": Train.__doc__, "arguments": tuple(arguments)},
    )


def load_config(path: Path) -> Config:
    """Run an experiment file and return the result of its ``get_config()``.

    Raises:
        InputError: if the file is missing or has no ``get_config`` to return one.
    """
    file = _run_file(path)
    if not hasattr(file, "get_config"):
        raise InputError(f"{path}: has no get_config() function")
    with _report_faults(path):
        config = file.get_config()
    if not isinstance(config, Config):
        raise InputError(f"{path}: get_config() must return a Config, see configs/")
    return config


def load_chain(path: Path) -> tuple[Phase, ...]:
    """Run an experiment file and return the result of its ``get_chain()``.

    Raises:
        InputError: if the file is missing or has no ``get_chain``.
    """
    file = _run_file(path)
    if not hasattr(file, "get_chain"):
        raise InputError(f"{path}: has no get_chain(); leave out --chain")
    with _report_faults(path):
        return file.get_chain()


def _run_file(path: Path) -> Any:
    """Run an experiment file, which may import others of its folder."""
    if path.suffix != ".py" or not path.is_file():
        raise InputError(f"{path}: no such config file; see configs/*.py")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    file = importlib.util.module_from_spec(spec)
    with _importable(path.parent), _report_faults(path):
        spec.loader.exec_module(file)
    return file


@contextlib.contextmanager
def _report_faults(path: Path) -> Iterator[None]:
    """Turn any exception of an experiment file into an InputError with its line."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except (Exception, SystemExit) as error:
        lines = [
            line
            for frame, line in traceback.walk_tb(error.__traceback__)
            if frame.f_code.co_filename == str(path)
        ]
        where = f", line {lines[-1]}" if lines else ""
        raise InputError(
            f"{path}{where}: this file cannot be run: {type(error).__name__}: "
            f"{str(error).partition(chr(10))[0]}"
        ) from None


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def _find_config(arguments: Sequence[str]) -> Path | None:
    for i, argument in enumerate(arguments):
        if argument == "--config" and i + 1 < len(arguments):
            return Path(arguments[i + 1])
        if argument.startswith("--config="):
            return Path(argument.partition("=")[2])
    return None


def _write_line(line: str) -> None:
    """Write a line to stdout; a run must not end because its reader has gone."""
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def _ignore(line: str) -> None:
    del line
