"""A network as an ONNX model.

The methods follow the modules of ``edvr.py``, ``pcd.py``, ``tsa.py`` and
``predeblur.py``, with images as [N, C, H, W] and the frames of a window side by side in
the channels, [N, T*C, H, W]. Tests compare the results with those of the modules.

The program of JAX is not converted: jax2onnx 0.17 supports neither its symbolic sizes
nor ``lax.platform_dependent``, and excludes the project's version of Orbax.
"""

from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import onnx
from onnx import helper

from edvr_jax.config import CascadeConfig, ModelConfig, NetworkConfig
from edvr_jax.models import params as params_lib
from edvr_jax.models.edvr import SHUFFLE_FACTORS
from edvr_jax.models.onnx_ops import OPSETS, Graph

INPUT, OUTPUT = "frames", "restored"


def build(config: NetworkConfig, params: Mapping[str, Any]) -> onnx.ModelProto:
    """Write a network as an ONNX model, for any number and any size of windows.

    Args:
        config: Architecture of the network, or of the two of a cascade. The model
            computes in float32 whatever its dtype.
        params: Its parameters, nested.

    Returns:
        A model from ``frames``, RGB in [0, 1], [N, T*C, H, W], to ``restored``, not
        clipped, [N, out_channels, s*H, s*W]. H and W must be multiples of
        ``config.size_multiple``.
    """
    graph = Graph(params_lib.flatten(params))
    if isinstance(config, CascadeConfig):
        restored = _restore_cascade(graph, config)
    else:
        restored = _Network(graph, config).restore(INPUT)
    graph.nodes.append(helper.make_node("Identity", [restored], [OUTPUT], OUTPUT))
    in_channels = config.num_frames * config.in_channels
    return helper.make_model(
        helper.make_graph(
            graph.nodes,
            "EDVR",
            [_image_info(INPUT, in_channels, "height", "width")],
            [_image_info(OUTPUT, config.out_channels, "out_height", "out_width")],
            graph.initializers,
        ),
        producer_name="edvr_jax",
        producer_version=metadata.version("edvr_jax"),
        opset_imports=OPSETS,
        ir_version=helper.find_min_ir_version_for(OPSETS),
    )


def _image_info(name: str, channels: int, *size: str) -> onnx.ValueInfoProto:
    shape = ["batch", channels, *size]
    return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)


def _restore_cascade(graph: Graph, config: CascadeConfig) -> str:
    """Apply stage 1 to every window that stage 2 needs, then stage 2."""
    first = _Network(graph, config.stage1, "stage1/")
    second = _Network(graph, config.stage2, "stage2/")
    t1, t2 = config.stage1.num_frames, config.stage2.num_frames
    levels = []
    for level in first.encode(graph.with_channels(INPUT, config.in_channels)):
        frames = graph.with_channels(level, config.num_frames * first.features)
        windows = [first.take_frames(frames, i, t1) for i in range(t2)]
        windows = graph.concatenate(windows)
        levels.append(graph.with_channels(windows, t1 * first.features))
    centers = graph.take(INPUT, config.stage1.center, t2, config.in_channels)
    centers = graph.with_channels(centers, config.in_channels)
    restored = first.reconstruct(levels, centers)
    restored = graph.add("Clip", restored, graph.number(0), graph.number(1))
    return second.restore(graph.with_channels(restored, t2 * second.config.in_channels))


