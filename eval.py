"""Evaluate weights on ground-truth clips: the same as the command ``edvr eval``."""

import sys

from edvr_jax import cli

if __name__ == "__main__":
    sys.exit(cli.main(["eval", *sys.argv[1:]]))
