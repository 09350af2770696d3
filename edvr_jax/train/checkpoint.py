"""Checkpoints of a training run: the whole state, written atomically by orbax."""

import contextlib
import dataclasses
import json
import logging
import math
import re
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
from edvr_jax.models import params as params_lib
from edvr_jax.train import parallel
from edvr_jax.train.plan import plan
from edvr_jax.train.state import TrainState
from edvr_jax.weights import runs

_log = logging.getLogger(__name__)

# The checkpoint is complete, but of a state with other parts or shapes.
_OTHER_STATE = re.compile(r"tree structures do not match|not compatible with")
# Errors that may not occur at the next try.
_UNREADABLE = re.compile(r"PERMISSION_DENIED|RESOURCE_EXHAUSTED|UNAVAILABLE")


@dataclasses.dataclass(frozen=True)
class _Preserve(checkpoint_managers.PreservationPolicy):
    """Preserves the newest checkpoint, the newest planned ones, and the best one.

    Unplanned ones, saved when a run was stopped, must not displace planned ones: the
    target of a rollback must not depend on when the run was stopped. Orbax's own
    policies cannot count planned steps alone.
    """

    config: Config
    get_scores: Callable[[], Mapping[int, float]]

    def should_preserve(
        self, checkpoints: Sequence[Any], *, context: Any
    ) -> Sequence[bool]:
        """Return for each checkpoint, from old to new, whether it is preserved."""
        del context
        every, scores = [info.step for info in checkpoints], self.get_scores()
        planned = [step for step in every if plan(step, self.config).save]
        kept = {*every[-1:], *planned[-self.config.keep_checkpoints :]}
        scored = [step for step in every if step in scores]
        if scored:
            kept.add(max(scored, key=scores.__getitem__))
        return [step in kept for step in every]


