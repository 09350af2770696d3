"""The training loop: data, step, guard, checkpoint, validation; nothing else."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from edvr_jax import optim, parallel, warm_start, weights, workdir
from edvr_jax.checkpoint import Checkpoints
from edvr_jax.config import Config
from edvr_jax.data.clips import Clip, open_clips
from edvr_jax.data.pipeline import Batches
from edvr_jax.errors import InputError
from edvr_jax.interruption import Interruption, Stopped
from edvr_jax.models import create_model
from edvr_jax.profiling import Profile
from edvr_jax.state import TrainState, create_train_state, initial_state
from edvr_jax.validation import make_validation
from edvr_jax.watch import Log, Watch


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a run reads and writes, and how it starts there.

    Attributes:
        data: Folder of the dataset; its ground truth is sharp.
        workdir: Where checkpoints, ``config.json``, ``log.jsonl``, ``tensorboard/``,
            ``images/`` and the final ``ema.safetensors`` go. A folder that holds the
            same experiment is continued from its newest checkpoint; the result has
            the same bits as a run that was never stopped.
        eval_data: Folder of the dataset of ``eval.protocol``; None is ``data``.
        cache: Folder for decoded frames; None is ``workdir/frames``.
        init: Weights to start from, see :func:`edvr_jax.warm_start.start_from`; a run
            that is continued has its own.
        accept_changes: Go on although the configuration has changed.
        overwrite: Delete the run that is in ``workdir``, and start again.
        profile: First and last step of an XProf trace; None makes none.
        wandb: Project of Weights & Biases to log to as well; None does not.
    """

    data: Path
    workdir: Path
    eval_data: Path | None = None
    cache: Path | None = None
    init: tuple[str, ...] = ()
    accept_changes: bool = False
    overwrite: bool = False
    profile: tuple[int, int] | None = None
    wandb: str | None = None


def train(config: Config, place: Place, *, log: Log) -> TrainState:
    """Train, or go on with, one experiment.

    Args:
        config: The experiment.
        place: Data, working directory, start.
        log: Called with each line meant for the user.

    Returns:
        The final state.

    Raises:
        InputError: if the workdir holds something else, or data does not fit.
        Stopped: on Ctrl-C, SIGTERM, SIGUSR1 or a preemption notice, after a
            checkpoint has been saved.
        FloatingPointError: if training cannot go on: without a guard at the first
            loss that is not finite, with one when it has gone back too often. The
            newest checkpoint is good.
    """
    # Setup
    _check_supported(config)
    workdir.claim(
        place.workdir,
        config,
        accept_changes=place.accept_changes,
        overwrite=place.overwrite,
    )
    train_clips, val_clips = _open_clips(config, place)
    validate = make_validation(config, val_clips, place.eval_data or place.data)
    model = create_model(config.model)
    optimizer = optim.create_optimizer(config.optim)
    step_fn = parallel.parallel_train_step(
        model=model, optimizer=optimizer, config=config.optim, guard=config.guard
    )

    def is_validated(step: int) -> bool:
        return step == config.total_steps or step % config.eval.every_steps == 0

    def is_planned(step: int) -> bool:
        """Tell which steps are saved however often the run is stopped."""
        return step % config.checkpoint_every_steps == 0 or is_validated(step)

    with (
        Batches(
            train_clips,
            config,
            process_index=parallel.process_index(),
            process_count=parallel.process_count(),
        ) as batches,
        Checkpoints(
            place.workdir / workdir.CHECKPOINTS,
            keep=config.keep_checkpoints,
            is_planned=is_planned,
            config=config,
        ) as saved,
    ):
        # Restore: the newest checkpoint, else the start
        def restore() -> TrainState:
            if saved.latest_step is None:
                batches.set_state(Batches.START)
                return _start(config, model, optimizer, place.init, log)
            like = jax.eval_shape(lambda: _fresh_state(config, model, optimizer))
            state, data_state = saved.restore(like)
            batches.set_state(data_state)
            return state

        if saved.latest_step is not None:
            log(f"resumed at step {saved.latest_step}")
        state = restore()
        step = int(state.step)
        log(
            f"{len(train_clips)} training clips, {len(val_clips)} validation clips, "
            f"{jax.device_count()} devices"
        )

        # Loop
        with (
            Watch(config, place.workdir, step, log, place.wandb) as watch,
            Profile(place.profile, place.workdir / "profile") as profile,
            Interruption() as interruption,
        ):

            def validate_and_score() -> None:
                validated = validate(parallel.local(state.ema_params))
                watch.val_line(step, validated)
                if validated.score is not None:
                    saved.set_score(step, validated.score)

            if step and is_validated(step) and step not in saved.scores:
                validate_and_score()  # the run was stopped while it did
            while step < config.total_steps:
                profile.before(step)
                state, metrics = step_fn(state, parallel.shard(next(batches)))
                step += 1
                watch.add(metrics)
                is_logged = step % config.log_every_steps == 0
                # What follows but for stopping is a function of the step and state.
                if is_logged or is_planned(step):
                    watch.train_line(step)  # first: raises if not finite, unguarded
                    if int(state.bad_steps) >= config.guard.patience:
                        num_rollbacks = int(state.rollbacks) + 1
                        _check_rollbacks(num_rollbacks, config, step)
                        saved.forget_unplanned()
                        state = _go_back(restore(), num_rollbacks)
                        step_before, step = step, int(state.step)
                        watch.forget(step)
                        watch.event(step_before, _describe(num_rollbacks, config, step))
                        continue
                stop_code = interruption.stop_code(step)
                if step == config.total_steps:
                    stop_code = None
                # During a row of bad steps the run keeps the last good state.
                if (is_planned(step) or stop_code) and not int(state.bad_steps):
                    saved.save(state, batches.get_state())
                if stop_code is not None:
                    watch.train_line(step)
                    log(f"stopped at step {step}, saved; run again to go on")
                    raise Stopped(stop_code)
                if is_validated(step):
                    validate_and_score()

    # Finish
    if parallel.is_main():
        _export(config, state, place.workdir / workdir.WEIGHTS)
    parallel.wait_for_all("weights written")
    log(f"done: {place.workdir / workdir.WEIGHTS}")
    return state


