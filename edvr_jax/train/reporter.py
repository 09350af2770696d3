"""What a run reports: lines for the user, log.jsonl, TensorBoard, images, W&B."""

import dataclasses
import json
import math
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import jax
import numpy as np

from edvr_jax import files
from edvr_jax.config import Config
from edvr_jax.errors import needs_extra
from edvr_jax.train import optim, parallel, steps, workdir
from edvr_jax.train.event_file import EventFile
from edvr_jax.train.validation import FLOW_CORRELATION, Validated

Log = Callable[[str], None]

# Text for each score of a validation.
_SCORES = {
    f"psnr_{channel}{suffix}": f"{channel.upper()}-PSNR{what} {{:.2f}} dB"
    for channel in ("y", "rgb")
    for suffix, what in (
        ("", ""),
        ("_bicubic", " of bicubic"),
        ("_input", " of the input"),
        ("_still", " of copies of the center"),
    )
} | {FLOW_CORRELATION: "offsets follow motion by {:.2f}"}


class Reporter:
    """Collects the metrics of steps without waiting for them, and reports them.

    Use as a context manager: leaving it closes the log of W&B. With several processes
    only the first one writes.

    Args:
        config: The experiment.
        folder: Working directory.
        first_step: Step that the run starts from. Later lines of an existing log are
            dropped, since their steps are made again.
        log: Called with each line for the user.
        wandb_project: Also log to this project of Weights & Biases; None does not.
        has_own_loss: The loss is the user's own: its mean over windows is reported,
            and that over values for Charbonnier's.

    Attributes:
        log: As given.

    Raises:
        InputError: if W&B is requested but not installed.
        OutputError: if a file cannot be written; also by the methods.
    """

    def __init__(
        self,
        config: Config,
        folder: Path,
        first_step: int,
        log: Log,
        wandb_project: str | None = None,
        *,
        has_own_loss: bool = False,
    ):
        self._config, self._folder, self.log = config, folder, log
        optim = config.optim
        is_per_window = has_own_loss or optim.loss == "rmse" or optim.fidelity.alone
        self._num_values = 1 if is_per_window else config.data.gt_crop**2 * 3
        self._step, self._time = first_step, time.monotonic()
        self._pending: list[Mapping[str, jax.Array]] = []
        self._score = ""  # of the last validation, for later lines
        self._board = self._run = None
        if parallel.is_main():
            self._drop_lines_after(first_step)
            self._board = EventFile(folder / "tensorboard", first_step=first_step + 1)
            if wandb_project is not None:
                self._run = _start_wandb(wandb_project, config, folder)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._run is not None:
            self._run.finish()

    def add(self, step_metrics: Mapping[str, jax.Array]) -> None:
        """Take the metrics of a step."""
        self._pending.append(step_metrics)

    def rewind(self, step: int) -> None:
        """Continue from an earlier step, without the metrics since the last line."""
        self._pending, self._step = [], step

    def report_train(self, step: int) -> None:
        """Report the metrics since the last line: means, and maxima of maxima.

        Raises:
            FloatingPointError: if there is no guard and a loss or a gradient was not
                finite.
        """
        if not self._pending:
            return
        pending, self._pending = jax.device_get(self._pending), []
        if not self._config.guard.enabled:
            for name in ("loss", "grad_norm"):
                if not np.isfinite([metrics[name] for metrics in pending]).all():
                    raise FloatingPointError(f"{name} is not finite near step {step}")
        values = {name: _summary(name, pending) for name in pending[0]}
        now = time.monotonic()
        rate = (step - self._step) / max(now - self._time, 1e-9)
        self._step, self._time = step, now
        data = self._config.data
        if values["loss"] is not None:
            values["loss"] /= data.batch_size * self._num_values
        num_skipped = round(len(pending) * (values.pop("is_skipped") or 0))
        values["num_skipped"] = num_skipped
        values["lr"] = float(optim.cosine_restart_lr(step - 1, self._config.optim))
        values["windows_per_s"] = rate * data.batch_size
        self._write(step, values)
        loss = "not finite" if values["loss"] is None else f"{values['loss']:.5f}"
        skipped = f"  {num_skipped} updates skipped" if num_skipped else ""
        self.log(
            f"step {step}/{self._config.total_steps}  loss {loss}  "
            f"lr {values['lr']:.2e}{self._score}  "
            f"{values['windows_per_s']:.1f} windows/s  "
            f"{_duration((self._config.total_steps - step) / rate)} to go{skipped}"
        )

    def report_validation(self, step: int, validated: Validated) -> None:
        """Report a validation, and write the image of its crop."""
        scores = validated.scores
        if not scores:
            return
        self._write(step, scores)
        self._score = f"  {_SCORES[validated.decisive].format(validated.score)}"
        shown = [
            _SCORES[name].format(value)
            for name, value in scores.items()
            if name.startswith((validated.decisive, FLOW_CORRELATION))
        ]
        shown += [f"{x} {scores[x]:.4g}" for x in validated.own if x in scores]
        self.log(f"step {step}  validation: {', '.join(shown)}")
        if self._board is not None and validated.image is not None:
            path = self._folder / "images" / f"{step:07d}.png"
            with files.report_failure(path):
                path.parent.mkdir(exist_ok=True)
            _, png = cv2.imencode(".png", validated.image[..., ::-1])
            files.write(path, png.tobytes())
            self._board.add_image(step, "crop", validated.image)
            if self._run is not None:
                self._run.log({"crop": import_wandb().Image(str(path))}, step=step)

    def event(self, step: int, text: str) -> None:
        """Report what the guard did."""
        self._write_line(step, {"event": text})
        self.log(f"step {step}  {text}")

    def _drop_lines_after(self, step: int) -> None:
        path = self._folder / workdir.LOG
        if path.exists():
            kept = [x for x in workdir.read_log(self._folder) if x["step"] <= step]
            text = "".join(json.dumps(line) + "\n" for line in kept)
            files.write(path, text.encode())

    def _write(self, step: int, values: Mapping[str, float | None]) -> None:
        values = {  # JSON has no infinity: the PSNR of equal images
            key: None if value is None or not math.isfinite(value) else value
            for key, value in values.items()
        }
        self._write_line(step, values)
        finite = {key: value for key, value in values.items() if value is not None}
        if self._board is not None:
            self._board.add_scalars(step, finite)
        if self._run is not None:
            self._run.log(finite, step=step)

    def _write_line(self, step: int, values: Mapping[str, Any]) -> None:
        if parallel.is_main():
            path = self._folder / workdir.LOG
            with files.report_failure(path), path.open("a") as file:
                file.write(json.dumps({"step": step, **values}) + "\n")


def _summary(name: str, pending: Any) -> float | None:
    """Return the mean, or maximum, of the finite values of a metric; None without."""
    values = np.array([metrics[name] for metrics in pending], np.float64)
    values = values[np.isfinite(values)]
    if not values.size:
        return None
    return float(values.max() if name.startswith(steps.OFFSET_MAX) else values.mean())


def _duration(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "?"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def import_wandb() -> Any:
    """Import Weights & Biases.

    Raises:
        InputError: if it is not installed.
    """
    with needs_extra("wandb", "--wandb needs the package wandb"):
        import wandb  # pyright: ignore[reportMissingImports]
    return wandb


def _start_wandb(project: str, config: Config, folder: Path) -> Any:
    path = folder / workdir.WANDB_ID
    if not path.exists():
        files.write(path, secrets.token_hex(8).encode())
    return import_wandb().init(
        project=project,
        name=folder.name,
        dir=str(folder),
        id=path.read_text(),
        resume="allow",
        config=dataclasses.asdict(config),
    )
