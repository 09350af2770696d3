"""``edvr train``: train an experiment of ``configs/``, or go on with it."""

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
from edvr_jax.train import chain, dry_run, parallel, trainer


@dataclasses.dataclass(frozen=True)
class Train:
    """Train a network on a folder of clips, or go on with a run that was stopped.

    Exit codes: 0 done, 1 training went wrong and gave up, 2 bad input, 75 stopped by
    SIGTERM, SIGUSR1 or a preemption notice, 130 by Ctrl-C; the last two after saving.

    Attributes:
        config: Experiment file, such as configs/debug.py; each of its settings is an
            option below.
        data: Folder of the dataset (docs/data.md), such as a folder of sharp clips.
        workdir: Folder of the run: checkpoints, config.json, log.jsonl, TensorBoard
            files and, at the end, ema.safetensors. If it holds this run already, the
            run goes on.
        chain: Run all phases of the file's get_chain(), each in WORKDIR/NAME. Settings
            given here apply to all of them.
        eval_data: Folder of the dataset of eval.protocol; default is DATA.
        cache: Folder for decoded frames, about 3 bytes per pixel; default is
            WORKDIR/frames. Runs may share it.
        init: Weights to start from, instead of random ones: a name that ships, or a
            file; SUBTREE=WEIGHTS takes one part of the network, such as predeblur or
            stage1. Not used by a run that goes on.
        accept_changes: Go on with a run although its settings were changed.
        overwrite: Delete the run that WORKDIR holds, and start again. Not for a
            command that is run again after a stop.
        dry_run: Print settings, parameters, multiply-accumulates and the memory that
            each device needs, and stop.
        profile: FIRST:LAST, write a trace of these steps to WORKDIR/profile for XProf.
        wandb: Also log to this project of Weights & Biases.
        distributed: Whether this process joins others: auto does if a launcher (Slurm,
            Open MPI, Kubernetes, TPU pod) says so.
        coordinator: Address of process 0, HOST:PORT, if no launcher says it.
        num_processes: Processes of the job, if no launcher says it.
        process_id: Number of this process, if no launcher says it.
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
        phases = self._phases() if self.chain else None
        if self.dry_run:
            for phase in phases or (Phase("run", self.settings),):
                dry_run.describe(phase, log=_write_line)
            return None
        place = self._place()
        parallel.initialize(
            self.distributed,
            coordinator=self.coordinator,
            num_processes=self.num_processes,
            process_id=self.process_id,
        )
        log = _write_line if parallel.is_main() else _ignore
        try:
            if phases is None:
                trainer.train(self.settings, place, log=log)
            else:
                chain.train_chain(phases, place, log=log)
        except Stopped as stopped:
            return stopped.code
        except KeyboardInterrupt:
            return INTERRUPTED
        except FloatingPointError as error:
            sys.stderr.write(f"error: {error}; the last checkpoint is good\n")
            return 1
        return None

    def _place(self) -> trainer.Place:
        for name in ("data", "workdir"):
            if getattr(self, name) is None:
                raise InputError(f"--{name} is missing; see edvr train --help")
        assert self.data is not None
        assert self.workdir is not None
        return trainer.Place(
            data=self.data,
            workdir=self.workdir,
            eval_data=self.eval_data,
            cache=self.cache,
            init=self.init,
            accept_changes=self.accept_changes,
            overwrite=self.overwrite,
            profile=None if self.profile is None else _parse_steps(self.profile),
            wandb=self.wandb,
        )

    def _phases(self) -> tuple[Phase, ...]:
        """Read the chain, and apply the settings of the command line to all phases."""
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
        arguments: The whole command line; looked at if its command is ``train``.

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
    """Run an experiment file and return what its ``get_config()`` gives.

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
    """Run an experiment file and return what its ``get_chain()`` gives.

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
    """Turn whatever an experiment file raises into an InputError with its line."""
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
    """Write a line; a run does not end because nobody reads its log any more."""
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def _ignore(line: str) -> None:
    del line
