"""An alignment, a loss, a metric and an augmentation of your own, in one script.

python examples/own_parts.py CLIPS WORKDIR

CLIPS holds clips (videos, or folders of frames), one of them named val. The same
command continues a run that was stopped or killed.
"""

import sys
from pathlib import Path

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

import edvr_jax
from edvr_jax.config import Config, DataConfig, EvalConfig, ModelConfig, OptimConfig
from edvr_jax.evaluate.evaluator import evaluate
from edvr_jax.evaluate.protocols import EvalClip, Protocol
from edvr_jax.train import train


class ConvAlignment(nn.Module):
    """Aligns by two convolutions of the neighbor beside the center frame."""

    num_features: int

    @nn.compact
    def __call__(self, neighbor, reference):
        """Align the first levels, [N*T, h, w, F], to the center's, [N, h, w, F]."""
        num_frames = len(neighbor[0]) // len(reference[0])
        center = jnp.repeat(reference[0], num_frames, axis=0)
        x = jnp.concatenate([neighbor[0], center], axis=-1)
        x = nn.relu(nn.Conv(self.num_features, (3, 3))(x))
        return nn.Conv(self.num_features, (3, 3))(x)


def edge_loss(output, target):
    """Mean absolute error of the pixels, and of their differences along x and y."""
    error = output - target
    along_y, along_x = jnp.diff(error, axis=1), jnp.diff(error, axis=2)
    return sum(jnp.abs(x).mean() for x in (error, along_y, along_x))


def mean_error(restored, truth):
    """Mean absolute error in 8-bit levels."""
    return np.abs(restored.astype(np.float32) - truth).mean()


def swap_colors(sample, rng):
    """Put the colors of a window in another order."""
    order = rng.permutation(3)
    return {**sample, "lq": sample["lq"][..., order], "gt": sample["gt"][..., order]}


NETWORK = ModelConfig(
    num_features=8,
    num_frames=3,
    num_extract_blocks=1,
    num_reconstruct_blocks=1,
    with_tsa=False,
)


def get_config(num_steps):
    """Return a tiny experiment."""
    return Config(
        model=NETWORK,
        data=DataConfig(val_clips=("val",), gt_crop=32, batch_size=4),
        optim=OptimConfig(period_steps=(num_steps,), restart_weights=(1.0,)),
        eval=EvalConfig(every_steps=10, frames_per_clip=2),
        total_steps=num_steps,
        log_every_steps=1,
        checkpoint_every_steps=5,
    )


def main(clips, workdir, num_steps=20):
    """Train, then measure, restore and export with the trained weights."""
    model = edvr_jax.create_model(NETWORK, pcd_align=ConvAlignment(8))
    metrics = {"mean_error": mean_error}
    train(
        get_config(num_steps),
        data=clips,
        workdir=workdir,
        model=model,
        loss=edge_loss,
        metrics=metrics,
        augment=swap_colors,
    )

    _, params = edvr_jax.load_weights(workdir / "ema.safetensors", model=model)
    clip = EvalClip("val", clips / "val")
    for scores in evaluate(
        NETWORK, params, [clip], protocol=Protocol(), model=model, metrics=metrics
    ):
        print(scores.name, scores.mean("model"), scores.mean("bicubic"))

    frames = edvr_jax.restore_frames(
        NETWORK, params, clip.open_gt(), model=model, dtype="uint8"
    )
    np.save(workdir / "restored.npy", np.stack(list(frames)))
    edvr_jax.export.save(workdir / "own.edvr", NETWORK, params, model=model)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
