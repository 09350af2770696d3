"""Checkpoints of a training run: the whole state, atomically, by orbax."""

import contextlib
import dataclasses
import json
import logging
import math
import re
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from edvr_jax import files
from edvr_jax.config import Config
from edvr_jax.errors import InputError, ResourceError, first_line
from edvr_jax.train import parallel
from edvr_jax.train.state import TrainState
from edvr_jax.weights import runs

_log = logging.getLogger(__name__)

# The state has other parts or shapes than the program's: nothing is damaged.
_OTHER_STATE = re.compile(r"tree structures do not match|not compatible with")
# What may be gone at the next try.
_UNREADABLE = re.compile(r"PERMISSION_DENIED|RESOURCE_EXHAUSTED|UNAVAILABLE")


@dataclasses.dataclass(frozen=True)
class _Kept(checkpoint_managers.PreservationPolicy):
    """Keeps the newest checkpoint, the newest planned ones, and the best one.

    Unplanned ones, saved when a run was stopped, do not push out planned ones: those
    a run goes back to must not depend on when it was stopped.
    """

    count: int
    is_planned: Callable[[int], bool]
    get_scores: Callable[[], Mapping[int, float]]

    def should_preserve(
        self, checkpoints: Sequence[Any], *, context: Any
    ) -> Sequence[bool]:
        """Tell for each checkpoint, from old to new, whether it stays."""
        del context
        planned = [info.step for info in checkpoints if self.is_planned(info.step)]
        kept = {checkpoints[-1].step, *planned[-self.count :]} if checkpoints else {0}
        scores = self.get_scores()
        scored = [info.step for info in checkpoints if info.step in scores]
        if scored:
            kept.add(max(scored, key=scores.__getitem__))
        return [info.step in kept for info in checkpoints]


