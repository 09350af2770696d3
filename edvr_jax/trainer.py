"""The training loop: data, step, log, checkpoint, validate; nothing else."""

import dataclasses
import json
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from edvr_jax import files, optim, parallel, weights
from edvr_jax.checkpoint import Checkpoints
from edvr_jax.config import Config, from_dict, to_json
from edvr_jax.data.clips import open_clips
from edvr_jax.data.pipeline import Batches
from edvr_jax.errors import InputError
from edvr_jax.models import create_model
from edvr_jax.state import TrainState, create_train_state
from edvr_jax.validation import make_validation

Log = Callable[[str], None]


def train(
    config: Config,
    *,
    data: Path,
    workdir: Path,
    cache: Path | None = None,
    init: str | None = None,
    accept_changes: bool = False,
    log: Log,
) -> TrainState:
    """Train, or go on with, one experiment.

    Args:
        config: The experiment.
        data: Folder of clips (video files or folders of frames), sharp.
        workdir: Where checkpoints, ``config.json``, ``log.jsonl`` and the final
            ``ema.safetensors`` go. A folder that holds the same experiment is
            continued from its newest checkpoint; the result has the same bits as
            a run that was never stopped.
        cache: Folder for decoded frames; None is ``workdir/frames``.
        init: Weights to start from instead of random ones, a name that ships or a
            file; a run that is continued has its own.
        accept_changes: Go on although the configuration has changed.
        log: Called with each line meant for the user.

    Returns:
        The final state.

    Raises:
        InputError: if the workdir holds something else, or data does not fit.
        KeyboardInterrupt: on Ctrl-C or SIGTERM, after a checkpoint has been saved.
        FloatingPointError: if the loss is not finite; nothing is saved after it.
    """
    # Setup
    _check_supported(config)
    parallel.local_batch_size(config.data.batch_size)  # raises if it cannot be split
    _claim_workdir(workdir, config, accept_changes)
    train_clips, val_clips = open_clips(data, config, cache or workdir / "frames")
    validate = make_validation(config, val_clips)
    model = create_model(config.model)
    optimizer = optim.create_optimizer(config.optim)
    size = config.model.size_multiple
    shape = (1, config.model.num_frames, size, size, config.model.in_channels)
    state = create_train_state(jax.random.key(config.seed), model, optimizer, shape)
    if init is not None:
        state = _start_from(state, config, init)
    step_fn = parallel.parallel_train_step(
        model=model, optimizer=optimizer, config=config.optim
    )

    batches = Batches(
        train_clips,
        config,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    with (
        batches,
        Checkpoints(
            workdir / "checkpoints", keep=config.keep_checkpoints, config=config
        ) as saved,
    ):
        # Restore: the newest checkpoint, else the fresh state
        if saved.latest_step is not None:
            state, data_state = saved.restore(state)
            batches.set_state(data_state)
            log(f"resumed at step {int(state.step)}")
        log(
            f"{len(train_clips)} training clips, {len(val_clips)} validation clips, "
            f"{jax.device_count()} devices"
        )

        # Loop
        progress = _Progress(config, workdir / "log.jsonl", int(state.step), log)
        with _Interruption() as interruption:
            for step in range(int(state.step) + 1, config.total_steps + 1):
                batch = parallel.shard(next(batches))
                state, step_metrics = step_fn(state, batch)
                progress.add(step_metrics)
                is_saved = step % config.checkpoint_every_steps == 0
                is_validated = step % config.eval.every_steps == 0
                is_last = step == config.total_steps
                is_logged = is_last or step % config.log_every_steps == 0
                if is_saved or is_validated or is_logged:
                    progress.train_line(step)  # first: raises if not finite
                if is_saved:
                    saved.save(state, batches.get_state())
                if is_validated:
                    progress.val_line(step, validate(state.ema_params))
                if interruption.is_requested:
                    progress.train_line(step)
                    saved.save(state, batches.get_state())
                    log(f"interrupted; saved step {step}, run again to go on")
                    raise KeyboardInterrupt

        # Finish
        saved.save(state, batches.get_state())
    _export(config, state, workdir / "ema.safetensors")
    log(f"done: {workdir / 'ema.safetensors'}")
    return state


def _check_supported(config: Config) -> None:
    """Refuse what a configuration can say but training cannot do yet."""
    if jax.process_count() > 1:
        raise InputError("training on several hosts is not supported yet; use one")
    if (config.model.in_channels, config.model.out_channels) != (3, 3):
        raise InputError("clips are RGB: model.in_channels and out_channels must be 3")


def _claim_workdir(workdir: Path, config: Config, accept_changes: bool) -> None:
    """Write config.json, or check that the one there is the same experiment."""
    path = workdir / "config.json"
    if workdir.exists() and not workdir.is_dir():
        raise InputError(f"{workdir} is a file; name a folder")
    if not path.exists() and workdir.exists() and any(workdir.iterdir()):
        raise InputError(f"{workdir} is not empty and holds no run; use another")
    # Before its first checkpoint a run has nothing to lose.
    if path.exists() and any((workdir / "checkpoints").glob("[0-9]*")):
        try:
            old = from_dict(Config, json.loads(path.read_text()))
        except (ValueError, TypeError) as error:
            raise InputError(f"{path} cannot be read: {error}") from None
        changes = _differences(dataclasses.asdict(old), dataclasses.asdict(config))
        if old.model != config.model:
            raise InputError(
                f"{workdir} holds a run of another network ({'; '.join(changes)}); "
                "use another --workdir"
            )
        if changes and not accept_changes:
            raise InputError(
                f"{workdir} holds a run with another configuration "
                f"({'; '.join(changes)}); use another --workdir, or "
                "--accept-changes to go on with the new one"
            )
    workdir.mkdir(parents=True, exist_ok=True)
    files.write(path, to_json(config).encode())


def _differences(
    old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = ""
) -> list[str]:
    changes = []
    for key, value in new.items():
        if isinstance(value, Mapping):
            changes += _differences(old[key], value, f"{prefix}{key}.")
        elif old[key] != value:
            changes.append(f"{prefix}{key}: {old[key]} -> {value}")
    return changes


def _start_from(state: TrainState, config: Config, init: str) -> TrainState:
    """Replace the fresh parameters and their average by those of weights."""
    found, params = weights.load_weights(init)
    if found != config.model:
        raise InputError(
            f"{init} holds another network than the configuration: {found} instead of "
            f"{config.model}"
        )
    params = jax.tree.map(jnp.asarray, params)
    return state.replace(params=params, ema_params=jax.tree.map(jnp.copy, params))


def _export(config: Config, state: TrainState, path: Path) -> None:
    """Write the averaged parameters as weights that every command reads."""
    if jax.process_index() == 0:
        weights.save_weights(
            path,
            config.model,
            jax.device_get(state.ema_params),
            origin=f"edvr_jax, {int(state.step)} steps, average of the parameters",
            license="set by the owner of the training data",
        )


class _Interruption:
    """Turns Ctrl-C and SIGTERM into a request that the loop can act on.

    An exception at any moment could strike while the state is being replaced. A
    second Ctrl-C is not held back. Outside the main thread signals stay as they are.
    """

    def __init__(self):
        self.is_requested = False
        self._previous = {}

    def __enter__(self):
        """Install the handlers."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._request)
        return self

    def __exit__(self, *_):
        """Put the previous handlers back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _request(self, number, frame):
        del number, frame
        self.is_requested = True
        signal.signal(signal.SIGINT, signal.default_int_handler)


class _Progress:
    """Lines for the user and for ``log.jsonl``, with rate and time to go."""

    def __init__(self, config: Config, path: Path, first_step: int, log: Log):
        self._config, self._path, self._log = config, path, log
        self._step, self._time = first_step, time.monotonic()
        self._pending: list[Mapping[str, jax.Array]] = []

    def add(self, step_metrics: Mapping[str, jax.Array]) -> None:
        """Take the metrics of a step, without waiting for them."""
        self._pending.append(step_metrics)

    def train_line(self, step: int) -> None:
        """Log the means of the metrics since the last line.

        Raises:
            FloatingPointError: if a loss or a gradient was not finite.
        """
        if not self._pending:
            return
        pending, self._pending = jax.device_get(self._pending), []
        values = {
            name: float(np.mean([metrics[name] for metrics in pending]))
            for name in pending[0]
        }
        for name in ("loss", "grad_norm"):
            if not np.isfinite(values[name]):
                raise FloatingPointError(f"{name} is {values[name]} near step {step}")
        data = self._config.data
        now = time.monotonic()
        rate = (step - self._step) / (now - self._time)
        self._step, self._time = step, now
        values["loss"] /= data.batch_size * data.gt_crop**2 * 3  # per value
        values["lr"] = float(optim.cosine_restart_lr(step - 1, self._config.optim))
        values["windows_per_s"] = rate * data.batch_size
        to_go = (self._config.total_steps - step) / rate
        self._write(step, values)
        self._log(
            f"step {step}/{self._config.total_steps}  loss {values['loss']:.5f}  "
            f"lr {values['lr']:.2e}  {values['windows_per_s']:.1f} windows/s  "
            f"{to_go / 60:.0f} min to go"
        )

    def val_line(self, step: int, values: Mapping[str, float]) -> None:
        """Log a validation."""
        if values:
            self._write(step, values)
            self._log(
                f"step {step}  validation: Y-PSNR {values['psnr_y']:.2f} dB, "
                f"bicubic {values['psnr_y_bicubic']:.2f} dB"
            )

    def _write(self, step: int, values: Mapping[str, float]) -> None:
        if jax.process_index() == 0:
            with self._path.open("a") as file:
                file.write(json.dumps({"step": step, **values}) + "\n")
