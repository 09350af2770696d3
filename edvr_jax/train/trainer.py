"""The training loop: data, step, guard, checkpoint, validation; nothing else."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from edvr_jax import weights
from edvr_jax.config import Config
from edvr_jax.data import fingerprint
from edvr_jax.data.clips import TrainClip, open_clips
from edvr_jax.data.loader import TrainLoader
from edvr_jax.errors import InputError, Stopped, list_some
from edvr_jax.models import create_model
from edvr_jax.models import params as params_lib
from edvr_jax.train import optim, parallel, warm_start, workdir
from edvr_jax.train.checkpoint import Checkpoints
from edvr_jax.train.profiling import Profile
from edvr_jax.train.reporter import Log, Reporter, import_wandb
from edvr_jax.train.signals import StopRequest
from edvr_jax.train.state import TrainState, create_train_state, initial_state
from edvr_jax.train.validation import Validate, make_validation
from edvr_jax.weights import runs


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
        init: Weights to start from, see
            :func:`edvr_jax.train.warm_start.init_from_weights`; a run that is
            continued has its own.
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
    # Check: nothing in the folder changes before all that may be refused was checked
    _check_supported(config, place)
    with workdir.Lock(place.workdir) as lock:
        is_continued = workdir.check(
            place.workdir,
            config,
            accept_changes=place.accept_changes,
            overwrite=place.overwrite,
        )
        train_clips, val_clips = _open_clips(config, place)
        validate = make_validation(config, val_clips, place.eval_data or place.data)
        with TrainLoader(
            train_clips,
            config,
            process_index=parallel.process_index(),
            process_count=parallel.process_count(),
        ) as batches:
            run = _Run(config, place, batches, train_clips, validate, log)
            log(
                f"{len(train_clips)} training clips, {len(val_clips)} validation "
                f"clips, {jax.device_count()} devices"
            )

            def begin() -> None:
                lock.hold()
                workdir.prepare_workdir(
                    place.workdir, config, is_continued=is_continued
                )

            state = _train_checked(run, config, place, log, begin, is_continued)

    # Finish
    if parallel.is_main():
        _export(config, state, place.workdir / workdir.WEIGHTS)
    parallel.wait_for_all("weights written")
    log(f"done: {place.workdir / workdir.WEIGHTS}")
    return state


def _train_checked(
    run: "_Run",
    config: Config,
    place: Place,
    log: Log,
    begin: Callable[[], None],
    is_continued: bool,
) -> TrainState:
    """Claim the folder by ``begin`` and train to the last step.

    A run is claimed only once its checkpoint was read and fits, since that can be
    refused, too.
    """
    if not is_continued:
        run.prepare_start()
        begin()
    with Checkpoints(
        place.workdir / workdir.CHECKPOINTS,
        keep=config.keep_checkpoints,
        is_planned=functools.partial(_is_planned, config=config),
        config=config,
    ) as saved:
        is_resumed = saved.latest_step is not None
        state = run.restore(saved)
        if is_continued:
            begin()
        if is_resumed:
            log(f"resumed at step {int(state.step)}")
        with (
            Reporter(
                config, place.workdir, int(state.step), log, place.wandb
            ) as reporter,
            Profile(place.profile, place.workdir / "profile") as profile,
            StopRequest() as interruption,
        ):
            return run.loop(state, saved, reporter, profile, interruption)


def _is_validated(step: int, config: Config) -> bool:
    return step == config.total_steps or step % config.eval.every_steps == 0


def _is_planned(step: int, config: Config) -> bool:
    """Tell which steps are saved however often the run is stopped."""
    return step % config.checkpoint_every_steps == 0 or _is_validated(step, config)


class _Run:
    """The loop and what it needs; every decision but to stop follows from the state."""

    def __init__(
        self,
        config: Config,
        place: Place,
        batches: TrainLoader,
        clips: Sequence[TrainClip],
        validate: Validate,
        log: Log,
    ):
        self._config, self._place, self._log = config, place, log
        self._batches, self._validate = batches, validate
        self._prepared: TrainState | None = None
        self._clips = fingerprint.take(clips, skip_bad=config.data.skip_bad)
        self._model = create_model(config.model)
        self._optimizer = optim.create_optimizer(config.optim)
        self._step = parallel.parallel_train_step(
            model=self._model,
            optimizer=self._optimizer,
            config=config.optim,
            guard=config.guard,
        )

    def restore(self, saved: Checkpoints) -> TrainState:
        """Return the state of the newest checkpoint, else that of step 0."""
        if saved.latest_step is None:
            self._batches.set_state(TrainLoader.START)
            return self._start(saved)
        state, data_state = saved.restore(
            jax.eval_shape(self._fresh),
            check=lambda data: self._check_clips(data.get("clips")),
        )
        self._batches.set_state(data_state)
        return state

    def loop(
        self,
        state: TrainState,
        saved: Checkpoints,
        reporter: Reporter,
        profile: Profile,
        interruption: StopRequest,
    ) -> TrainState:
        """Train to the last step, from any one."""
        config, batches = self._config, self._batches
        step = int(state.step)
        if step and _is_validated(step, config) and step not in saved.scores:
            self._score(state, saved, reporter)  # the run was stopped while it did
        while step < config.total_steps:
            profile.before(step)
            state, metrics = self._step(state, parallel.shard(next(batches)))
            step += 1
            reporter.add(metrics)
            is_planned = _is_planned(step, config)
            if is_planned or step % config.log_every_steps == 0:
                saved.check()
                reporter.report_train(step)  # first: raises if not finite, unguarded
                if int(state.bad_steps) >= config.guard.patience:
                    state = self._go_back(state, saved, reporter)
                    step = int(state.step)
                    continue
            is_last = step == config.total_steps
            stop_code = interruption.stop_code(step)
            if is_last:
                stop_code = None
            # In a row of bad steps the checkpoint before it is worth more. Asking for
            # the count waits for the step, so it is asked only here.
            if (is_planned or stop_code) and (is_last or not int(state.bad_steps)):
                saved.save(state, self._data_state())
            if stop_code is not None:
                reporter.report_train(step)
                raise self._stopped(stop_code, step, saved)
            if _is_validated(step, config):
                self._score(state, saved, reporter)
        return state

    def _score(self, state: TrainState, saved: Checkpoints, reporter: Reporter) -> None:
        step = int(state.step)
        validated = self._validate(parallel.local(state.ema_params))
        reporter.report_validation(step, validated)
        if validated.score is not None:
            saved.set_score(step, validated.score)

    def _stopped(self, code: int, step: int, saved: Checkpoints) -> Stopped:
        self._log(
            f"stopped at step {step}, saved up to {saved.latest_step or 0}; run "
            "the same command, without --overwrite, to go on"
        )
        return Stopped(code)

    def _go_back(
        self, state: TrainState, saved: Checkpoints, reporter: Reporter
    ) -> TrainState:
        """Go back to a planned checkpoint, with a lower rate of offset convolutions."""
        step, count = int(state.step), int(state.rollbacks) + 1
        _check_rollbacks(count, self._config, step)
        saved.forget_unplanned()
        state = self.restore(saved).replace(rollbacks=np.int32(count))
        reporter.rewind(int(state.step))
        reporter.event(step, _describe(count, self._config, int(state.step)))
        return state

    def _fresh(self) -> TrainState:
        key = jax.random.key(self._config.seed)
        return create_train_state(key, self._model, self._optimizer, self._config.model)

    def _data_state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of the data: the place in it and the clips."""
        return {**self._batches.get_state(), "clips": self._clips}

    def _check_clips(self, before: Mapping[str, Any] | None) -> None:
        """Compare the clips with those of the checkpoint; other clips, other bits."""
        if before is None:
            self._log("note: the checkpoint does not say which clips it was trained on")
            return
        if changes := _describe_clips(before, self._clips):
            if not self._place.accept_changes:
                raise InputError(
                    f"{self._place.data}: not the clips of this run ({changes}); put "
                    "them back, or --accept-changes to continue with these"
                )
            self._log(f"note: other clips from here on: {changes}")

    def prepare_start(self) -> None:
        """Make the state at step 0: fresh, or with the parameters of weights.

        Raises:
            InputError: if the weights do not fit.
        """
        state, config, init = self._fresh(), self._config, self._place.init
        warm_start.check_prefixes(params_lib.flatten(state.params), config)
        if init:
            params, report = warm_start.init_from_weights(state.params, config, init)
            for line in report:
                self._log(line)
            state = parallel.replicate(initial_state(params, self._optimizer))
        else:
            _check_without_weights(config, self._log)
        self._prepared = state

    def _start(self, saved: Checkpoints) -> TrainState:
        """Return the state at step 0."""
        if self._prepared is None:  # back from a later step
            self.prepare_start()
        state, self._prepared = self._prepared, None
        assert state is not None
        if self._place.init:
            # Going back to it must not depend on how the run is called later.
            saved.save(state, {**TrainLoader.START, "clips": self._clips})
        return state


