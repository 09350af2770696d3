"""Checkpoints of a training run: the whole state, atomically, by orbax."""

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import jax
import orbax.checkpoint as ocp

from edvr_jax.config import Config
from edvr_jax.errors import InputError
from edvr_jax.state import TrainState


class Checkpoints:
    """Numbered checkpoints in a folder; the number is ``state.step``.

    Orbax writes each under a temporary name and renames it when it is complete,
    so a kill at any moment leaves the last complete one. Use as a context
    manager: leaving it waits for a save that is under way.

    Args:
        folder: Where the checkpoints lie; made if needed.
        keep: Newest checkpoints to keep.
        config: Written as JSON into every checkpoint.
    """

    def __init__(self, folder: Path, *, keep: int, config: Config):
        logging.getLogger("absl").setLevel(logging.WARNING)
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True)
        self._config = dataclasses.asdict(config)
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def __enter__(self):
        """Return self."""
        return self

    def __exit__(self, *_):
        """Finish pending saves."""
        self._manager.close()

    @property
    def latest_step(self) -> int | None:
        """Step of the newest complete checkpoint, or None."""
        return self._manager.latest_step()

    def save(self, state: TrainState, data: Mapping[str, Any]) -> None:
        """Save in the background, unless this step is saved already.

        Args:
            state: The state.
            data: State of the iterator over the data, plain values.
        """
        step = int(state.step)
        if step != self.latest_step:
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state),  # pyright: ignore[reportCallIssue]
                    data=ocp.args.JsonSave(data),  # pyright: ignore[reportCallIssue]
                    config=ocp.args.JsonSave(self._config),  # pyright: ignore[reportCallIssue]
                ),
            )

    def restore(self, like: TrainState) -> tuple[TrainState, dict[str, Any]]:
        """Restore the newest checkpoint.

        Args:
            like: A state of the same structure and shapes, for example a fresh
                one; its values are not used.

        Returns:
            The saved state, to the bit, on this process's first device, and the state
            of the iterator over the data.

        Raises:
            InputError: if the checkpoint has no such iterator.
        """
        step = self.latest_step
        assert step is not None
        if "data" not in self._manager.item_metadata(step):
            raise InputError(
                f"{self._manager.directory / str(step)}: this checkpoint was written "
                "by version 0.1, whose data came in another order; start a new run "
                "from its weights with --init"
            )
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        abstract = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), like
        )
        restored = self._manager.restore(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(abstract),  # pyright: ignore[reportCallIssue]
                data=ocp.args.JsonRestore(),  # pyright: ignore[reportCallIssue]
            ),
        )
        return cast(TrainState, restored["state"]), restored["data"]
