"""Shares of one clip: what each one restores, and how they are joined.

A share is a job that ends where the next share begins. Its folder is beside that of the
whole job, and its segments have the numbers that they have in the whole. So to join the
shares is to move their segments into the whole job, which then has nothing to restore.
"""

import dataclasses
import glob
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from edvr_jax.errors import InputError
from edvr_jax.files import places_beside
from edvr_jax.restore.job_folder import JobFolder, Plans, describe_changes

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, order=True)
class Shard:
    """One of several equal shares.

    Attributes:
        number: Which one, from 1.
        count: Number of shares.
    """

    number: int = 1
    count: int = 1

    def select(self, items: Sequence[T]) -> Sequence[T]:
        """Return every item whose position belongs to this share."""
        return items[self.number - 1 :: self.count]

    def select_frames(self, num_frames: int, segment: int) -> range:
        """Return the frames of this share, successive segments of a clip.

        Args:
            num_frames: Of the clip; it may be an estimate, as the last share has no
                end and a share that the clip does not reach has no frames.
            segment: Frames in a segment.
        """
        num_segments = -(-num_frames // segment)
        first = num_segments * (self.number - 1) // self.count
        last = num_segments * self.number // self.count
        is_last = self.number == self.count
        return range(first * segment, sys.maxsize if is_last else last * segment)

    def open_folder(self, output: Path) -> JobFolder:
        """Return the folder of this share of an output."""
        return JobFolder(output, f".{self.number}-of-{self.count}")

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


def _find(output: Path) -> Iterator[tuple[Shard, JobFolder]]:
    """Yield the shares of an output that have begun."""
    place = places_beside(output)[0]
    for path in place.parent.glob(f"{glob.escape(place.name)}.*-of-*"):
        if match := re.search(r"\.(\d+)-of-(\d+)$", path.name):
            shard = Shard(int(match[1]), int(match[2]))
            folder = shard.open_folder(output)
            if folder.is_begun:
                yield shard, folder


def begin(
    mine: JobFolder,
    shard: Shard,
    settings: Mapping[str, Any],
    *,
    resume: bool,
    overwrite: bool,
) -> Plans:
    """Begin a share, or find the one to continue; see :meth:`JobFolder.begin`.

    Call it while the folder of the whole job is held.

    Args:
        mine: The folder of the share.
        shard: Which share.
        settings: See :meth:`JobFolder.begin`, and the number of shares.
        resume: See there.
        overwrite: Delete all shares of other settings.

    Returns:
        Its plans, or those of another share: other plans change results by rounding.

    Raises:
        InputError: if another share has other settings, which nothing replaces.
    """
    plans: Plans = ()
    for other, folder in _find(mine.output):
        found, known = folder.read()
        changes = describe_changes(found, settings)
        if not changes:
            plans = plans or known
        elif (overwrite and not resume) or not folder.is_resumable:
            folder.begin(settings, resume=False, overwrite=True)
            folder.end()
        elif other != shard:
            raise InputError(
                f"{mine.output}: share {other} has other settings "
                f"({'; '.join(changes)}); pass the same, or --overwrite without "
                "--resume to begin again"
            )
    return mine.begin(settings, resume=resume, overwrite=overwrite) or plans


def find_complete(
    output: Path, settings: Mapping[str, Any]
) -> tuple[list[JobFolder], dict[str, Any], Plans]:
    """Return the folders of all shares of an output, their settings and plans.

    Args:
        output: The output.
        settings: Those of the whole job. Joining needs no network, so that its device
            need not be that of the shares.

    Raises:
        InputError: if one is missing, unfinished or of other settings.
    """
    found = dict(_find(output))
    if not found:
        raise InputError(
            f"{output}: there is no share to join; in place of --join, run the same "
            "command with --shard 1/3, --shard 2/3 and --shard 3/3, or another number"
        )
    count, plans = min(found).count, ()
    shares = [Shard(number, count) for number in range(1, count + 1)]
    for shard in shares:
        if shard not in found or found[shard].num_complete is None:
            raise InputError(
                f"{output}: share {shard} is not complete; run the same command with "
                f"--shard {shard} in place of --join"
            )
        before, plans = found[shard].read()
        settings = {**settings, "device": before["device"]}
        if changes := describe_changes(before, {**settings, "shards": count}):
            raise InputError(
                f"{output}: share {shard} was restored with other settings "
                f"({'; '.join(changes)}); pass the same"
            )
    return [found[shard] for shard in shares], dict(settings), plans
