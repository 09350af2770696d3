# pyright: strict
"""A user's program under strict type checks: the library of README and docs/.

No casts; nothing is ignored but types that JAX and Flax leave open. ``make lint``
checks it, and test_docs.py runs what takes little time.

Of the same kind as the union of load_weights and NumPy arguments: the union of Linen's
apply, modules reached by attribute (ops.conv), combine_stages of loaded weights, JAX
arrays for metrics, batches of the training step.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, assert_type

import flax.linen as nn
import jax
import numpy as np

import edvr_jax
from edvr_jax import weights
from edvr_jax.config import Config
from edvr_jax.data import TrainLoader, open_clips
from edvr_jax.evaluate import metrics
from edvr_jax.media.read import pixels
from edvr_jax.models import EDVR, Cascade
from edvr_jax.ops import conv, deform_conv2d, pixel_shuffle, resize_bilinear
from edvr_jax.restore.compiled import CompiledNetwork
from edvr_jax.restore.restorer import Restorer
from edvr_jax.train import alignment, losses, optim, parallel
from edvr_jax.train import train as train_run
from edvr_jax.train.state import TrainState


class MeanFusion(nn.Module):
    """A module in place of TSAFusion."""

    num_features: int

    @nn.compact
    def __call__(self, aligned: jax.Array) -> jax.Array:
        return nn.Conv(self.num_features, (1, 1))(aligned.mean(axis=1))


def restore_by_name(clip: np.ndarray) -> Iterator[np.ndarray]:
    """Restore by weights that ship: their name says which network it is."""
    config, params = edvr_jax.load_weights("edvr_s_x4")
    assert_type(config, edvr_jax.ModelConfig)
    model = edvr_jax.create_model(config)
    assert_type(model, EDVR)
    options = edvr_jax.ops.conv.compiler_options()
    apply = jax.jit(model.apply, compiler_options=options)  # pyright: ignore[reportUnknownMemberType]
    apply({"params": params}, clip[None, : config.num_frames] / np.float32(255))
    return edvr_jax.restore_frames(
        config, params, clip, tile="auto", scene_cuts=True, dtype="uint8"
    )


def restore_by_file(path: Path, frames: jax.Array) -> Iterator[np.ndarray]:
    """Restore by the weights of a file: only the file knows which network it is."""
    config, params = edvr_jax.load_weights(path)
    assert_type(config, edvr_jax.NetworkConfig)
    model = edvr_jax.create_model(config.with_dtype("float32"))
    assert_type(model, EDVR | Cascade)
    window = frames[: config.num_frames]
    assert_type(model.apply({"params": params}, window[None]), jax.Array)
    edvr_jax.save_weights(path, config, params, origin="here", license="none")
    return edvr_jax.restore_frames(config, params, frames, model=model)


def replace_a_module(config: edvr_jax.ModelConfig, frames: np.ndarray) -> Any:
    """Initialize a network with another fusion."""
    model = edvr_jax.create_model(config, fusion=MeanFusion(config.num_features))
    variables: Any = jax.eval_shape(model.init, jax.random.key(0), frames)  # pyright: ignore[reportUnknownMemberType]
    assert_type(model.apply(variables, frames, method="align"), Any)
    return variables["params"]


def join(first: Path, second: Path, joined: Path) -> None:
    """Make a cascade of two files."""
    config, params = weights.combine_stages(
        edvr_jax.load_weights(first), edvr_jax.load_weights(second)
    )
    cascade = edvr_jax.create_model(config)
    assert_type(cascade, Cascade)
    assert_type(Cascade(stage1=cascade.stage1, stage2=cascade.stage2), Cascade)
    edvr_jax.save_weights(joined, config, params, origin="here", license="none")


def convert(path: Path, config: edvr_jax.ModelConfig, params: Any) -> None:
    """Write weights for PyTorch and read them again."""
    edvr_jax.to_torch(config, params, path, layout="basicsr")
    found, arrays = edvr_jax.from_torch(path)
    assert_type(found, edvr_jax.ModelConfig)
    assert weights.fingerprint(arrays) == weights.fingerprint(params)
    try:
        edvr_jax.load_weights(path.with_name("missing"))
    except edvr_jax.InputError as error:
        path.with_suffix(".txt").write_text(f"{edvr_jax.__version__}: {error}")


def export(path: Path, config: edvr_jax.ModelConfig, params: Any) -> None:
    """Write both kinds of files, and restore by the artifact."""
    edvr_jax.export.save_onnx(path.with_suffix(".onnx"), config, params)
    edvr_jax.export.save(path, config, params, platforms=["cpu"])
    networks, _ = edvr_jax.export.load(path)
    assert_type(networks, list[CompiledNetwork])
    for frame in Restorer(networks)(np.zeros((1, 8, 8, 3), np.uint8)):
        assert frame.dtype == np.float32


def train(config: Config, state: TrainState, batch: dict[str, np.ndarray]) -> float:
    """Make a step of training on all devices."""
    step = parallel.ParallelTrainStep(
        config=config.optim,
        model=edvr_jax.create_model(config.model),
        optimizer=optim.create_optimizer(config.optim),
        guard=config.guard,
    )
    state, measured = step(state, parallel.shard(batch))
    return float(measured["loss"]) / int(state.step)


def square_error(output: jax.Array, target: jax.Array) -> jax.Array:
    """A loss of a user's own."""
    return ((output - target) ** 2).mean()


