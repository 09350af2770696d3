"""The folder of an unfinished job, beside its output: settings and parts."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edvr_jax import files
from edvr_jax.errors import InputError

_SETTINGS = "job.json"


class WorkFolder:
    """What a job keeps until its output is complete.

    Attributes:
        output: The output.
        parts: Folder for the parts.
    """

    def __init__(self, output: Path):
        self.output = output
        self._path = output.with_name(f".{output.name}.restoring")
        self.parts = self._path / "parts"

    @property
    def partial(self) -> Path:
        """What a job leaves that came not to its end, a file or a folder."""
        return self.output.with_name(f"{self.output.stem}.partial{self.output.suffix}")

    def begin(
        self, settings: Mapping[str, Any], *, resume: bool, overwrite: bool
    ) -> dict[str, Any]:
        """Begin a job, or find the one to go on with.

        Args:
            settings: All that the output depends on, ready for JSON.
            resume: Go on with an unfinished job if there is one.
            overwrite: Delete an unfinished job instead.

        Returns:
            What the job has remembered by :meth:`remember`; empty for a new one.

        Raises:
            InputError: if there is an unfinished job and none of the two is asked
                for, or if it has other settings.
        """
        settings = json.loads(json.dumps(settings))
        found = self._read()
        if found is not None and not resume and not overwrite:
            raise InputError(
                f"{self.output}: an unfinished job is there; pass --resume to go on "
                "with it, or --overwrite to begin again"
            )
        if self.partial.exists() and found is None and not overwrite:
            raise InputError(
                f"{self.partial}: exists already; move it away, or pass --overwrite"
            )
        if found is None or not resume:
            self.remove()
            with files.report_failure(self.output):
                self.parts.mkdir(parents=True)
            self._write({"settings": settings, "remembered": {}})
            return {}
        changes = [
            f"{key}: {found['settings'].get(key)} -> {settings.get(key)}"
            for key in {**found["settings"], **settings}
            if found["settings"].get(key) != settings.get(key)
        ]
        if changes:
            raise InputError(
                f"{self.output}: the unfinished job has other settings "
                f"({'; '.join(changes)}); give the same, or --overwrite to begin again"
            )
        return found["remembered"]

    def remember(self, facts: Mapping[str, Any]) -> None:
        """Keep facts, ready for JSON, for when the job is resumed."""
        found = self._read()
        if found is not None:
            self._write({**found, "remembered": dict(facts)})

    @property
    def has_parts(self) -> bool:
        """Something was restored that can be resumed."""
        names = [path.name for path in self.parts.glob("*")]
        return any(not name.startswith(("unfinished", ".")) for name in names)

    def remove_if_empty(self) -> None:
        """Delete the folder of a job that has restored nothing."""
        if self._path.exists() and not self.has_parts:
            self.remove(keep_partial=True)

    def remove(self, *, keep_partial: bool = False) -> None:
        """Delete the folder, and what a stopped job has left beside the output."""
        with files.report_failure(self.output):
            if self._path.exists():
                shutil.rmtree(self._path)
            if keep_partial:
                return
            if self.partial.is_dir():
                shutil.rmtree(self.partial)
            else:
                self.partial.unlink(missing_ok=True)

    def _read(self) -> dict[str, Any] | None:
        try:
            found = json.loads((self._path / _SETTINGS).read_text())
        except (OSError, ValueError):
            return None  # killed before it began
        return found

    def _write(self, tree: Mapping[str, Any]) -> None:
        files.write(self._path / _SETTINGS, json.dumps(tree, indent=2).encode())