class _Network:
    """Writes one network; the methods follow the modules.

    Features of windows are [N, T*F, h, w], those of single frames [N*T, F, h, w].
    """

    def __init__(self, graph: Graph, config: ModelConfig, prefix: str = "") -> None:
        self.graph, self.config, self.prefix = graph, config, prefix
        self.features = config.num_features

    def conv(self, name: str, *inputs: str, strides: int = 1) -> str:
        """Convolve the inputs with their channels side by side."""
        return self.graph.conv(self.prefix + name, *inputs, strides=strides)

    def active_conv(self, name: str, *inputs: str, strides: int = 1) -> str:
        """Conv, then leaky ReLU."""
        return self.graph.leaky_relu(self.conv(name, *inputs, strides=strides))

    def block(self, name: str, x: str) -> str:
        """Residual block."""
        inner = self.graph.add("Relu", self.conv(f"{name}/conv1", x))
        return self.graph.add("Add", x, self.conv(f"{name}/conv2", inner))

    def take_frames(self, x: str, start: int, count: int) -> str:
        """Features of some frames of windows, [N, count*F, h, w]."""
        return self.graph.take(x, start, count, self.features)

    def take_center(self, x: str) -> str:
        """Features of the center frames of windows, [N, F, h, w]."""
        return self.take_frames(x, self.config.center, 1)

    def single(self, x: str) -> str:
        """Features of windows as those of single frames."""
        return self.graph.with_channels(x, self.features)

    def joined(self, x: str) -> str:
        """Features of single frames as those of windows."""
        return self.graph.with_channels(x, self.config.num_frames * self.features)

    def repeated(self, x: str) -> str:
        """Repeat an image of each window for every frame of it."""
        return self.single(self.graph.repeat(x, self.config.num_frames))

    def restore(self, frames: str) -> str:
        """EDVR.__call__."""
        channels = self.config.in_channels
        levels = self.encode(self.graph.with_channels(frames, channels))
        center = self.graph.take(frames, self.config.center, 1, channels)
        return self.reconstruct([self.joined(level) for level in levels], center)

    def encode(self, x: str) -> list[str]:
        """EDVR.encode."""
        if self.config.with_predeblur:
            l1 = self.conv("conv_1x1", self.predeblur(x))
        elif self.config.hr_in:
            l1 = self.active_conv("conv_first_1", x)
            l1 = self.active_conv("conv_first_2", l1, strides=2)
            l1 = self.active_conv("conv_first_3", l1, strides=2)
        else:
            l1 = self.active_conv("conv_first", x)
        for i in range(self.config.num_extract_blocks):
            l1 = self.block(f"feature_extraction_{i}", l1)
        levels = [l1]
        if self.config.with_alignment:
            for name in ("conv_l2", "conv_l3"):
                level = self.active_conv(f"{name}_1", levels[-1], strides=2)
                levels.append(self.active_conv(f"{name}_2", level))
        return levels

    def predeblur(self, x: str) -> str:
        """PredeblurModule."""
        graph = self.graph

        def conv(name: str, x: str, strides: int = 1) -> str:
            return self.active_conv(f"predeblur/{name}", x, strides=strides)

        def block(name: str, x: str) -> str:
            return self.block(f"predeblur/{name}", x)

        l1 = conv("conv_first", x)
        if self.config.hr_in:
            l1 = conv("stride_conv_hr1", l1, 2)
            l1 = conv("stride_conv_hr2", l1, 2)
        l2 = conv("stride_conv_l2", l1, 2)
        l3 = conv("stride_conv_l3", l2, 2)
        l3 = graph.enlarge(block("resblock_l3", l3), 2)
        l2 = graph.add("Add", block("resblock_l2_1", l2), l3)
        l2 = graph.enlarge(block("resblock_l2_2", l2), 2)
        for i in range(5):
            l1 = block(f"resblock_l1_{i}", l1)
            if i == 1:
                l1 = graph.add("Add", l1, l2)
        return l1

    def reconstruct(self, levels: Sequence[str], center_frame: str) -> str:
        """EDVR.reconstruct."""
        graph, config = self.graph, self.config
        if config.with_alignment:
            x = self.fuse(self.align(levels))
        else:
            x = self.take_center(levels[0])
        for i in range(config.num_reconstruct_blocks):
            x = self.block(f"reconstruction_{i}", x)
        for i, factor in enumerate(SHUFFLE_FACTORS[config.feature_scale]):
            x = self.conv(f"upconv{i + 1}", x)
            x = graph.add("DepthToSpace", x, blocksize=factor, mode="CRD")
            x = graph.leaky_relu(x)
        residual = self.conv("conv_last", self.active_conv("conv_hr", x))
        if config.in_channels == 1:
            base = graph.repeat(center_frame, config.out_channels)
        else:
            base = graph.take(center_frame, 0, config.out_channels)
        return graph.add("Add", graph.enlarge(base, config.output_scale), residual)

    def align(self, levels: Sequence[str]) -> str:
        """PCDAlignment; aligned features of windows."""
        graph = self.graph
        neighbor = [self.single(level) for level in levels]
        reference = [self.repeated(self.take_center(level)) for level in levels]
        grids = [graph.sampling_grid(level) for level in neighbor]

        def conv(name: str, *inputs: str) -> str:
            return self.active_conv(f"pcd_align/{name}", *inputs)

        def dcn(name: str, x: str, offset: str, level: int) -> str:
            return graph.deform_conv(
                f"{self.prefix}pcd_align/{name}",
                x,
                offset,
                grids[level - 1],
                groups=self.config.deformable_groups,
                max_offset=self.config.max_offset,
            )

        offset = conv("offset_conv1_l3", neighbor[2], reference[2])
        offset = conv("offset_conv2_l3", offset)
        aligned = graph.leaky_relu(dcn("dcn_pack_l3", neighbor[2], offset, 3))
        for level in (2, 1):
            coarse_offset = graph.enlarge(offset, 2)
            coarse_offset = graph.add("Mul", coarse_offset, graph.number(2))
            coarse_aligned = graph.enlarge(aligned, 2)
            features = neighbor[level - 1], reference[level - 1]
            offset = conv(f"offset_conv1_l{level}", *features)
            offset = conv(f"offset_conv2_l{level}", offset, coarse_offset)
            offset = conv(f"offset_conv3_l{level}", offset)
            aligned = dcn(f"dcn_pack_l{level}", neighbor[level - 1], offset, level)
            name = f"pcd_align/feat_conv_l{level}"
            aligned = self.conv(name, aligned, coarse_aligned)
            if level == 2:
                aligned = graph.leaky_relu(aligned)
        offset = conv("cas_offset_conv1", aligned, reference[0])
        offset = conv("cas_offset_conv2", offset)
        return self.joined(graph.leaky_relu(dcn("cas_dcnpack", aligned, offset, 1)))

    def fuse(self, aligned: str) -> str:
        """TSAFusion or ConcatFusion."""
        if not self.config.with_tsa:
            return self.conv("fusion", aligned)
        graph = self.graph

        def conv(name: str, x: str) -> str:
            return self.active_conv(f"fusion/{name}", x)

        embedding = self.conv("fusion/temporal_attn2", self.single(aligned))
        reference = self.conv("fusion/temporal_attn1", self.take_center(aligned))
        product = graph.add("Mul", embedding, self.repeated(reference))
        similarity = graph.add("ReduceSum", product, graph.integers(1), keepdims=1)
        similarity = graph.add("Sigmoid", similarity)
        weighted = self.joined(graph.add("Mul", self.single(aligned), similarity))
        fused = conv("feat_fusion", weighted)

        attn = conv("spatial_attn2", graph.pool(conv("spatial_attn1", weighted)))
        level = conv("spatial_attn_l2", graph.pool(conv("spatial_attn_l1", attn)))
        level = graph.enlarge(conv("spatial_attn_l3", level), 2)
        attn = graph.add("Add", conv("spatial_attn3", attn), level)
        attn = graph.enlarge(conv("spatial_attn4", attn), 2)
        attn = self.conv("fusion/spatial_attn5", attn)
        attn_add = conv("spatial_attn_add1", attn)
        attn_add = self.conv("fusion/spatial_attn_add2", attn_add)
        modulated = graph.add("Mul", fused, graph.add("Sigmoid", attn))
        modulated = graph.add("Mul", modulated, graph.number(2))
        return graph.add("Add", modulated, attn_add)
