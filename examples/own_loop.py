"""A training loop of your own: the clips and windows of edvr_jax, and optax.

python examples/own_loop.py CLIPS CACHE

CLIPS holds clips (videos, or folders of frames); CACHE gets the frames of videos.
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import optax

import edvr_jax
from edvr_jax.config import Config, DataConfig, ModelConfig
from edvr_jax.data import TrainLoader, open_clips


def main(clips, cache, num_steps=20):
    """Train a small network, and return its parameters and the losses."""
    network = ModelConfig(
        num_features=8,
        num_frames=3,
        deformable_groups=2,
        num_extract_blocks=1,
        num_reconstruct_blocks=1,
    )
    config = Config(model=network, data=DataConfig(gt_crop=32, batch_size=4))
    model, optimizer = edvr_jax.create_model(network), optax.adamw(1e-3)

    @jax.jit
    def step(params, opt_state, batch):
        lq, gt = batch["lq"] / 255, batch["gt"] / 255  # uint8 to [0, 1]

        def loss_fn(params):
            return jnp.abs(model.apply({"params": params}, lq) - gt).mean()

        loss, grads = jax.value_and_grad(loss_fn)(params)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, loss

    train_clips, _ = open_clips(clips, config, cache)
    with TrainLoader(train_clips, config) as batches:
        window = next(batches)["lq"][:1] / 255
        params = jax.jit(model.init)(jax.random.key(0), window)["params"]
        opt_state, losses = optimizer.init(params), []
        for _ in range(num_steps):
            params, opt_state, loss = step(params, opt_state, next(batches))
            losses.append(float(loss))
            print(f"step {len(losses)}  loss {losses[-1]:.4f}")
    return params, losses


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