def _describe_clips(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Say which clips came, went or changed; "" if none did.

    Earlier checkpoints lack the digest of the contents; what they have is compared.
    """
    both = [name for name in now if name in before]
    groups = {
        "new": [name for name in now if name not in before],
        "gone": [name for name in before if name not in now],
        "changed": [n for n in both if list(before[n]) != now[n][: len(before[n])]],
    }
    return "; ".join(
        f"{what}: {list_some(names)}" for what, names in groups.items() if names
    )


def _check_supported(config: Config, place: Place) -> None:
    """Refuse what a configuration can say but training cannot do."""
    if (config.model.in_channels, config.model.out_channels) != (3, 3):
        raise InputError("clips are RGB: model.in_channels and out_channels must be 3")
    if place.wandb is not None:
        import_wandb()


def _check_without_weights(config: Config, log: Log) -> None:
    """Refuse, or remark on, what makes no sense for random parameters."""
    if config.optim.frozen:
        raise InputError(
            f"optim.frozen ({', '.join(config.optim.frozen)}) would freeze random "
            "parameters: give weights by --init, or run the whole --chain"
        )
    if config.optim.tsa_warmup_steps:
        log(
            f"note: {config.optim.tsa_warmup_steps} steps of TSA alone on random "
            "features; --init WEIGHTS or --chain start from trained ones"
        )


def _open_clips(
    config: Config, place: Place
) -> tuple[list[TrainClip], list[TrainClip]]:
    """Open the clips; only one process decodes what must be decoded first."""
    cache = place.cache or place.workdir / workdir.FRAMES
    if not parallel.is_main():
        parallel.wait_for_all("clips decoded")
        return open_clips(place.data, config, cache)
    try:
        return open_clips(place.data, config, cache)
    finally:
        parallel.wait_for_all("clips decoded")


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
        license=runs.LICENSE,
    )
