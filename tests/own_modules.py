"""Modules of a user's own for the tests."""

import flax.linen as nn
import jax.numpy as jnp

from edvr_jax.ops import pixel_shuffle, resize_bilinear


class Plain(nn.Module):
    """One convolution over the frames of a window; it has the call alone."""

    scale: int = 4
    center: int = 1
    kernel: int = 3

    @nn.compact
    def __call__(self, frames):
        n, t, h, w, c = frames.shape
        x = jnp.moveaxis(frames, 1, 3).reshape(n, h, w, t * c)
        x = nn.Conv(c * self.scale**2, (self.kernel, self.kernel))(x)
        base = resize_bilinear(frames[:, self.center], self.scale)
        return base + pixel_shuffle(x, self.scale)


class CenterAlignment(nn.Module):
    """In place of PCDAlignment: a convolution of the neighbor beside the center."""

    num_features: int = 8

    @nn.compact
    def __call__(self, neighbor, reference):
        num_frames = len(neighbor[0]) // len(reference[0])
        center = jnp.repeat(reference[0], num_frames, axis=0)
        x = jnp.concatenate([neighbor[0], center], axis=-1)
        return nn.Conv(self.num_features, (3, 3))(x)


class Wrong(nn.Module):
    """Does one thing that a network must not do."""

    kind: str

    @nn.compact
    def __call__(self, frames):
        x = resize_bilinear(frames[:, 1], 1 if self.kind == "size" else 4)
        if self.kind == "norm":
            return nn.BatchNorm(use_running_average=False)(x)
        if self.kind == "dropout":
            return nn.Dropout(0.5, deterministic=False)(x)
        if self.kind == "type":
            return (x * 255).astype(jnp.uint8)
        if self.kind == "tuple":
            return x, x
        if self.kind == "bug":
            raise KeyError("first line\nsecond line")
        return x
