"""The user's own parts of a run: model, loss, metrics, augmentation.

They are plain modules and functions, passed to :func:`edvr_jax.train.train`. A run
stores their names, and the shapes of an own model's parameters, in ``parts.json``, so
that it is not continued without them.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from edvr_jax.config import Config
from edvr_jax.data.windows import Augment
from edvr_jax.errors import InputError, first_line
from edvr_jax.evaluate import metrics as metrics_lib
from edvr_jax.evaluate.metrics import Metric
from edvr_jax.models import create_model, own
from edvr_jax.models import params as params_lib
from edvr_jax.train import alignment, losses, optim
from edvr_jax.train.losses import Loss

# What else a line of the log may hold.
_LOGGED = ("step", "event", "loss", "lr", "grad_norm", "num_skipped", "windows_per_s")


@dataclasses.dataclass(frozen=True)
class Parts:
    """The user's own parts; those that are None or empty are the package's.

    Attributes:
        model: Module in place of ``create_model(config.model)``.
        loss: Loss of a window in place of the configuration's.
        metrics: Metrics beside PSNR and SSIM, by name.
        augment: Changes each training sample.
    """

    model: nn.Module | None = None
    loss: Loss | None = None
    metrics: Mapping[str, Metric] = dataclasses.field(default_factory=dict)
    augment: Augment | None = None

    def network(self, config: Config) -> nn.Module:
        """Return the module that is trained."""
        return create_model(config.model) if self.model is None else self.model

    def record(self, config: Config) -> dict[str, Any]:
        """Return what ``parts.json`` stores: what decides the bits of the run."""
        named = {"loss": self.loss, "augment": self.augment}
        found: dict[str, Any] = {k: _name(v) for k, v in named.items() if v is not None}
        if self.model is not None:
            found["model"] = own.describe(self.model)
            shapes = params_lib.shapes(config.model, self.model)
            found["shapes"] = {key: list(shape) for key, shape in shapes.items()}
        return found


def _name(part: Any) -> str:
    while isinstance(part, functools.partial):
        part = part.func
    return getattr(part, "__qualname__", type(part).__qualname__)


def check_parts(
    config: Config,
    *,
    model: nn.Module | None,
    loss: Loss | None,
    metrics: Mapping[str, Metric] | None,
    augment: Augment | None,
) -> Parts:
    """Check the user's own parts against an experiment.

    Args:
        config: The experiment.
        model: As for :func:`edvr_jax.train.train`, and so are the others.
        loss: Loss of a window.
        metrics: Metrics by name.
        augment: Changes each training sample.

    Returns:
        The parts.

    Raises:
        InputError: naming the part that does not fit.
    """
    if model is not None:
        _check_model(config, model)
    if loss is not None:
        _check_loss(config, loss)
    metrics = dict(metrics or {})
    metrics_lib.check_names(metrics, reserved=_LOGGED)
    if augment is not None and not callable(augment):
        raise InputError(f"augment must be a function, got {type(augment).__name__}")
    is_own = own.is_own(config.model, model)
    return Parts(model if is_own else None, loss, metrics, augment)


def _check_model(config: Config, model: nn.Module) -> None:
    shapes = params_lib.shapes(config.model, model)
    name = f"model {own.describe(model)}"
    if not shapes:
        raise InputError(f"{name} has no parameters to train")
    if config.optim.tsa_warmup_steps and not any(map(optim.is_fusion, shapes)):
        raise InputError(
            f"{name} has no parameters under fusion, which optim.tsa_warmup_steps "
            "would train alone; set it to 0"
        )
    if config.optim.fidelity.weight and not alignment.has_pcd(model):
        raise InputError(
            f"{name} has no PCDAlignment, whose offsets optim.fidelity guides; set "
            "its weight to 0"
        )


def _check_loss(config: Config, loss: Loss) -> None:
    if not callable(loss):
        raise InputError(f"loss must be a function, got {type(loss).__name__}")
    if config.optim.fidelity.alone:
        raise InputError("optim.fidelity.alone restores no frame: loss has no effect")
    size, channels = config.data.gt_crop, config.model.out_channels
    frame = jax.ShapeDtypeStruct((1, size, size, channels), jnp.float32)
    two = jax.ShapeDtypeStruct((2, size, size, channels), jnp.float32)
    try:
        found = jax.eval_shape(lambda x, y: jnp.asarray(loss(x, y)), frame, frame)
        is_scalar = found.shape == () and jnp.issubdtype(found.dtype, jnp.floating)
        if is_scalar:
            total = functools.partial(losses.sum_over_windows, loss)
            jax.eval_shape(jax.grad(total), two, two)
    except Exception as error:  # whatever the user's code raises
        raise InputError(
            f"loss {_name(loss)} cannot be computed for frames {list(frame.shape)}: "
            f"{type(error).__name__}: {first_line(error)}"
        ) from error
    if not is_scalar:
        raise InputError(
            f"loss {_name(loss)} must return one float for frames "
            f"{list(frame.shape)}, got {found.dtype} of shape {found.shape}"
        )
