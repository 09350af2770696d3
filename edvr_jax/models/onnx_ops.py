"""Operators of ONNX for the parts of EDVR, images as [N, C, H, W].

All of them are in opset 16, of 2022, so that most runtimes have them. That is why the
deformable convolution is made of GridSample: with the operator DeformConv of opset 19 a
network takes 8 % less time in onnxruntime, but OpenVINO and DirectML do not have it
(docs/performance.md).
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edvr_jax.models.layers import LEAKY_SLOPE

OPSETS = [helper.make_opsetid("", 16)]

_TAPS = 9  # of a deformable convolution, 3x3


class Grid(NamedTuple):
    """Where the taps of a deformable convolution are before they are displaced.

    GridSample counts positions from -1 to 1, from border to border of the image, x
    before y. It takes one image per group; the taps are one below the other.
    """

    positions: str  # [1, 9*H, W, 2]
    pixel: str  # size of a pixel in x and y, [2]
    size: str  # H and W, [2]


class Graph:
    """Nodes and constants of a graph that is being written.

    Values are named by strings. All methods that take values add nodes and return the
    name of the result.

    Attributes:
        nodes: The nodes so far.
        initializers: The constants that they use.
    """

    def __init__(self, flat: Mapping[str, Any]) -> None:
        """Start an empty graph; ``flat`` holds the parameters by flat name."""
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._flat = flat
        self._known: set[str] = set()

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add any operator with one result."""
        name = f"{operator}_{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(operator, inputs, [name], name, **attributes)
        )
        return name

    def integers(self, *numbers: int) -> str:
        """A vector of integers."""
        name = "_".join(map(str, ("integers", *numbers)))
        return self._constant(name, np.array(numbers, np.int64))

    def integer(self, number: int) -> str:
        """An integer without axes."""
        return self._constant(f"integer_{number}", np.array(number, np.int64))

    def number(self, number: float) -> str:
        """A float32 number."""
        return self._constant(f"number_{number}", np.array(number, np.float32))

    def _constant(self, name: str, value: np.ndarray) -> str:
        if name not in self._known:
            self._known.add(name)
            self.initializers.append(numpy_helper.from_array(value, name))
        return name

    def _parameter(self, name: str) -> np.ndarray:
        """A parameter in PyTorch's order of axes, kernels as [F, C, k, k]."""
        value = np.asarray(self._flat[name], np.float32)
        return value.transpose(3, 2, 0, 1) if value.ndim == 4 else value

    def conv(
        self, layer: str, *inputs: str, strides: int = 1, order: Any = slice(None)
    ) -> str:
        """Convolve the inputs with their channels side by side, as Conv.

        Args:
            layer: Name of the layer, whose kernel and bias are used.
            *inputs: Images of one size.
            strides: Step between output positions.
            order: Output channels to compute, in this order; all by default.
        """
        kernel = self._parameter(f"{layer}/kernel")[order]
        size = kernel.shape[-1]
        return self.add(
            "Conv",
            self.concatenate(inputs),
            self._constant(f"{layer}/kernel", np.ascontiguousarray(kernel)),
            self._constant(f"{layer}/bias", self._parameter(f"{layer}/bias")[order]),
            kernel_shape=[size, size],
            pads=[size // 2] * 4,
            strides=[strides, strides],
        )

    def sampling_grid(self, x: str) -> Grid:
        """Positions of the taps for images of the size of x."""
        size = self.add("Shape", x, start=2)
        pixel = self.add(
            "Div", self.number(2), self.add("Cast", size, to=onnx.TensorProto.FLOAT)
        )
        shape = self.add("Concat", self.integers(_TAPS), size, axis=0)
        taps = np.mgrid[-1:2, -1:2].reshape(2, _TAPS, 1, 1).astype(np.float32)
        axes = []
        for axis, along in ((1, (1, -1)), (0, (-1, 1))):  # x before y
            count = self.add("Gather", size, self.integer(axis))
            line = self.add("Range", self.integer(0), count, self.integer(1))
            line = self.add("Cast", line, to=onnx.TensorProto.FLOAT)
            line = self.add("Reshape", line, self.integers(1, *along))
            # The center of the first pixel is half a pixel from the border.
            line = self.add(
                "Add", line, self._constant(f"taps_{axis}", taps[axis] + 0.5)
            )
            line = self.add("Mul", line, self.add("Gather", pixel, self.integer(axis)))
            line = self.add("Sub", line, self.number(1))
            line = self.add("Expand", line, shape)  # [9, H, W]
            axes.append(self.add("Unsqueeze", line, self.integers(3)))
        positions = self.add("Concat", *axes, axis=3)
        return Grid(
            self.add("Reshape", positions, self.integers(1, -1, 0, 2)),
            self.add("Gather", pixel, self.integers(1, 0)),
            size,
        )

    def deform_conv(
        self,
        layer: str,
        x: str,
        offset_features: str,
        grid: Grid,
        *,
        groups: int,
        max_offset: float | None,
    ) -> str:
        """DCNv2Pack of :mod:`edvr_jax.models.layers`."""
        predicted = self.conv(
            f"{layer}/conv_offset", offset_features, order=_sampling_order(groups)
        )
        offset = self.take(predicted, 0, 2, groups * _TAPS)
        if max_offset is not None:
            limits = self.number(-max_offset), self.number(max_offset)
            offset = self.add("Clip", offset, *limits)
        offset = self.with_channels(offset, 2 * _TAPS)
        offset = self.add("Reshape", offset, self.integers(0, 2, -1, 0))
        offset = self.add("Transpose", offset, perm=[0, 2, 3, 1])
        displaced = self.add("Mul", offset, grid.pixel)
        displaced = self.add("Add", displaced, grid.positions)  # [N*G, 9*H, W, 2]
        mask = self.add("Sigmoid", self.take(predicted, 2, 1, groups * _TAPS))
        mask = self.with_channels(mask, _TAPS)
        mask = self.add("Reshape", mask, self.integers(0, 1, -1, 0))

        kernel = self._parameter(f"{layer}/kernel")
        features, channels = kernel.shape[:2]
        samples = self.add(
            "GridSample",
            self.with_channels(x, channels // groups),
            displaced,
            mode="bilinear",
            padding_mode="zeros",
            align_corners=0,
        )
        samples = self.add("Mul", samples, mask)  # [N*G, C/G, 9*H, W]
        shape = self.integers(-1, channels * _TAPS)
        shape = self.add("Concat", shape, grid.size, axis=0)
        return self.add(
            "Conv",
            self.add("Reshape", samples, shape),
            self._constant(f"{layer}/kernel", kernel.reshape(features, -1, 1, 1)),
            self._constant(f"{layer}/bias", self._parameter(f"{layer}/bias")),
            kernel_shape=[1, 1],
        )

    def with_channels(self, x: str, channels: int) -> str:
        """Split channels into more images, or join those of successive images."""
        # In a Reshape, 0 keeps a size and -1 is what remains.
        return self.add("Reshape", x, self.integers(-1, channels, 0, 0))

    def take(self, x: str, start: int, count: int, channels: int = 1) -> str:
        """Take some channels, or some frames of ``channels`` channels each."""
        limits = (start * channels, (start + count) * channels)
        first, last = (self.integers(limit) for limit in limits)
        return self.add("Slice", x, first, last, self.integers(1))

    def concatenate(self, inputs: Sequence[str]) -> str:
        """Put the channels of all inputs side by side."""
        return inputs[0] if len(inputs) == 1 else self.add("Concat", *inputs, axis=1)

    def repeat(self, x: str, count: int) -> str:
        """Repeat the channels."""
        return self.add("Tile", x, self.integers(1, count, 1, 1))

    def leaky_relu(self, x: str) -> str:
        """Leaky ReLU with the slope of EDVR."""
        return self.add("LeakyRelu", x, alpha=LEAKY_SLOPE)

    def enlarge(self, x: str, scale: int) -> str:
        """Enlarge by bilinear interpolation."""
        if scale == 1:
            return x
        scales = np.array([1, 1, scale, scale], np.float32)
        return self.add(
            "Resize",
            x,
            "",
            self._constant(f"scales_{scale}", scales),
            mode="linear",
            coordinate_transformation_mode="half_pixel",
        )

    def pool(self, x: str) -> str:
        """Maximum and mean over 3x3, stride 2, side by side."""
        window = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
        mean = self.add("AveragePool", x, count_include_pad=1, **window)
        return self.concatenate([self.add("MaxPool", x, **window), mean])


def _sampling_order(groups: int) -> np.ndarray:
    """Output channels of an offset convolution in the order that the sampling takes.

    They are by group, tap, and y before x, the masks after them; the sampling takes
    the offsets by group, x before y, and tap.
    """
    channels = np.arange(3 * groups * _TAPS)
    offset, mask = np.split(channels, [2 * groups * _TAPS])
    offset = offset.reshape(groups, _TAPS, 2)[..., ::-1].swapaxes(1, 2)
    return np.concatenate([offset.reshape(-1), mask])
