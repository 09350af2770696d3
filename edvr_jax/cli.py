"""The command line: ``edvr COMMAND``, and what train.py and eval.py call.

Bad input is one line on stderr and exit code 2.
"""

import contextlib
import errno
import importlib
import io
import logging
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import tyro

import edvr_jax
from edvr_jax import progress
from edvr_jax.errors import INTERRUPTED, InputError

# Each command is a class of the file in commands/ that has its name.
_COMMANDS = (
    *("restore", "train", "eval", "metrics", "prepare", "records", "convert"),
    *("export", "info", "selftest", "bench"),
)

READER_ENDED = 141  # as a shell says it of SIGPIPE
_OUTPUT_ERRORS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
    *(errno.EIO, errno.EBADF),
)
_MIN_WIDTH = 40  # columns; below 8, tyro wraps its help without end


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: Command line without the program's name; None is sys.argv's.

    Returns:
        Exit code, see :func:`run`.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    return run(lambda: _run(arguments))


def run(work: Callable[[], int | None]) -> int:
    """Do a program's work, and say in one line what is wrong with its input.

    Args:
        work: Returns an exit code; None is 0.

    Returns:
        Exit code: that of the work, 2 bad input, 130 interrupted, 141 the reader of the
        output has ended.
    """
    _prepare_streams()
    logging.basicConfig(format="%(message)s", handlers=[progress.LogHandler()])
    use_fast_cpu_convolutions()
    try:
        _use_compilation_cache()
        code = work()
        sys.stdout.flush()
        return code or 0
    except InputError as error:
        sys.stderr.write(f"error: {_printable(str(error))}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted\n")
        return INTERRUPTED
    except BrokenPipeError:  # edvr ... | head
        _discard_output()
        return READER_ENDED
    except OSError as error:
        if error.filename is None and error.errno not in _OUTPUT_ERRORS:
            raise
        # Such as a name that is too long, or a full disk behind the output.
        name = error.filename or "the output of this command"
        sys.stderr.write(f"error: {_printable(str(name))}: {error.strerror}\n")
        _discard_output()
        return 2
    except (RuntimeError, AssertionError):
        reason = _missing_platform()
        if reason is None:
            raise
        sys.stderr.write(f"error: {reason}\n")
        return 2


def _prepare_streams() -> None:
    """Make streams usable that the caller closed, or that cannot encode a file's name.

    Also widens a terminal that is too narrow for any text.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115
        elif mode == "w" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if shutil.get_terminal_size().columns < _MIN_WIDTH:
        os.environ["COLUMNS"] = str(_MIN_WIDTH)


def _run(arguments: Sequence[str]) -> int | None:
    if arguments == ["--version"]:
        sys.stdout.write(f"edvr_jax {edvr_jax.__version__}\n")
        return 0
    # Only the command in question is imported: the others' libraries take time.
    names = arguments[:1] if arguments[:1] and arguments[0] in _COMMANDS else _COMMANDS
    command = tyro.extras.subcommand_cli_from_dict(
        {name: _find_command(name, arguments) for name in names},
        prog="edvr",
        description="EDVR: restore video, train, evaluate and convert weights. "
        "--version prints the version.",
        args=arguments,
    )
    return command.run()


def _printable(text: str) -> str:
    """Escape what a terminal would obey, such as colors in the name of a file."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _discard_output() -> None:
    """Let Python's own flush at the end of the process write nowhere."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _missing_platform() -> str | None:
    """Explain why JAX has no device, or None if it has one."""
    platforms = os.environ.get("JAX_PLATFORMS", "")
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        reason = (str(error).splitlines() or ["no device"])[0]
        return (
            f"JAX cannot use the platform {platforms or 'of this machine'} ({reason}); "
            "install JAX for it, or set JAX_PLATFORMS=cpu"
        )
    return None


def _find_command(name: str, arguments: Sequence[str]) -> Any:
    module = importlib.import_module(f"edvr_jax.commands.{name}")
    if name == "train":  # its options are those of the configuration file
        return module.with_config_file(arguments)
    return getattr(module, name.capitalize())


def _use_compilation_cache() -> None:
    """Keep compiled programs between calls, unless the user set JAX's own option.

    A folder that cannot be written is no reason to stop: programs are compiled anew.
    """
    given = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    home = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    folder = Path(given or f"{home}/edvr_jax/jax")
    if "://" in str(given):  # storage that is no folder
        return
    try:
        folder = folder if given else folder.expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        is_writable = os.access(folder, os.W_OK)
    except (OSError, RuntimeError):  # the second: a user without a home
        is_writable = False
    if given and not is_writable:
        sys.stderr.write(
            f"note: {folder} (JAX_COMPILATION_CACHE_DIR) cannot be written; compiled "
            "programs are not kept\n"
        )
    jax.config.update("jax_compilation_cache_dir", str(folder) if is_writable else None)


def use_fast_cpu_convolutions() -> None:
    """Let XLA's CPU backend convolve by Eigen, unless the user chose otherwise.

    The default of jaxlib 0.10, YNNPACK, takes up to twice the time for the sizes of
    EDVR (docs/performance.md). XLA reads the variable when it starts.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_cpu_experimental_ynn_fusion_type" not in flags:
        flag = "--xla_cpu_experimental_ynn_fusion_type=-individual_convolution"
        os.environ["XLA_FLAGS"] = f"{flags} {flag}".strip()


if __name__ == "__main__":
    sys.exit(main())
