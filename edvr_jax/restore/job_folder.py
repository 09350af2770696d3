"""The hidden folder of an unfinished job, beside its output: settings and parts."""

import contextlib
import json
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import filelock

from edvr_jax import files
from edvr_jax.errors import InputError

_SETTINGS, _LOCK, _COMPLETE = "job.json", "lock", "complete"
_DIGEST_LENGTH = 64  # of SHA-256

Plans = Sequence[dict[str, Any]]


class BusyError(InputError):
    """Another process works on the output."""


class JobFolder:
    """What a job keeps until its output is complete.

    Attributes:
        output: The output.
        parts: Folder of the parts.
        partial: Partial output of an unfinished job (file or folder).
        finished: Path of the output while it is put together.
    """

    def __init__(self, output: Path, suffix: str = ""):
        """Name the folder; a suffix is for one of several that share an output."""
        self.output = output
        self._path, self.partial = files.places_beside(output)
        self._path = self._path.with_name(f"{self._path.name}{suffix}")
        files.check_name(output, self._path)
        self.parts = self._path / "parts"
        self.finished = self._path / f"finished{output.suffix}"
        self._lock = filelock.FileLock(self._path / _LOCK)
        self._is_ours = False
        self._settings: Any = None

    def begin(
        self, settings: Mapping[str, Any], *, resume: bool, overwrite: bool
    ) -> Plans:
        """Begin a job, or find the one to continue.

        Args:
            settings: Everything that the restored frames depend on, ready for JSON.
            resume: Continue an unfinished job if there is one.
            overwrite: Delete an unfinished job of other settings; one that can be
                continued is never deleted.

        Returns:
            The plans that the job has saved, see :meth:`save`; none for a new job.

        Raises:
            BusyError: if another process works on the output.
            InputError: if an unfinished job is to be neither continued nor deleted, or
                if the output exists and may not be replaced.
        """
        self._take_lock()
        if not overwrite:
            files.check_free(self.output)  # another process may have finished it
        self._settings = json.loads(json.dumps(settings))
        changes, plans = None, ()
        if self.is_resumable:
            before, plans = self.read()
            changes = describe_changes(before, self._settings)
        is_left = self.partial.exists()
        match decide(changes, is_left=is_left, resume=resume, overwrite=overwrite):
            case "continue":
                return plans
            case "partial exists":
                raise InputError(
                    f"{self.partial}: exists already; move it away, or pass --overwrite"
                )
            case "job exists":
                raise InputError(
                    f"{self.output}: an unfinished job exists; pass --resume to "
                    f"continue it, or delete {self._path} to begin again"
                )
            case "job differs":
                raise InputError(
                    f"{self.output}: an unfinished job with other settings exists "
                    f"({'; '.join(changes or ())}); pass the same and --resume to "
                    "continue it, or --overwrite alone to begin again"
                )
        self.discard(self.parts, self.partial, self._path / _SETTINGS)
        with files.report_failure(self.output):
            self.parts.mkdir()
        return ()

    def save(self, plans: Plans) -> None:
        """Save the settings and plans; without them, the job cannot be resumed."""
        job = {"settings": self._settings, "plans": plans}
        files.write(self._path / _SETTINGS, json.dumps(job, indent=2).encode())

    @property
    def is_begun(self) -> bool:
        """Whether a job has saved its settings."""
        return (self._path / _SETTINGS).exists()

    @property
    def is_resumable(self) -> bool:
        """Whether there are restored frames, and the settings to continue with."""
        return bool(self._list_parts()) and self.is_begun

    def _list_parts(self) -> list[Path]:
        hidden = "unfinished", "."
        return [p for p in self.parts.glob("*") if not p.name.startswith(hidden)]

    @property
    def num_complete(self) -> int | None:
        """Number of frames of a share that is complete; None if it is not."""
        path = self.parts / _COMPLETE
        return int(path.read_text()) if path.exists() else None

    def complete(self, num_frames: int) -> None:
        """Mark a share as complete, also one without frames."""
        files.write(self.parts / _COMPLETE, str(num_frames).encode())

    def move_parts(self, target: Path) -> None:
        """Move the parts of a complete share to the folder of those of the whole."""
        with files.report_failure(self.output):
            for path in self._list_parts():
                if path.name != _COMPLETE:
                    path.replace(target / path.name)

    def remove(self) -> None:
        """Delete the folder."""
        self.discard(self._path)

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Hold the lock for a moment; wait a minute for others that do the same."""
        self._take_lock(timeout=60)
        try:
            yield
        finally:
            self.end()

    def end(self) -> None:
        """Release the folder, and delete it unless the job can be resumed."""
        if not self._is_ours:
            return
        remains = self._path
        if not self.is_resumable:
            # Another process may begin as soon as the lock is released: it gets a new
            # folder, and the lock of the old one is void once it is deleted. Windows
            # renames no folder with an open file.
            old = self._path.with_name(f"{self._path.name}.{uuid.uuid4().hex[:8]}")
            with contextlib.suppress(OSError):
                remains = self._path.rename(old)
                (old / _LOCK).unlink()
        self._lock.release()
        if remains != self._path or not self.is_resumable:
            self.discard(remains)

    def discard(self, *paths: Path) -> None:
        """Delete files or folders, if they exist.

        Raises:
            OutputError: if the disk refuses.
        """
        with files.report_failure(self.output):
            for path in paths:
                files.remove(path)

    def _take_lock(self, timeout: float = 0) -> None:
        deadline = time.monotonic() + timeout
        with files.report_failure(self.output):
            while not self._try_lock():
                if time.monotonic() >= deadline:
                    raise BusyError(
                        f"{self.output}: another process is restoring into it; wait "
                        "for it, or choose another name"
                    )
                time.sleep(0.1)
        self._is_ours = True

    def _try_lock(self) -> bool:
        with contextlib.suppress(FileExistsError):
            self._path.mkdir()
        try:
            # On a file system without locks, two jobs cannot be kept apart.
            with contextlib.suppress(NotImplementedError):
                self._lock.acquire(timeout=0)
        # The folder comes and goes if the other process ends just now.
        except (filelock.Timeout, FileNotFoundError, FileExistsError):
            return False
        return True

    def read(self) -> tuple[Any, Plans]:
        """Return the settings and plans of an earlier job.

        Raises:
            InputError: if they cannot be read.
        """
        path = self._path / _SETTINGS
        try:
            job = json.loads(path.read_text())
            return job["settings"], job["plans"]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"{path}: cannot be read ({error}); delete {self._path} to begin again"
            ) from None


def decide(
    changes: Sequence[str] | None, *, is_left: bool, resume: bool, overwrite: bool
) -> Literal["begin", "continue", "partial exists", "job exists", "job differs"]:
    """Decide what happens to what an earlier job has left.

    Args:
        changes: How settings differ from those of an unfinished job; None if there is
            no job that can be resumed.
        is_left: Whether a partial output exists.
        resume: Continue an unfinished job if there is one.
        overwrite: Delete a partial output, or an unfinished job of other settings.

    Returns:
        What to do, or the reason to refuse.
    """
    if changes is None:
        return "partial exists" if is_left and not overwrite else "begin"
    if changes:
        return "begin" if overwrite and not resume else "job differs"
    return "continue" if resume else "job exists"


def describe_changes(old: Any, new: Mapping[str, Any]) -> list[str]:
    """List the differences of stored settings and others, one for each leaf."""
    return _describe_changes(old, json.loads(json.dumps(new)))


def _describe_changes(old: Any, new: Any, name: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            line
            for key in {**old, **new}
            for line in _describe_changes(
                old.get(key), new.get(key), f"{name} {key}".strip()
            )
        ]
    if old == new:
        return []
    if name == "input":  # fingerprints mean nothing to people
        return ["the input has changed"]
    return [f"{name}: {_brief(old)} -> {_brief(new)}"]


def _brief(value: Any) -> str:
    text = "none" if value is None else str(value)
    return f"{text[:8]}..." if len(text) == _DIGEST_LENGTH else text