def _check_supported(config: Config) -> None:
    """Refuse what a configuration can say but training cannot do."""
    if (config.model.in_channels, config.model.out_channels) != (3, 3):
        raise InputError("clips are RGB: model.in_channels and out_channels must be 3")
    if config.data.batch_size % parallel.process_count():
        raise InputError(
            f"data.batch_size ({config.data.batch_size}) must be a multiple of the "
            f"{parallel.process_count()} processes"
        )


def _open_clips(config: Config, place: Place) -> tuple[list[Clip], list[Clip]]:
    """Open the clips; only one process decodes what must be decoded first."""
    cache = place.cache or place.workdir / "frames"
    if not parallel.is_main():
        parallel.wait_for_all("clips decoded")
    clips = open_clips(place.data, config, cache)
    if parallel.is_main():
        parallel.wait_for_all("clips decoded")
    return clips


def _fresh_state(config: Config, model: Any, optimizer: Any) -> TrainState:
    size = config.model.size_multiple
    shape = (1, config.model.num_frames, size, size, config.model.in_channels)
    return create_train_state(jax.random.key(config.seed), model, optimizer, shape)


def _start(
    config: Config, model: Any, optimizer: Any, init: Sequence[str], log: Log
) -> TrainState:
    """Return the state at step 0: fresh, or with the parameters of weights."""
    fresh = _fresh_state(config, model, optimizer)
    if not init:
        return fresh
    params, report = warm_start.start_from(fresh.params, config, init)
    for line in report:
        log(line)
    return initial_state(params, optimizer)


def _go_back(state: TrainState, num_rollbacks: int) -> TrainState:
    """Mark a restored state, which lowers the rate of the offset convolutions."""
    return state.replace(rollbacks=np.int32(num_rollbacks))


def _check_rollbacks(num_rollbacks: int, config: Config, step: int) -> None:
    if num_rollbacks > config.guard.max_rollbacks:
        raise FloatingPointError(
            f"training went wrong again near step {step}, after going back "
            f"{config.guard.max_rollbacks} times (guard.max_rollbacks); look at "
            f"offset_mean and grad_norm in {workdir.LOG}, and lower optim.peak_lr or "
            "optim.offset_lr_multiplier, or set model.max_offset"
        )


def _describe(num_rollbacks: int, config: Config, step: int) -> str:
    scale = config.guard.lr_factor**num_rollbacks
    return (
        f"{config.guard.patience} bad steps in a row: back to step {step}, rate of the "
        f"offset convolutions times {scale:.3g} "
        f"({num_rollbacks} of {config.guard.max_rollbacks} times)"
    )


def _export(config: Config, state: TrainState, path: Path) -> None:
    """Write the averaged parameters as weights that every command reads."""
    weights.save_weights(
        path,
        config.model,
        jax.device_get(state.ema_params),
        origin=f"edvr_jax, {int(state.step)} steps, average of the parameters",
        license="set by the owner of the training data",
    )
