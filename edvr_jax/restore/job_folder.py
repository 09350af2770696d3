"""The folder of an unfinished job, beside its output: settings and parts."""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import filelock

from edvr_jax import files
from edvr_jax.errors import InputError

_SETTINGS, _PARTS = "job.json", "parts"
_DIGEST_LENGTH = 64  # of SHA-256


class JobFolder:
    """What a job keeps until its output is complete.

    Attributes:
        output: The output.
        parts: Folder for the parts.
        partial: What a job leaves that came not to its end, a file or a folder.
        finished: Name for the output while it is put together.
    """

    def __init__(self, output: Path):
        self.output = output
        self._path, self.partial = files.places_beside(output)
        self.parts = self._path / _PARTS
        self.finished = self._path / f"finished{output.suffix}"
        self._lock = filelock.FileLock(self._path / "lock")
        self._is_ours = False
        self._can_resume = True

    def begin(
        self,
        settings: Mapping[str, Any],
        *,
        resume: bool,
        overwrite: bool,
        can_resume: bool = True,
    ) -> dict[str, Any]:
        """Begin a job, or find the one to go on with.

        Args:
            settings: All that the restored frames depend on, ready for JSON.
            resume: Go on with an unfinished job if there is one.
            overwrite: Delete an unfinished job of other settings; one that could go on
                is never deleted.
            can_resume: The input can be read again from its start; else nothing of
                this job is of use later.

        Returns:
            What the job has remembered by :meth:`remember`; empty for a new one.

        Raises:
            InputError: if another process works on the output, or if there is an
                unfinished job that is neither to go on nor deleted.
        """
        settings = json.loads(json.dumps(settings))
        self._take_lock()
        found = self._read() if self.has_parts else None
        if found is not None and not found.get("can_resume", True):
            found = None  # of a pipe, killed
        if self.partial.exists() and found is None and not overwrite:
            raise InputError(
                f"{self.partial}: exists already; move it away, or pass --overwrite"
            )
        if found is not None:
            changes = _describe_changes(found["settings"], settings)
            if not changes and resume:
                return found["remembered"]
            if not changes:
                raise InputError(
                    f"{self.output}: an unfinished job is there; pass --resume to go "
                    f"on with it, or delete {self._path} to begin again"
                )
            if not overwrite or resume:
                raise InputError(
                    f"{self.output}: an unfinished job is there, with other settings "
                    f"({'; '.join(changes)}); give the same and --resume to go on with "
                    "it, or --overwrite alone to begin again"
                )
        with files.report_failure(self.output):
            for path in (self.parts, self.partial):
                files.remove(path)
            self.parts.mkdir()
        self._can_resume = can_resume
        self._write({"settings": settings, "remembered": {}, "can_resume": can_resume})
        return {}

    def remember(self, facts: Mapping[str, Any]) -> None:
        """Keep facts, ready for JSON, for when the job is resumed."""
        self._write({**self._read(), "remembered": dict(facts)})

    @property
    def has_parts(self) -> bool:
        """Something was restored that can be resumed."""
        return _has_parts(self.parts)

    def end(self) -> None:
        """Let go of the folder, and delete it unless it shall be resumed."""
        if not self._is_ours:
            return
        self._lock.release()
        if not (self._can_resume and self.has_parts):
            with files.report_failure(self.output):
                files.remove(self._path)

    def _take_lock(self) -> None:
        with files.report_failure(self.output):
            self._path.mkdir(exist_ok=True)
            try:
                # A file system without locks does not tell two processes apart.
                with contextlib.suppress(NotImplementedError):
                    self._lock.acquire(timeout=0)
            except filelock.Timeout:
                raise InputError(
                    f"{self.output}: another process is restoring into it; wait for "
                    "it, or choose another name"
                ) from None
        self._is_ours = True

    def _read(self) -> dict[str, Any]:
        path = self._path / _SETTINGS
        try:
            return json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise InputError(
                f"{path}: cannot be read ({error}); delete {self._path} to begin again"
            ) from None

    def _write(self, tree: Mapping[str, Any]) -> None:
        files.write(self._path / _SETTINGS, json.dumps(tree, indent=2).encode())


def has_job(output: Path) -> bool:
    """Tell whether an unfinished job can go on to write an output."""
    return _has_parts(files.places_beside(output)[0] / _PARTS)


def _has_parts(folder: Path) -> bool:
    names = [path.name for path in folder.glob("*")]
    return any(not name.startswith(("unfinished", ".")) for name in names)


def _describe_changes(old: Any, new: Any, name: str = "") -> list[str]:
    """Write the differences of two trees of settings, one for each leaf."""
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
    if name == "input":  # fingerprints say nothing to people
        return ["the input has changed"]
    return [f"{name}: {_brief(old)} -> {_brief(new)}"]


def _brief(value: Any) -> str:
    text = "none" if value is None else str(value)
    return f"{text[:8]}..." if len(text) == _DIGEST_LENGTH else text
