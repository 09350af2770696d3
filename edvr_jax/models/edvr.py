"""EDVR: alignment, fusion, reconstruction and upsampling of one window.

EDVR (arXiv:1905.02716), section 3 and Figure 2. Checked against
XPixelGroup/BasicSR, basicsr/archs/edvr_arch.py at 323cc143, and, for ``hr_in``
without PreDeblur, against the official repository's EDVR_arch.py.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, overload

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from edvr_jax import config as config_lib
from edvr_jax.models.layers import Conv, Dtype, ResidualBlockNoBN, leaky_relu
from edvr_jax.models.pcd import PCDAlignment, Pyramid
from edvr_jax.models.predeblur import PredeblurModule
from edvr_jax.models.tsa import ConcatFusion, TSAFusion
from edvr_jax.ops import resample

# Channels of the last two convolutions, fixed in the reference.
_HR_FEATURES = 64

# Enlargement of each upsampling step by the enlargement of the features.
SHUFFLE_FACTORS = {1: (), 2: (2,), 3: (3,), 4: (2, 2)}


class WindowNetwork(nn.Module):
    """A network that restores one frame of each window."""

    if TYPE_CHECKING:  # by Linen's types, apply returns an image or a tuple

        @overload
        def apply(
            self, variables: Mapping[str, Any], frames: ArrayLike
        ) -> jax.Array: ...

        @overload
        def apply(
            self,
            variables: Mapping[str, Any],
            *args: Any,
            method: str | Callable[..., Any],
            **options: Any,
        ) -> Any: ...

        @overload
        def apply(
            self, variables: Mapping[str, Any], frames: ArrayLike, **options: Any
        ) -> Any: ...

        def apply(self, *args: Any, **options: Any) -> Any:
            """Apply the network, or a method of it, to variables."""


class EDVR(WindowNetwork):
    """Restore the center frame of a window.

    ``encode`` works frame by frame and ``reconstruct`` on a window of encoded
    frames, so a stream can encode each frame once; ``__call__`` joins them.

    Attributes:
        pcd_align: Module called with two pyramids, see PCDAlignment; None for a
            network of single images, whose pyramid has one level.
        fusion: Module called with aligned features, see TSAFusion; None likewise.
        predeblur: Module from frames to features, see PredeblurModule; None is
            a plain convolution.
        num_features: Channels of the features.
        num_frames: Frames in a window.
        num_extract_blocks: Residual blocks per frame.
        num_reconstruct_blocks: Residual blocks after the fusion.
        center_frame_index: Index of the frame to restore.
        scale: Output size over input size; ignored with ``hr_in``.
        hr_in: Input already has the output's size; features are at a quarter.
        in_channels: Channels of the frames.
        out_channels: Channels of the restored frame.
        dtype: Computation type.
    """

    pcd_align: nn.Module | None
    fusion: nn.Module | None
    predeblur: nn.Module | None = None
    num_features: int = 64
    num_frames: int = 5
    num_extract_blocks: int = 5
    num_reconstruct_blocks: int = 10
    center_frame_index: int = 2
    scale: int = 4
    hr_in: bool = False
    in_channels: int = 3
    out_channels: int = 3
    dtype: Dtype = jnp.float32

    def setup(self):
        """Create the layers under the reference's names."""
        features, dtype = self.num_features, self.dtype
        if self.predeblur is not None:
            self.conv_1x1 = Conv(features, kernel_size=1, dtype=dtype)
        elif self.hr_in:
            self.conv_first_1 = Conv(features, dtype=dtype)
            self.conv_first_2 = Conv(features, strides=2, dtype=dtype)
            self.conv_first_3 = Conv(features, strides=2, dtype=dtype)
        else:
            self.conv_first = Conv(features, dtype=dtype)
        self.feature_extraction = [
            ResidualBlockNoBN(features, dtype) for _ in range(self.num_extract_blocks)
        ]
        if self.pcd_align is not None:
            self.conv_l2_1 = Conv(features, strides=2, dtype=dtype)
            self.conv_l2_2 = Conv(features, dtype=dtype)
            self.conv_l3_1 = Conv(features, strides=2, dtype=dtype)
            self.conv_l3_2 = Conv(features, dtype=dtype)
        self.reconstruction = [
            ResidualBlockNoBN(features, dtype)
            for _ in range(self.num_reconstruct_blocks)
        ]
        factors = SHUFFLE_FACTORS[4 if self.hr_in else self.scale]
        if factors:
            channels = _HR_FEATURES if len(factors) == 1 else features
            self.upconv1 = Conv(channels * factors[0] ** 2, dtype=dtype)
        if len(factors) == 2:
            self.upconv2 = Conv(_HR_FEATURES * factors[1] ** 2, dtype=dtype)
        self.conv_hr = Conv(_HR_FEATURES, dtype=dtype)
        self.conv_last = Conv(self.out_channels, dtype=dtype)

    def __call__(self, frames: ArrayLike) -> jax.Array:
        """Restore the center frame of each window.

        Args:
            frames: RGB in [0, 1], [N, T, H, W, C]; H and W multiples of 4, of 16
                with ``hr_in``.

        Returns:
            Restored frames, float32, not clipped, [N, s*H, s*W, out_channels],
            s = scale (1 with ``hr_in``).

        Raises:
            TypeError: if the frames are not floating point.
            ValueError: if the number of frames, their size or their channels do not
                fit.
        """
        frames = jnp.asarray(frames)
        if frames.ndim != 5 or frames.shape[1] != self.num_frames:
            raise ValueError(
                f"expected frames [N, {self.num_frames}, H, W, C], got {frames.shape}"
            )
        pyramid = self._encode_windows(frames)
        return self.reconstruct(pyramid, frames[:, self.center_frame_index])

    def align(self, frames: jax.Array) -> jax.Array:
        """Align every frame of each window to the center, and stop there.

        Args:
            frames: As for ``__call__``.

        Returns:
            Aligned features, [N, T, h, w, F].

        Raises:
            ValueError: if the network has no alignment.
        """
        if self.pcd_align is None:
            raise ValueError("the network has no alignment (with_alignment=False)")
        return self._align(self.pcd_align, self._encode_windows(frames))

    def _encode_windows(self, frames: jax.Array) -> Pyramid:
        """Encode windows [N, T, H, W, C]; every level keeps the window axis."""
        n, t = frames.shape[:2]
        pyramid = self.encode(frames.reshape(n * t, *frames.shape[2:]))
        return tuple(level.reshape(n, t, *level.shape[1:]) for level in pyramid)

    def encode(self, frames: jax.Array) -> Pyramid:
        """Compute the feature pyramid of single frames.

        Args:
            frames: [N, H, W, C].

        Returns:
            Levels 1, 2, 3: [N, h, w, F], [N, h/2, w/2, F], [N, h/4, w/4, F] with
            h = H, or H/4 with ``hr_in``.

        Raises:
            TypeError: if the frames are not floating point.
            ValueError: if there are not four axes or ``in_channels`` channels, or H
                or W is not a multiple of 4 (16 with ``hr_in``).
        """
        if not jnp.issubdtype(frames.dtype, jnp.floating):
            raise TypeError(
                f"frames must be floating point in [0, 1], got {frames.dtype}; divide "
                "8-bit frames by 255"
            )
        if frames.ndim != 4 or frames.shape[3] != self.in_channels:
            raise ValueError(
                f"expected frames [N, H, W, {self.in_channels}], got {frames.shape}"
            )
        multiple = 16 if self.hr_in else 4
        if frames.shape[1] % multiple or frames.shape[2] % multiple:
            raise ValueError(
                f"height and width must be multiples of {multiple}, "
                f"got {frames.shape[1]}x{frames.shape[2]}"
            )
        x = frames.astype(self.dtype)
        if self.predeblur is not None:
            l1 = self.conv_1x1(self.predeblur(x))
        elif self.hr_in:
            l1 = leaky_relu(self.conv_first_1(x))
            l1 = leaky_relu(self.conv_first_2(l1))
            l1 = leaky_relu(self.conv_first_3(l1))
        else:
            l1 = leaky_relu(self.conv_first(x))
        for block in self.feature_extraction:
            l1 = block(l1)
        if self.pcd_align is None:
            return (l1,)
        l2 = leaky_relu(self.conv_l2_2(leaky_relu(self.conv_l2_1(l1))))
        l3 = leaky_relu(self.conv_l3_2(leaky_relu(self.conv_l3_1(l2))))
        return l1, l2, l3

    def reconstruct(self, pyramid: Pyramid, center_frame: jax.Array) -> jax.Array:
        """Align, fuse, reconstruct and upsample windows of encoded frames.

        Args:
            pyramid: Levels of ``encode``, each with a window axis: [N, T, h, w, F].
            center_frame: The frame to restore, [N, H, W, C].

        Returns:
            Restored frames, float32, [N, s*H, s*W, out_channels].

        Raises:
            ValueError: if the pyramid does not have the levels of ``encode``.
        """
        num_levels = 1 if self.pcd_align is None else 3
        if len(pyramid) != num_levels:
            raise ValueError(
                f"pyramid must have the {num_levels} levels of encode, "
                f"got {len(pyramid)}"
            )
        if self.pcd_align is None or self.fusion is None:
            features = pyramid[0][:, self.center_frame_index]
        else:
            features = self.fusion(self._align(self.pcd_align, pyramid))
        for block in self.reconstruction:
            features = block(features)
        for i, factor in enumerate(SHUFFLE_FACTORS[4 if self.hr_in else self.scale]):
            upconv = self.upconv2 if i else self.upconv1
            features = leaky_relu(resample.pixel_shuffle(upconv(features), factor))
        residual = self.conv_last(leaky_relu(self.conv_hr(features)))
        base = _to_channels(center_frame, self.out_channels)
        base = resample.resize_bilinear(base, 1 if self.hr_in else self.scale)
        return base + residual.astype(np.promote_types(residual.dtype, jnp.float32))

    def _align(self, pcd_align: nn.Module, pyramid: Pyramid) -> jax.Array:
        """Align every frame of the windows to the center, [N, T, h, w, F]."""
        n, t = pyramid[0].shape[:2]
        neighbor = tuple(level.reshape(n * t, *level.shape[2:]) for level in pyramid)
        reference = tuple(level[:, self.center_frame_index] for level in pyramid)
        aligned = pcd_align(neighbor, reference)
        return aligned.reshape(n, t, *aligned.shape[1:])


