"""Train one experiment: check, restore or start, run the loop, export."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax

from edvr_jax import weights
from edvr_jax.config import Config
from edvr_jax.data import fingerprint
from edvr_jax.data.clips import TrainClip, open_clips
from edvr_jax.data.loader import TrainLoader
from edvr_jax.data.windows import Augment
from edvr_jax.errors import InputError
from edvr_jax.evaluate.metrics import Metric
from edvr_jax.train import parallel, warm_start
from edvr_jax.train import workdir as workdir_lib
from edvr_jax.train.checkpoint import Checkpoints
from edvr_jax.train.loop import Loop
from edvr_jax.train.losses import Loss
from edvr_jax.train.parts import Parts, check_parts
from edvr_jax.train.profiling import Profile
from edvr_jax.train.reporter import Log, Reporter, import_wandb
from edvr_jax.train.signals import StopRequest
from edvr_jax.train.state import TrainState, create_train_state
from edvr_jax.train.validation import make_validation
from edvr_jax.weights import runs


def train(  # noqa: PLR0913 - the paths and choices of a run, by keyword
    config: Config,
    *,
    data: Path,
    workdir: Path,
    eval_data: Path | None = None,
    cache: Path | None = None,
    init: tuple[str, ...] = (),
    accept_changes: bool = False,
    overwrite: bool = False,
    profile: tuple[int, int] | None = None,
    wandb: str | None = None,
    model: nn.Module | None = None,
    loss: Loss | None = None,
    metrics: Mapping[str, Metric] | None = None,
    augment: Augment | None = None,
    log: Log = print,
) -> TrainState:
    """Train one experiment, or continue it.

    A run that was stopped and continued has the same bits as one that was not, also
    with parts of your own if they are the same and depend on their arguments alone.
    docs/own_parts.md has a script.

    Args:
        config: The experiment.
        data: Folder of the dataset; its ground truth is sharp.
        workdir: Folder for checkpoints, ``config.json``, ``log.jsonl``,
            ``tensorboard/``, ``images/`` and the final ``ema.safetensors``. If it holds
            this experiment already, the newest checkpoint is continued.
        eval_data: Folder of the dataset of ``eval.protocol``; None is ``data``.
        cache: Folder for decoded frames; None is ``workdir/frames``.
        init: Weights to start from, see
            :func:`edvr_jax.train.warm_start.init_from_weights`; not used by a run that
            is continued.
        accept_changes: Continue although configuration or clips have changed.
        overwrite: Delete the run in ``workdir``, and start again.
        profile: First and last step of an XProf trace; None writes none.
        wandb: Also log to this project of Weights & Biases; None does not.
        model: Module of your own in place of ``create_model(config.model)``: from
            windows [N, T, H, W, C] to restored frames [N, s*H, s*W, C].
        loss: Loss of your own in place of ``optim.loss``: ``loss(output, target)`` of
            one window, each [1, H, W, C] in [0, 1], to a scalar. The step sums it
            over the windows of the batch, and the log has the mean.
        metrics: Metrics of your own in every validation, by name: functions of a
            restored frame and the ground truth, uint8 RGB [H, W, 3], to a number.
        augment: Changes each training sample, see
            :class:`edvr_jax.data.TrainLoader`.
        log: Called with each line for the user.

    Returns:
        The final state.

    Raises:
        InputError: if the workdir holds something else, or data or a part of your own
            does not fit. Nothing in the folder has changed then, except for decoded
            frames.
        Stopped: on Ctrl-C, SIGTERM, SIGUSR1 or a preemption notice, after a
            checkpoint has been saved.
        FloatingPointError: if training cannot continue: without a guard at the first
            loss that is not finite, with one after too many rollbacks. The newest
            checkpoint is good.
    """
    _check_supported(config, wandb)
    parts = check_parts(
        config, model=model, loss=loss, metrics=metrics, augment=augment
    )
    record = parts.record(config)
    with workdir_lib.Lock(workdir) as lock:
        # Check: whatever can be refused is refused before the folder changes.
        is_continued = workdir_lib.check(
            workdir,
            config,
            parts=record,
            accept_changes=accept_changes,
            overwrite=overwrite,
        )
        cache = cache or workdir / workdir_lib.FRAMES
        loader, digests, val_clips = _open_data(config, data, cache, log, augment)
        validate = make_validation(
            config,
            val_clips,
            eval_data or data,
            model=parts.model,
            metrics=parts.metrics,
        )
        begin = functools.partial(_begin, lock, workdir, config, record, is_continued)
        start = functools.partial(
            warm_start.start_state, config, init, model=parts.model, log=log
        )
        state = None if is_continued else start()
        if state is not None:
            begin()

        # Restore: a run is continued only once its checkpoint was read and fits.
        folder = workdir / workdir_lib.CHECKPOINTS
        check = functools.partial(_check_clips, digests, data, accept_changes, log)
        with loader, Checkpoints(folder, config, clips=digests) as checkpoints:
            restore = functools.partial(
                _restore, checkpoints, loader, config, parts, start, check
            )
            if state is None:
                state = restore()
                begin()
                log(f"resumed at step {int(state.step)}")
            elif init:
                # A later rollback to step 0 must not depend on the file of weights.
                checkpoints.save(state, TrainLoader.START)

            # Loop
            with (
                Reporter(
                    config,
                    workdir,
                    int(state.step),
                    log,
                    wandb,
                    has_own_loss=loss is not None,
                ) as reporter,
                Profile(profile, workdir / "profile") as trace,
                StopRequest() as stop,
            ):
                loop = Loop(
                    config, loader, checkpoints, restore, validate, reporter, parts
                )
                state = loop.run(state, profile=trace, stop=stop)

    # Finish
    _export(config, state, parts, workdir / workdir_lib.WEIGHTS)
    log(f"done: {workdir / workdir_lib.WEIGHTS}")
    return state


def _check_supported(config: Config, wandb: str | None) -> None:
    """Refuse valid configurations that training does not support."""
    if (config.model.in_channels, config.model.out_channels) != (3, 3):
        raise InputError("clips are RGB: model.in_channels and out_channels must be 3")
    if wandb is not None:
        import_wandb()


def _open_data(
    config: Config, data: Path, cache: Path, log: Log, augment: Augment | None
) -> tuple[TrainLoader, fingerprint.Fingerprint, list[TrainClip]]:
    """Open the clips: a loader of the training ones, their digests, validation clips.

    The first process opens them first, since it decodes them into the cache.
    """
    if not parallel.is_main():
        parallel.wait_for_all("clips decoded")
    try:
        clips, val_clips = open_clips(data, config, cache)
    finally:
        if parallel.is_main():
            parallel.wait_for_all("clips decoded")
    loader = TrainLoader(
        clips,
        config,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        augment=augment,
    )
    log(
        f"{len(clips)} training clips, {len(val_clips)} validation clips, "
        f"{jax.device_count()} devices"
    )
    digests = fingerprint.take(clips, skip_bad=config.data.skip_bad)
    return loader, digests, val_clips


def _begin(
    lock: workdir_lib.Lock,
    workdir: Path,
    config: Config,
    record: Mapping[str, Any],
    is_continued: bool,
) -> None:
    lock.hold()
    workdir_lib.prepare_workdir(
        workdir, config, parts=record, is_continued=is_continued
    )


def _restore(
    checkpoints: Checkpoints,
    loader: TrainLoader,
    config: Config,
    parts: Parts,
    start: Callable[[], TrainState],
    check: Callable[[Mapping[str, Any]], None],
) -> TrainState:
    """Return the state of the newest checkpoint, or of step 0, and set the loader."""
    if checkpoints.latest_step is None:
        loader.set_state(TrainLoader.START)
        return start()
    shapes = jax.eval_shape(lambda: create_train_state(config, parts.model))
    state, position = checkpoints.restore(shapes, check)
    loader.set_state(position)
    return state


def _check_clips(
    digests: fingerprint.Fingerprint,
    data: Path,
    accept_changes: bool,
    log: Log,
    saved: Mapping[str, Any],
) -> None:
    """Compare the clips with those of a checkpoint: other clips give other bits."""
    if "clips" not in saved:
        log("note: the checkpoint does not name the clips it was trained on")
        return
    changes = fingerprint.describe_changes(saved["clips"], digests)
    if changes and not accept_changes:
        raise InputError(
            f"{data}: not the clips of this run ({changes}); put them back, or "
            "--accept-changes to continue with these"
        )
    if changes:
        log(f"note: other clips from here on: {changes}")


def _export(config: Config, state: TrainState, parts: Parts, path: Path) -> None:
    """Write the averaged parameters as weights that every command reads."""
    if parallel.is_main():
        weights.save_weights(
            path,
            config.model,
            jax.device_get(state.ema_params),
            origin=f"edvr_jax, {int(state.step)} steps, average of the parameters",
            license=runs.LICENSE,
            model=parts.model,
        )
    parallel.wait_for_all("weights written")
