"""``edvr restore`` of a library: the clips of a folder, one after the other.

An output has its name only when it is complete, so what exists is done. Every clip is a
job with its own folder and lock, see :mod:`edvr_jax.restore.job_folder`: processes that
work on one library need nothing else in common.
"""

import contextlib
import functools
import json
import os
import sys
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edvr_jax import files
from edvr_jax.commands import library_clips
from edvr_jax.commands import output as output_lib
from edvr_jax.commands.library_clips import LibraryClip
from edvr_jax.commands.paths import check_apart, check_report, is_pipe
from edvr_jax.commands.restore_report import say
from edvr_jax.commands.restore_weights import CLEAN_WEIGHTS, NetworkLoader
from edvr_jax.commands.shard import Shard, parse_shard
from edvr_jax.errors import (
    INTERRUPTED,
    InputError,
    OutputError,
    Stopped,
    first_line,
    list_some,
)
from edvr_jax.files import places_beside
from edvr_jax.media.read.clip_reader import VIDEO_SUFFIXES
from edvr_jax.media.write.containers import CONTAINERS
from edvr_jax.media.write.writer import check_output
from edvr_jax.restore.job_folder import BusyError, JobFolder
from edvr_jax.restore.restorer import Restorer

if TYPE_CHECKING:
    from edvr_jax.commands.restore import Restore


def restore(command: "Restore", paths: Sequence[Path]) -> int:
    """Restore the clips of a library, or a share of them.

    Args:
        command: Input and output are folders; its other options are for every clip.
        paths: All clips of the library.

    Returns:
        Exit code: 0 if all clips of the share are complete, else 1.

    Raises:
        InputError: before the work, if an option or path cannot work.
        OutputError: if the disk refuses a file.
        Stopped: on Ctrl-C.
    """
    _check_options(command)
    shard = parse_shard(command.shard) if command.shard else Shard()
    clips = [library_clips.create_clip(command, path) for path in paths]
    library_clips.check_names(clips)
    library_clips.check_kinds(command, clips)
    share = shard.select(clips)
    with _folder_for(command.output):
        _check_paths(command, share)
        load: NetworkLoader = functools.cache(command.load_networks)
        _check_settings(command, share, load)
    part = f"share {shard}, {len(share)} of " if command.shard else ""
    say(f"{command.input}: {part}{_count(len(clips))}")
    return _Library(command, share, load, shard).run()


def _check_options(command: "Restore") -> None:
    folder = command.output
    if is_pipe(folder) or folder.suffix.lower() in (*CONTAINERS, *VIDEO_SUFFIXES):
        raise InputError(
            f"{command.input}: this is a folder of videos, and {folder} must be the "
            "folder for the restored ones; or name one video"
        )
    for name in ("report_html", "join"):
        if getattr(command, name):
            raise InputError(
                f"--{name.replace('_', '-')} is for one clip, but {command.input} is a "
                "folder of videos; leave it out"
            )
    check_apart(command.input, folder)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: this is a file; name a folder")
    place = folder if folder.exists() else folder.absolute().parent
    if not place.is_dir():
        raise InputError(f"{folder}: there is no folder {place}; create it first")
    if not os.access(place, os.W_OK | os.X_OK):
        raise InputError(f"{place}: this folder cannot be written; choose another one")


@contextlib.contextmanager
def _folder_for(path: Path) -> Iterator[None]:
    """Create the folder of the outputs, and delete it if the work is refused."""
    is_new = not path.exists()
    with files.report_failure(path):
        path.mkdir(exist_ok=True)  # several processes may do this at once
    try:
        yield
    except BaseException:
        if is_new:
            with contextlib.suppress(OSError):  # another process has begun
                path.rmdir()
        raise


def _check_paths(command: "Restore", share: Sequence[LibraryClip]) -> None:
    """Check all paths of a share, and that nothing unfinished would be in the way."""
    for clip in share:
        if clip.is_done:
            check_output(clip.target, overwrite=True)
        else:
            clip.command.check_paths()
    unfinished = [
        clip.path.name
        for clip in share
        if not clip.is_done and JobFolder(clip.target).is_resumable
    ]
    if unfinished and not (command.resume or command.overwrite):
        raise InputError(
            f"{command.output}: unfinished jobs exist ({list_some(unfinished)}); pass "
            "--resume to continue them"
        )
    places = {
        "input": [command.input],
        "output": [
            place
            for clip in share
            for place in (clip.target, *places_beside(clip.target))
        ],
        "weights": [Path(name) for name in command.weights or ()],
        "second stage": [Path(command.stage2)] if command.stage2 else [],
        "artifact": [command.artifact] if command.artifact else [],
    }
    overwrite = command.overwrite or command.resume
    check_report(command.report, places, overwrite=overwrite)


def _check_settings(
    command: "Restore", share: Sequence[LibraryClip], load: NetworkLoader
) -> None:
    """Check the options by the first clip of each format that can be opened."""
    command.parse_part()
    if all(clip.is_done for clip in share):
        return
    chosen = () if command.artifact is not None else command.weights
    networks, _ = load((CLEAN_WEIGHTS,) if chosen is None else chosen)
    restorer = command.create_restorer(networks)
    checked = set()
    for clip in share:
        kind = clip.target.suffix.lower() if clip.is_video else ""
        if kind not in checked and not clip.is_done and _try_formats(clip, restorer):
            checked.add(kind)


