"""Samples by one gather of all four corners: for TPUs.

A TPU stores the last two axes of an array in tiles of 8 x 128. The 8 channels of a
group as last axis fill a sixteenth of a tile, and that is how a gather returns them.
Here a gathered row holds the four corners of a sample, and everything is turned once:
from then on output positions are the last axis, channels or taps the one before
(docs/performance.md).
"""

import dataclasses
import functools
import math

import jax.numpy as jnp
import numpy as np
from jax.experimental.layout import Layout, with_layout_constraint

from edvr_jax.ops import bilinear

_LANES = 128  # of a TPU's tile
_CORNERS = ((0, 0), (0, 1), (1, 0), (1, 1))
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
    def padded_width(self):
        """Pixels from a row of the bordered image to the next.

        Whole tiles: XLA takes minutes to compile a reshape that splits them.
        """
        width = self.shape[2] + sum(bilinear.BORDER)
        return -(-width // _LANES) * _LANES

    @property
    def padded_channels(self):
        """Length of a gathered row in memory."""
        return max(_LANES, len(_CORNERS) * self.shape[3] // self.groups)

    def whole_rows(self, rows, width):
        """Return a number of output rows whose pixels fill tiles, if one is near."""
        step = _LANES // math.gcd(width, _LANES)
        return rows if rows < 8 * step else -(-rows // step) * step

    @property
    def _bordered(self):
        n, height, _, _ = self.shape
        return n, height + sum(bilinear.BORDER), self.padded_width

    def row_of(self, pixel, group):
        """Return the row of the table, neighboring ones for the pixels of a group."""
        return pixel + group * math.prod(self._bordered)

    def make_table(self, x):
        """Return the patches of the bordered x as a table, [rows, 4*C/G]."""
        n, height, width = self._bordered
        before, after = bilinear.BORDER
        beyond = width - self.shape[2] - before
        x = jnp.pad(x, ((0, 0), (before, after + 1), (before, beyond + 1), (0, 0)))
        corners = [x[:, i : i + height, j : j + width] for i, j in _CORNERS]
        corners = [c.reshape(n, height, width, self.groups, -1) for c in corners]
        table = jnp.moveaxis(jnp.stack(corners, 4), 3, 0)
        return table.reshape(-1, len(_CORNERS) * corners[0].shape[-1])

    def turn(self, samples):
        """[parts, P, K*G] -> [parts, K*G, P], as they are read, or back.

        The layout keeps each part contiguous: XLA would store parts across tiles.
        """
        return with_layout_constraint(jnp.swapaxes(samples, 1, 2), Layout((0, 1, 2)))

    def make_image(self, table):
        """Undo ``make_table``; where patches overlap, their sum."""
        n, height, width = self._bordered
        patches = table.reshape(self.groups, n, height, width, len(_CORNERS), -1)
        patches = jnp.moveaxis(patches, 0, 4)
        total = sum(
            jnp.pad(
                patches[:, :, :, corner].reshape(n, height, width, -1),
                ((0, 0), (i, 1 - i), (j, 1 - j), (0, 0)),
            )
            for corner, (i, j) in enumerate(_CORNERS)
        )
        return bilinear.crop(total, self.shape)

    def read(self, table, samples):
        """Read the four corners, each [C/G, K*G, P]."""
        row = samples.row
        patches = table.at[row.reshape(-1)].get(
            mode="promise_in_bounds", wrap_negative_indices=False
        )
        patches = with_layout_constraint(patches, _POSITIONS_LAST)
        return list(patches.T.reshape(len(_CORNERS), -1, *row.shape))

    def interpolate(self, corners, samples):
        """Return the columns, modulated, in the type of the corners."""
        dtype = np.promote_types(corners[0].dtype, samples.mask.dtype)
        weighted = [
            corner.astype(dtype) * (weight * samples.mask)[None]
            for corner, weight in zip(corners, samples.weights(), strict=True)
        ]
        return functools.reduce(jnp.add, weighted).astype(corners[0].dtype).T

    def dot(self, corners, grad_columns):
        """Multiply the gradient to the columns with each corner, over channels.

        Returns:
            Four arrays [K*G, P].
        """
        grad = grad_columns.T
        return [(grad * corner.astype(grad.dtype)).sum(0) for corner in corners]

    def add(self, grad_table, grad_columns, samples):
        """Add the gradient to the columns where they were read from."""
        grad, row = grad_columns.T, samples.row
        patches = [grad * (w * samples.mask)[None] for w in samples.weights()]
        patches = jnp.concatenate(patches).reshape(-1, row.size)
        return grad_table.at[row.reshape(-1)].add(
            patches.T, mode="promise_in_bounds", wrap_negative_indices=False
        )