class Checkpoints:
    """Numbered checkpoints in a folder; the number is ``state.step``.

    Orbax writes each under a temporary name and renames it when it is complete,
    so a kill at any moment leaves the last complete one. All processes of a job write
    their parts, and any number of processes and devices can read it. Use as a context
    manager: leaving it waits for a save that is under way.

    Args:
        folder: Where the checkpoints lie; made if needed. The scores of their
            validations go to ``scores.json`` beside it.
        keep: Newest planned checkpoints to keep; the one with the best score and the
            newest of all stay beside them.
        is_planned: Tells whether a run saves this step however often it is stopped.
        config: Written as JSON into every checkpoint.
    """

    def __init__(
        self,
        folder: Path,
        *,
        keep: int,
        is_planned: Callable[[int], bool],
        config: Config,
    ):
        logging.getLogger("absl").setLevel(logging.CRITICAL)  # errors are raised, too
        self._scores_path = folder.parent / runs.SCORES
        self.scores: dict[int, float] = runs.read_scores(self._scores_path)
        options = ocp.CheckpointManagerOptions(
            create=True,
            preservation_policy=_Kept(keep, is_planned, lambda: self.scores),
        )
        self._is_planned = is_planned
        self._config = dataclasses.asdict(config)
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def __enter__(self):
        """Return self."""
        # What happens in orbax's threads is raised again by the next call; without
        # this, Python prints it as well, in hundreds of lines.
        self._hook, threading.excepthook = threading.excepthook, self._ignore_orbax
        return self

    def __exit__(self, *_):
        """Finish pending saves."""
        try:
            with self._report_failure():
                self._manager.close()
        finally:
            threading.excepthook = self._hook

    def _ignore_orbax(self, arguments: Any) -> None:
        if not type(arguments.thread).__module__.startswith("orbax."):
            self._hook(arguments)

    @property
    def latest_step(self) -> int | None:
        """Step of the newest complete checkpoint, or None."""
        return self._manager.latest_step()

    def set_score(self, step: int, score: float) -> None:
        """Keep the result of a validation; the best step's checkpoint stays.

        One that is not finite, as of a network that returned the ground truth of black
        frames, makes no step the best; the file has null for it.
        """
        self.scores |= {step: score if math.isfinite(score) else -math.inf}
        if parallel.is_main():
            known = {s: x if math.isfinite(x) else None for s, x in self.scores.items()}
            files.write(self._scores_path, json.dumps(known).encode())

    def save(self, state: TrainState, data: Mapping[str, Any]) -> None:
        """Save in the background, unless this step is saved already.

        Args:
            state: The state.
            data: State of the iterator over the data, plain values.
        """
        step = int(state.step)
        if step == self.latest_step:
            return
        with self._report_failure():
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state),  # pyright: ignore[reportCallIssue]
                    data=ocp.args.JsonSave(data),  # pyright: ignore[reportCallIssue]
                    config=ocp.args.JsonSave(self._config),  # pyright: ignore[reportCallIssue]
                ),
            )

    def check(self) -> None:
        """Raise what a save in the background ran into.

        Raises:
            ResourceError: if a checkpoint could not be written.
        """
        with self._report_failure():
            self._manager.check_for_errors()

    @contextlib.contextmanager
    def _report_failure(self) -> Iterator[None]:
        """Explain in one line why a checkpoint could not be written."""
        try:
            yield
        except InputError:
            raise
        except Exception as error:  # orbax and tensorstore raise a dozen kinds
            raise ResourceError(
                f"{self._manager.directory}: a checkpoint could not be written "
                f"({first_line(error)}); free space or mend the folder, and run the "
                f"same command again: it continues from step {self.latest_step or 0}"
            ) from None

    def forget_unplanned(self) -> None:
        """Delete what is newer than the newest planned checkpoint, if there is one."""
        self._manager.wait_until_finished()
        planned = [s for s in self._manager.all_steps() if self._is_planned(s)]
        newest = max(planned, default=self.latest_step or 0)
        if parallel.is_main():
            for step in self._manager.all_steps():
                if step > newest:
                    self._delete(step)
        parallel.wait_for_all("unplanned checkpoints deleted")
        self._manager.reload()
        self.scores = {step: s for step, s in self.scores.items() if step <= newest}

    def _delete(self, step: int) -> None:
        """Delete so that a kill in between leaves no checkpoint without files."""
        folder = Path(self._manager.directory) / str(step)
        shutil.rmtree(folder.rename(f"{folder}.orbax-checkpoint-tmp"))

    def restore(
        self,
        like: TrainState,
        check: Callable[[Mapping[str, Any]], None] = lambda data: None,
    ) -> tuple[TrainState, dict[str, Any]]:
        """Restore the newest checkpoint that can be read.

        One that is damaged, for example by a power cut, is named in a warning and put
        aside as ``damaged-STEP``.

        Args:
            like: A state of the same structure and shapes, for example a fresh
                one; its values are not used.
            check: Called with the state of the iterator over the data before anything
                is renamed; raises if the run must not continue.

        Returns:
            The saved state, to the bit, on all devices, and the state of the iterator
            over the data.

        Raises:
            InputError: if no checkpoint can be read, or the newest one is of another
                network or optimizer, or the system does not let it be read; nothing
                is renamed then.
        """
        self._manager.wait_until_finished()
        damaged: dict[int, str] = {}
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                restored = self._restore(step, like)
            except Exception as error:  # orbax and tensorstore raise a dozen kinds
                self._refuse_undamaged(step, error)
                damaged[step] = first_line(error)
                continue
            check(restored[1])
            for bad_step, reason in damaged.items():
                self._put_aside(bad_step, reason, step)
            if damaged:
                self._manager.reload()
            return restored
        newest = max(damaged)
        raise InputError(
            f"{self._manager.directory / str(newest)}: damaged ({damaged[newest]}), "
            "and so is every other checkpoint there; put a copy back, or start a new "
            "run from weights, with --init"
        )

    def _refuse_undamaged(self, step: int, error: Exception) -> None:
        """Raise if a checkpoint was not read for another reason than damage."""
        folder = self._manager.directory / str(step)
        if _OTHER_STATE.search(str(error)):
            raise InputError(
                f"{folder}: written by another version of edvr_jax, or with another "
                "optimizer; use those, or start a new run from weights, with --init"
            ) from None
        is_missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        is_refused = isinstance(error, OSError | MemoryError) and not is_missing
        if is_refused or _UNREADABLE.search(str(error)):
            raise ResourceError(
                f"{folder}: cannot be read ({first_line(error)}); mend that and run "
                "the same command again, or move the folder away to continue from "
                "the checkpoint before it"
            ) from None

    def _restore(
        self, step: int, like: TrainState
    ) -> tuple[TrainState, dict[str, Any]]:
        sharding = parallel.replicated()
        abstract = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), like
        )
        restored = self._manager.restore(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(abstract),  # pyright: ignore[reportCallIssue]
                data=ocp.args.JsonRestore(),  # pyright: ignore[reportCallIssue]
            ),
        )
        return cast(TrainState, restored["state"]), restored["data"]

    def _put_aside(self, step: int, reason: str, good_step: int) -> None:
        """Rename a damaged checkpoint, so that its step can be saved again."""
        folder = Path(self._manager.directory) / str(step)
        target = folder.with_name(f"damaged-{step}")
        if parallel.is_main():
            _log.warning(
                "%s is damaged (%s); continued from step %d, and renamed it to %s",
                folder,
                reason,
                good_step,
                target.name,
            )
            files.remove(target)
            folder.rename(target)
        parallel.wait_for_all("damaged checkpoint renamed")
