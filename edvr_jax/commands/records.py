"""``edvr records``: a dataset as ArrayRecord files, fast to read at random."""

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

import tyro

from edvr_jax.config import DatasetName
from edvr_jax.data import datasets, records
from edvr_jax.errors import INTERRUPTED


@dataclasses.dataclass(frozen=True)
class Records:
    """Write a dataset as ArrayRecord files: a few large files instead of many small.

    One frame a record, image files with their original bytes, the frames of videos as
    PNG; made by tensorflow-datasets without TensorFlow. A run that was stopped goes
    on. Training and evaluation read the records, or the folders as they are.

    Attributes:
        name: The dataset; docs/data.md says what its folder must hold.
        source: Its folder.
        target: Folder for datasets: the files go to DST/NAME/1.0.0.
        skip_bad: Leave out clips that miss frames, with a warning that counts them,
            instead of stopping.
    """

    name: Annotated[DatasetName, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]
    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SRC")]
    target: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DST")]
    skip_bad: bool = False

    def run(self) -> int | None:
        """Write the records and say where they are.

        Returns:
            Exit code: None (0), or 130 after Ctrl-C.
        """
        try:
            layout = datasets.find_layout(
                self.name, self.source, is_partial=self.skip_bad
            )
            folder = records.build(self.name, layout, self.target)
        except KeyboardInterrupt:
            sys.stderr.write("\ninterrupted: run again to continue\n")
            return INTERRUPTED
        sys.stdout.write(f"{folder}: {', '.join(layout.streams)}\n")
        return None
