"""Samples by four gathers, one for each corner: for CPUs and GPUs."""

import dataclasses
import functools

import jax.numpy as jnp
import numpy as np
from jax import lax

from edvr_jax.ops import bilinear


@dataclasses.dataclass(frozen=True)
class CornerGather:
    """Reads samples from a table of one group's channels at one pixel.

    Columns are [P, K*G, C/G] for P output positions, K taps and G groups.

    Attributes:
        shape: Of the image, [N, H, W, C].
        groups: Deformable groups.
    """

    shape: tuple
    groups: int

    @property
    def padded_width(self):
        """Pixels from a row of the bordered image to the next."""
        return self.shape[2] + sum(bilinear.BORDER)

    @property
    def padded_channels(self):
        """Length of a column's last axis in memory."""
        return self.shape[3] // self.groups

    def whole_rows(self, rows, width):
        """Return the number of output rows: any will do."""
        return rows

    @property
    def _distances(self):
        """Distances in rows from a sample's top left corner to its corners."""
        below = self.padded_width * self.groups
        return 0, self.groups, below, below + self.groups

    def row_of(self, pixel, group):
        """Return the row of the table, neighboring ones for the groups of a pixel."""
        return pixel * self.groups + group

    def make_table(self, x):
        """Return the bordered x as a table, [rows, C/G]."""
        return bilinear.pad(x).reshape(-1, self.shape[3] // self.groups)

    def turn(self, samples):
        """Return samples [parts, P, K*G] as they are: so they are read."""
        return samples

    def make_image(self, table):
        """Undo ``make_table``."""
        n, height, _, channels = self.shape
        padded = table.reshape(n, height + sum(bilinear.BORDER), -1, channels)
        return bilinear.crop(padded, self.shape)

    def read(self, table, samples):
        """Read the four corners, each [P, K*G, C/G]."""
        return [
            table.at[samples.row + distance].get(
                mode="promise_in_bounds", wrap_negative_indices=False
            )
            for distance in self._distances
        ]

    def interpolate(self, corners, samples):
        """Return the columns, modulated, in the type of the corners."""
        dtype = np.promote_types(corners[0].dtype, samples.mask.dtype)
        weighted = [
            corner.astype(dtype) * (weight * samples.mask)[..., None]
            for corner, weight in zip(corners, samples.weights(), strict=True)
        ]
        return functools.reduce(jnp.add, weighted).astype(corners[0].dtype)

    def dot(self, corners, grad_columns):
        """Multiply the gradient to the columns with each corner, over channels.

        Returns:
            Four arrays [P, K*G].
        """
        channels, dtype = grad_columns.shape[-1], grad_columns.dtype
        group_sum = np.repeat(np.eye(self.groups, dtype=dtype), channels, 0)
        products = [grad_columns * corner.astype(dtype) for corner in corners]
        return [
            jnp.matmul(
                product.reshape(-1, self.groups * channels),
                group_sum,
                precision=lax.Precision.HIGHEST,
            ).reshape(product.shape[:-1])
            for product in products
        ]

    def add(self, grad_table, grad_columns, samples):
        """Add the gradient to the columns where they were read from."""
        for distance, weight in zip(self._distances, samples.weights(), strict=True):
            grad_table = grad_table.at[samples.row + distance].add(
                grad_columns * (weight * samples.mask)[..., None],
                mode="promise_in_bounds",
                wrap_negative_indices=False,
            )
        return grad_table
