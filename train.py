"""Train an experiment of ``configs/``: the same as the command ``edvr train``."""

import sys

from edvr_jax import cli

if __name__ == "__main__":
    sys.exit(cli.main(["train", *sys.argv[1:]]))
