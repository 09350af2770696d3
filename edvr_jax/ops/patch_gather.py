"""Samples by one gather of all four corners: for TPUs.

A TPU stores the last two axes of an array in tiles of 8 x 128. The 8 channels of a
group as last axis fill a sixteenth of a tile, and that is how a gather returns them.
Here a gathered row holds the four corners of a sample, and everything is turned once:
from then on output positions are the last axis, channels the one before
(docs/performance.md).
"""

import dataclasses
import functools

import jax.numpy as jnp
import numpy as np
from jax.experimental.layout import Layout, with_layout_constraint

from edvr_jax.ops import bilinear

_LANES = 128  # of a TPU's tile
_CORNERS = 4
# XLA would turn the corners one by one, in float32.
_POSITIONS_LAST = Layout((1, 0))


@dataclasses.dataclass(frozen=True)
class PatchGather:
    """Reads samples from a table of one group's channels at 2x2 pixels.

    Columns are [P, K*G, C/G] for P output positions, K taps and G groups.

    Attributes:
        shape: Of the image, [N, H, W, C].
        groups: Deformable groups.
    """

    shape: tuple
    groups: int

    @property
    def padded_channels(self):
        """Length of a gathered row in memory."""
        return max(_LANES, _CORNERS * self.shape[3] // self.groups)

    @property
    def _num_pixels(self):
        n, height, width, _ = self.shape
        border = sum(bilinear.BORDER)
        return n * (height + border) * (width + border)

    @property
    def _distances(self):
        """Distances in pixels from a sample's top left corner to its corners."""
        below = self.shape[2] + sum(bilinear.BORDER)
        return 0, 1, below, below + 1

    def row_of(self, pixel, group):
        """Return the row of the table, neighboring ones for the pixels of a group."""
        return pixel + group * self._num_pixels

    def make_table(self, x):
        """Return the patches of the bordered x as a table, [rows, 4*C/G]."""
        channels_first = bilinear.pad(x).reshape(self._num_pixels, -1).T
        padded = jnp.pad(channels_first, ((0, 0), (0, self._distances[-1])))
        corners = [
            padded[:, distance:][:, : self._num_pixels] for distance in self._distances
        ]
        corners = jnp.stack(
            [c.reshape(self.groups, -1, c.shape[1]) for c in corners], 1
        )
        patches = corners.reshape(self.groups, -1, self._num_pixels)
        return jnp.swapaxes(patches, 1, 2).reshape(-1, patches.shape[1])

    def make_image(self, table):
        """Undo ``make_table``; where patches overlap, their sum."""
        n, height, _, channels = self.shape
        patches = jnp.swapaxes(table.reshape(self.groups, self._num_pixels, -1), 1, 2)
        last = self._distances[-1]
        total = 0
        for corner, distance in zip(
            jnp.split(patches, _CORNERS, axis=1), self._distances, strict=True
        ):
            total += jnp.pad(corner, ((0, 0), (0, 0), (distance, last - distance)))
        padded = total[..., : self._num_pixels].reshape(channels, -1).T
        padded = padded.reshape(n, height + sum(bilinear.BORDER), -1, channels)
        return bilinear.crop(padded, self.shape)

    def read(self, table, samples):
        """Read the four corners, each [C/G, K*G, P]."""
        row = samples.row.T
        patches = table.at[row.reshape(-1)].get(
            mode="promise_in_bounds", wrap_negative_indices=False
        )
        patches = with_layout_constraint(patches, _POSITIONS_LAST)
        return list(patches.T.reshape(_CORNERS, -1, *row.shape))

    def interpolate(self, corners, samples):
        """Return the columns, modulated, in the type of the corners."""
        dtype = np.promote_types(corners[0].dtype, samples.mask.dtype)
        weighted = [
            corner.astype(dtype) * (weight * samples.mask).T
            for corner, weight in zip(corners, samples.weights(), strict=True)
        ]
        return functools.reduce(jnp.add, weighted).astype(corners[0].dtype).T

    def dot(self, corners, grad_columns):
        """Multiply the gradient to the columns with each corner, over channels.

        Returns:
            Four arrays [P, K*G].
        """
        grad = grad_columns.T
        return [(grad * corner.astype(grad.dtype)).sum(0).T for corner in corners]

    def add(self, grad_table, grad_columns, samples):
        """Add the gradient to the columns where they were read from."""
        grad, row = grad_columns.T, samples.row.T
        patches = [grad * (weight * samples.mask).T for weight in samples.weights()]
        patches = jnp.concatenate(patches).reshape(-1, row.size)
        patches = with_layout_constraint(patches, _POSITIONS_LAST).T
        return grad_table.at[row.reshape(-1)].add(
            patches, mode="promise_in_bounds", wrap_negative_indices=False
        )