class Checkpoints:
    """Numbered checkpoints in a folder; the number is ``state.step``.

    Orbax writes each under a temporary name and renames it when it is complete,
    so a kill at any moment leaves the last complete one. All processes of a job write
    their parts, and any number of processes and devices can read it. Use as a context
    manager: leaving it waits for a pending save.

    Args:
        folder: Folder of the checkpoints, made by the first save. The scores of their
            validations are stored in ``scores.json`` beside it.
        config: The experiment. It gives the planned steps and how many of them are
            kept, and is written as JSON into every checkpoint.
        clips: What identifies the training clips, written into every checkpoint.

    Attributes:
        scores: Score of each validated step; -inf if it was not finite.
    """

    def __init__(
        self, folder: Path, config: Config, *, clips: Mapping[str, Any] | None = None
    ):
        logging.getLogger("absl").setLevel(logging.CRITICAL)  # errors are raised, too
        self._folder, self._config = folder.absolute(), config
        self._constant = {} if clips is None else {"clips": clips}
        self._scores_path = folder.parent / runs.SCORES
        self.scores: dict[int, float] = runs.read_scores(self._scores_path)
        self._opened = self._open() if folder.exists() else None

    def _open(self) -> ocp.CheckpointManager:
        policy = _Preserve(self._config, lambda: self.scores)
        return ocp.CheckpointManager(
            self._folder,
            options=ocp.CheckpointManagerOptions(preservation_policy=policy),
        )

    @property
    def _manager(self) -> ocp.CheckpointManager:
        """Orbax's manager; opening it makes the folder."""
        self._opened = self._opened or self._open()
        return self._opened

    def __enter__(self):
        # Errors in orbax's threads are raised again by the next call; without this
        # hook, Python prints them as well, in hundreds of lines.
        self._hook, threading.excepthook = threading.excepthook, self._ignore_orbax
        return self

    def __exit__(self, *_):
        try:
            if self._opened is not None:
                with self._report_failure():
                    self._opened.close()
        finally:
            threading.excepthook = self._hook

    def _ignore_orbax(self, arguments: Any) -> None:
        if not type(arguments.thread).__module__.startswith("orbax."):
            self._hook(arguments)

    @property
    def latest_step(self) -> int | None:
        """Step of the newest complete checkpoint, or None."""
        return None if self._opened is None else self._opened.latest_step()

    def set_score(self, step: int, score: float) -> None:
        """Store the score of a validation; the checkpoint of the best step is kept.

        A score that is not finite, such as the PSNR of two black frames, is null in
        the file and makes no step the best.
        """
        self.scores |= {step: score if math.isfinite(score) else -math.inf}
        if parallel.is_main():
            known = {s: x if math.isfinite(x) else None for s, x in self.scores.items()}
            files.write(self._scores_path, json.dumps(known).encode())

    def save(self, state: TrainState, position: Mapping[str, Any]) -> None:
        """Save in the background, unless this step is saved already.

        Args:
            state: The state.
            position: State of the loader, plain values.
        """
        step = int(state.step)
        if step == self.latest_step:
            return
        if not parallel.is_job():
            # From one device: orbax would save a slice of each array from every device,
            # which helps only where several processes write.
            state = jax.tree.map(lambda x: x.addressable_data(0), state)
        with self._report_failure():
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state),  # pyright: ignore[reportCallIssue]
                    data=ocp.args.JsonSave({**position, **self._constant}),  # pyright: ignore[reportCallIssue]
                    config=ocp.args.JsonSave(dataclasses.asdict(self._config)),  # pyright: ignore[reportCallIssue]
                ),
            )

    def check(self) -> None:
        """Raise an error of a save in the background.

        Raises:
            ResourceError: if a checkpoint could not be written.
        """
        if self._opened is not None:
            with self._report_failure():
                self._opened.check_for_errors()

    @contextlib.contextmanager
    def _report_failure(self) -> Iterator[None]:
        """Explain in one line why a checkpoint could not be written."""
        try:
            yield
        except InputError:
            raise
        except Exception as error:  # orbax and tensorstore raise a dozen kinds
            raise ResourceError(
                f"{self._folder}: a checkpoint could not be written "
                f"({first_line(error)}); free space or repair the folder, and run the "
                f"same command again: it continues from step {self.latest_step or 0}"
            ) from None

    def delete_unplanned(self) -> None:
        """Delete checkpoints newer than the newest planned one, if there is one."""
        if self._opened is None:
            return
        self._opened.wait_until_finished()
        steps = self._opened.all_steps()
        planned = [step for step in steps if plan(step, self._config).save]
        newest = max(planned, default=self.latest_step or 0)
        for step in steps:
            if step > newest:
                self._opened.delete(step)
        self.scores = {step: s for step, s in self.scores.items() if step <= newest}

    def restore(
        self,
        like: TrainState,
        check: Callable[[Mapping[str, Any]], None] = lambda data: None,
    ) -> tuple[TrainState, dict[str, Any]]:
        """Restore the newest checkpoint that can be read.

        A damaged one, for example after a power cut, is named in a warning and renamed
        to ``damaged-STEP``.

        Args:
            like: A state of the same structure and shapes; its values are not used.
            check: Called with the loader's state and the clips before anything is
                renamed; raises if the run must not continue.

        Returns:
            The saved state, to the bit, on all devices, and the loader's state and the
            clips.

        Raises:
            InputError: if no checkpoint can be read, or the newest one is of another
                network or optimizer, or the system refuses to read it. Nothing is
                renamed then.
        """
        self._manager.wait_until_finished()
        damaged: dict[int, str] = {}
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                restored = self._restore(step, like)
            except Exception as error:  # orbax and tensorstore raise a dozen kinds
                self._refuse_undamaged(step, like, error)
                damaged[step] = first_line(error)
                continue
            check(restored[1])
            for bad_step, reason in damaged.items():
                self._rename_damaged(bad_step, reason, step)
            if damaged:
                self._manager.reload()
            return restored
        newest = max(damaged)
        raise InputError(
            f"{self._folder / str(newest)}: damaged ({damaged[newest]}), "
            "and so is every other checkpoint there; put a copy back, or start a new "
            "run from weights, with --init"
        )

    def _refuse_undamaged(self, step: int, like: TrainState, error: Exception) -> None:
        """Raise if the reason that a checkpoint cannot be read is not damage."""
        folder = self._folder / str(step)
        if _OTHER_STATE.search(str(error)):
            shapes = {k: x.shape for k, x in params_lib.flatten(like.params).items()}
            stored = runs.read_shapes(self._folder, step)
            differences = params_lib.describe_differences(stored, shapes)
            raise InputError(
                f"{folder}: written by another version of edvr_jax, or with another "
                f"{f'network ({differences})' if differences else 'optimizer'}; use "
                "those, or start a new run from weights, with --init"
            ) from None
        is_missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        is_refused = isinstance(error, OSError | MemoryError) and not is_missing
        if is_refused or _UNREADABLE.search(str(error)):
            raise ResourceError(
                f"{folder}: cannot be read ({first_line(error)}); correct that and run "
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

    def _rename_damaged(self, step: int, reason: str, good_step: int) -> None:
        """Rename it, so that its step can be saved again."""
        folder = self._folder / str(step)
        target = folder.with_name(f"damaged-{step}")
        if parallel.is_main():
            _log.warning(
                "%s is damaged (%s); renamed to %s, continued from step %d",
                folder,
                reason,
                target.name,
                good_step,
            )
            files.remove(target)
            folder.rename(target)
        parallel.wait_for_all("damaged checkpoint renamed")