def _create_fusion(config: config_lib.ModelConfig) -> nn.Module:
    features, dtype = config.num_features, jnp.dtype(config.dtype)
    if config.with_tsa:
        return TSAFusion(features, config.num_frames, config.center, dtype)
    return ConcatFusion(features, dtype)


def _to_channels(frames: jax.Array, channels: int) -> jax.Array:
    """Base image with the output's channels: the first ones, or one repeated."""
    if frames.shape[-1] == 1:
        return jnp.repeat(frames, channels, axis=-1)
    return frames[..., :channels]


def create_edvr(
    config: config_lib.ModelConfig,
    *,
    predeblur: nn.Module | None = None,
    pcd_align: nn.Module | None = None,
    fusion: nn.Module | None = None,
) -> EDVR:
    """Build one EDVR network, see :func:`edvr_jax.create_model`."""
    features, dtype = config.num_features, jnp.dtype(config.dtype)
    if predeblur is not None and not config.with_predeblur:
        raise ValueError("a predeblur module needs a config with with_predeblur=True")
    if config.with_predeblur and predeblur is None:
        predeblur = PredeblurModule(features, config.hr_in, dtype)
    if config.with_alignment:
        pcd_align = pcd_align or PCDAlignment(
            features, config.deformable_groups, config.max_offset, dtype
        )
        fusion = fusion or _create_fusion(config)
    elif pcd_align is not None or fusion is not None:
        raise ValueError(
            "pcd_align and fusion modules need a config with with_alignment=True"
        )
    return EDVR(
        pcd_align=pcd_align,
        fusion=fusion,
        predeblur=predeblur,
        num_features=features,
        num_frames=config.num_frames,
        num_extract_blocks=config.num_extract_blocks,
        num_reconstruct_blocks=config.num_reconstruct_blocks,
        center_frame_index=config.center,
        scale=config.scale,
        hr_in=config.hr_in,
        in_channels=config.in_channels,
        out_channels=config.out_channels,
        dtype=dtype,
    )
