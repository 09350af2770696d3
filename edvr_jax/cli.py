"""The command line: ``edvr COMMAND``, and what train.py and eval.py call.

Bad input is one line on stderr and exit code 2.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import jax
import tyro

from edvr_jax.commands import train
from edvr_jax.commands.convert import Convert
from edvr_jax.commands.eval import Eval
from edvr_jax.commands.info import Info
from edvr_jax.commands.metrics import Metrics
from edvr_jax.commands.prepare import Prepare
from edvr_jax.commands.records import Records
from edvr_jax.commands.restore import Restore
from edvr_jax.commands.selftest import Selftest
from edvr_jax.errors import InputError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: Command line without the program's name; None is sys.argv's.

    Returns:
        Exit code: 0 done, 2 bad input, 130 interrupted, 1 the command failed.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    _use_compilation_cache()
    try:
        command = tyro.extras.subcommand_cli_from_dict(
            {
                "restore": Restore,
                "train": train.with_config_file(arguments),
                "eval": Eval,
                "metrics": Metrics,
                "prepare": Prepare,
                "records": Records,
                "convert": Convert,
                "info": Info,
                "selftest": Selftest,
            },
            prog="edvr",
            description="EDVR: restore video, train, evaluate and convert weights.",
            args=arguments,
        )
        return command.run() or 0
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2


def _use_compilation_cache() -> None:
    """Keep compiled programs between calls, unless the user set JAX's own option."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
        jax.config.update("jax_compilation_cache_dir", str(home / "edvr_jax" / "jax"))