def brightest(restored: np.ndarray, truth: np.ndarray) -> float:
    """A metric of a user's own."""
    return float(max(restored.max(), truth.max()))


def train_own(config: Config, network: edvr_jax.ModelConfig, folder: Path) -> None:
    """Train with a user's own parts, and use the weights."""
    model = edvr_jax.create_model(network, fusion=MeanFusion(network.num_features))
    train_run(
        config,
        data=folder,
        workdir=folder / "run",
        model=model,
        loss=square_error,
        metrics={"brightest": brightest},
        augment=lambda sample, rng: {k: rng.permuted(x) for k, x in sample.items()},
    )
    _, params = edvr_jax.load_weights(folder / "run", model=model)
    edvr_jax.export.save(folder / "own.edvr", network, params, model=model)
    clips, _ = open_clips(folder, config, folder / "cache")
    with TrainLoader(clips, config) as batches:
        assert_type(next(batches), dict[str, np.ndarray])


def operate(x: np.ndarray) -> None:
    """Call operators and losses with arrays of NumPy and of JAX."""
    offset, mask = np.zeros((*x.shape[:3], 1, 9, 2)), np.ones((*x.shape[:3], 1, 9))
    kernel = np.ones((3, 3, x.shape[3], 4), np.float32)

    def loss(x: jax.Array) -> jax.Array:
        y = deform_conv2d(x, offset, mask, kernel, np.zeros(4))
        y = resize_bilinear(pixel_shuffle(y, 2), 2)
        return losses.charbonnier(y, np.zeros(y.shape), weight=np.ones(len(y)))

    jax.grad(loss)(resize_bilinear(x, 1))  # pyright: ignore[reportUnknownMemberType]
    assert_type(deform_conv2d(x, offset, mask, kernel), jax.Array)
    assert_type(pixel_shuffle(np.ones((1, 2, 2, 4)), 2), jax.Array)
    assert_type(conv.conv2d(x.astype(np.float32), kernel), jax.Array)
    flow = np.zeros((1, 3, 4, 4, 2))
    assert_type(losses.offset_fidelity(flow, flow, weight=np.ones(1)), jax.Array)
    assert_type(alignment.correlation(flow, flow), float)


def measure(gt: np.ndarray) -> None:
    """Compare an image of JAX with one of NumPy."""
    restored = resize_bilinear(gt[None], 1)[0]
    assert_type(metrics.psnr(restored, gt, channel="y"), float)
    assert_type(metrics.ssim(gt, restored, crop_border=1), float)
    assert_type(pixels.to_uint8(restored), np.ndarray)