def _try_formats(clip: LibraryClip, restorer: Restorer) -> bool:
    """Choose the clip's encoding; return False if the clip cannot be opened."""
    try:
        source = clip.command.open_source()
    except InputError:
        return False  # reported when its turn comes
    with contextlib.closing(source):
        clip.command.choose_format(source, restorer, is_video=clip.is_video)
    return True


class _Library:
    """The clips of a share, and what has become of each."""

    def __init__(
        self,
        command: "Restore",
        share: Sequence[LibraryClip],
        load: NetworkLoader,
        shard: Shard,
    ):
        self._command, self._share = command, share
        self._load, self._shard = load, shard
        self._entries = [
            {
                "input": str(clip.path.absolute()),
                "output": str(clip.target.absolute()),
                "state": "waiting",
            }
            for clip in share
        ]
        self._before = _read_restored(command.report)

    def run(self) -> int:
        """Restore the clips; return the exit code."""
        try:
            for index, clip in enumerate(self._share):
                try:
                    self._restore(clip, self._entries[index], index + 1)
                finally:
                    self._write_report()
        except Stopped as stopped:
            raise Stopped(stopped.code, self._describe_stop(str(stopped))) from None
        except KeyboardInterrupt:  # between two clips
            raise Stopped(INTERRUPTED, self._describe_stop("")) from None
        self._summarize()
        return int(any(e["state"] in ("failed", "busy") for e in self._entries))

    def _restore(self, clip: LibraryClip, entry: dict[str, Any], number: int) -> None:
        """Restore a clip; the entry says what has become of it."""
        if clip.is_done:
            self._skip(clip, entry)
            return
        say(f"{number} of {len(self._share)}:")
        if not clip.path.is_dir() and clip.target.suffix != clip.path.suffix:
            say(
                f"note: {clip.path}: {clip.path.suffix} cannot be written; the output "
                f"is {clip.target}"
            )
        try:
            entry |= {**clip.command.restore(self._load), "state": "restored"}
        except OutputError as error:  # such as a full disk: others would fail, too
            entry |= {"state": "failed", "error": str(error)}
            raise
        except InputError as error:
            if clip.is_done:  # by another process, meanwhile
                self._skip(clip, entry)
                return
            state = "busy" if isinstance(error, BusyError) else "failed"
            self._fail(clip, entry, state, str(error))
        except Stopped as stopped:
            entry["state"] = "interrupted"
            raise Stopped(stopped.code, f"{clip.path}: {stopped}") from None
        except Exception as error:
            # The other clips may not meet the mistake that this one has found.
            traceback.print_exc()
            line = f"{type(error).__name__}: {first_line(error)}"
            self._fail(clip, entry, "failed", line)

    def _skip(self, clip: LibraryClip, entry: dict[str, Any]) -> None:
        say(f"{clip.target}: exists already, skipped")
        entry |= self._before.get(entry["output"], {"state": "exists"})

    def _fail(
        self, clip: LibraryClip, entry: dict[str, Any], state: str, reason: str
    ) -> None:
        named = str(clip.path) in reason or str(clip.target) in reason
        line = reason if named else f"{clip.path}: {reason}"
        say(f"error: {line}")
        entry |= {"state": state, "error": line}

    def _describe_stop(self, reason: str) -> str:
        count = Counter(entry["state"] for entry in self._entries)
        done = count["restored"] + count["exists"]
        lines = [f"{done} of {_count(len(self._share))} complete"]
        lines += [reason] if reason else []
        if "--resume" not in reason:
            lines.append("run the same command with --resume to continue")
        return "; ".join(lines)

    def _write_report(self) -> None:
        """Write the report as far as it is known, for a process that is killed."""
        if self._command.report is not None:
            tree = {
                "input": str(self._command.input.absolute()),
                "output": str(self._command.output.absolute()),
                "shard": str(self._shard),
                "states": Counter(entry["state"] for entry in self._entries),
                "clips": self._entries,
            }
            output_lib.write_json(self._command.report, tree)

    def _summarize(self) -> None:
        for entry in self._entries:
            if "error" in entry:
                say(f"not restored: {entry['error']}")
        count = Counter(entry["state"] for entry in self._entries)
        states = ", ".join(f"{number} {state}" for state, number in count.items())
        sys.stdout.write(
            f"{self._command.output}: {_count(len(self._share))}"
            f"{f': {states}' if states else ''}\n"
        )


def _count(number: int) -> str:
    return f"{number} clip{'' if number == 1 else 's'}"


def _read_restored(report: Path | None) -> dict[str, dict[str, Any]]:
    """Return what an earlier report says of clips that were restored, by output."""
    if report is None or not report.exists():
        return {}
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        entries = json.loads(report.read_text())["clips"]
        return {e["output"]: e for e in entries if e["state"] == "restored"}
    return {}
