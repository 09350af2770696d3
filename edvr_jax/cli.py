"""The command line: ``edvr COMMAND``, and what train.py and eval.py call.

Bad input is one line on stderr and exit code 2.
"""

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import tyro

from edvr_jax.errors import InputError

# Each command is a class of the file in commands/ that has its name.
_COMMANDS = (
    *("restore", "train", "eval", "metrics", "prepare", "records", "convert"),
    *("export", "info", "selftest", "bench"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: Command line without the program's name; None is sys.argv's.

    Returns:
        Exit code: 0 done, 2 bad input, 130 interrupted, 1 the command failed.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    _use_compilation_cache()
    use_fast_cpu_convolutions()
    # Only the command that is asked for is imported: the others' libraries take time.
    names = arguments[:1] if arguments[:1] and arguments[0] in _COMMANDS else _COMMANDS
    try:
        command = tyro.extras.subcommand_cli_from_dict(
            {name: _find_command(name, arguments) for name in names},
            prog="edvr",
            description="EDVR: restore video, train, evaluate and convert weights.",
            args=arguments,
        )
        return command.run() or 0
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except OSError as error:  # such as a name that is too long
        if error.filename is None:
            raise
        sys.stderr.write(f"error: {error.filename}: {error.strerror}\n")
        return 2


def _find_command(name: str, arguments: Sequence[str]) -> Any:
    module = importlib.import_module(f"edvr_jax.commands.{name}")
    if name == "train":  # its options are those of the configuration file
        return module.with_config_file(arguments)
    return getattr(module, name.capitalize())


def _use_compilation_cache() -> None:
    """Keep compiled programs between calls, unless the user set JAX's own option."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
        jax.config.update("jax_compilation_cache_dir", str(home / "edvr_jax" / "jax"))


def use_fast_cpu_convolutions() -> None:
    """Let XLA's CPU backend convolve by Eigen, unless the user chose otherwise.

    The default of jaxlib 0.10, YNNPACK, takes up to twice the time for the sizes of
    EDVR (docs/performance.md). XLA reads the variable when it starts.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_cpu_experimental_ynn_fusion_type" not in flags:
        flag = "--xla_cpu_experimental_ynn_fusion_type=-individual_convolution"
        os.environ["XLA_FLAGS"] = f"{flags} {flag}".strip()
