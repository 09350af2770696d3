"""EDVR in PyTorch under BasicSR's parameter names: what edvr_jax is measured against.

Written for speed: all frames of a window go through every layer together, and the
deformable convolution is torchvision's where that is installed, unless
:func:`sample_conv2d` is asked for. Exact against the stored reference outputs, see
tests/parity/test_torch_edvr.py. Needs torch alone.
"""

import torch
import torch.nn.functional as F
from torch import nn


def sample_conv2d(
    x, offset, weight, bias=None, stride=1, padding=0, dilation=1, mask=None
):
    """Compute ``torchvision.ops.deform_conv2d`` by grid_sample and a 1x1 convolution.

    Args:
        x: Features, [N, C, H, W].
        offset: (dy, dx) interleaved, [N, 2 * G * K, Ho, Wo], K = kh * kw.
        weight: Kernel, [F, C / groups, kh, kw].
        bias: [F] or None.
        stride: Step of the output grid.
        padding: Zero padding of both sides.
        dilation: Spacing of the kernel taps.
        mask: Modulation, [N, G * K, Ho, Wo]; None is 1.

    Returns:
        Convolved features, [N, F, Ho, Wo]. Samples outside x read 0.
    """
    n, channels, height, width = x.shape
    kh, kw = weight.shape[2:]
    ho, wo = offset.shape[2:]
    taps = kh * kw
    groups = offset.shape[1] // (2 * taps)
    # grid_sample scales positions to [-1, 1] and back. Powers of two make that exact:
    # whole positions stay whole, and their gradients one-sided like torchvision's.
    rows, columns = (1 << (size - 1).bit_length() for size in (height, width))
    x = F.pad(x, (0, columns - width, 0, rows - height))

    dtype = torch.promote_types(offset.dtype, torch.float32)
    offset = offset.to(dtype).view(n, groups, taps, 2, ho, wo)
    tap = torch.arange(taps, device=x.device)[:, None]
    y = torch.arange(ho, device=x.device) * stride - padding + tap // kw * dilation
    left = torch.arange(wo, device=x.device) * stride - padding + tap % kw * dilation
    y = y[:, :, None] + offset[:, :, :, 0]
    left = left[:, None, :] + offset[:, :, :, 1]
    grid = torch.stack([(2 * left + 1) / columns - 1, (2 * y + 1) / rows - 1], -1)
    samples = F.grid_sample(
        x.reshape(n * groups, channels // groups, rows, columns).to(dtype),
        grid.view(n * groups, taps * ho, wo, 2),
        align_corners=False,
    )
    samples = samples.view(n, groups, channels // groups, taps, ho, wo)
    if mask is not None:
        samples = samples * mask.view(n, groups, 1, taps, ho, wo)
    return F.conv2d(
        samples.view(n, channels * taps, ho, wo).to(weight.dtype),
        weight.flatten(1)[:, :, None, None],
        bias,
        groups=channels // weight.shape[1],
    )


try:
    from torchvision.ops import deform_conv2d
except ImportError:
    deform_conv2d = sample_conv2d


def conv(in_channels, out_channels, kernel_size=3, stride=1):
    """Convolution that keeps the size (or divides it by the stride)."""
    return nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2)


def leaky_relu(x):
    """Leaky ReLU with EDVR's slope, in place."""
    return F.leaky_relu(x, 0.1, inplace=True)


def enlarge(x, factor=2):
    """Bilinear enlargement with half-pixel centers."""
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


class ResidualBlockNoBN(nn.Module):
    """``x + conv2(relu(conv1(x)))``."""

    def __init__(self, features):
        super().__init__()
        self.conv1 = conv(features, features)
        self.conv2 = conv(features, features)

    def forward(self, x):
        """Map [N, C, H, W] to the same shape."""
        return x + self.conv2(F.relu(self.conv1(x), inplace=True))


class DCNv2Pack(nn.Conv2d):
    """Deformable 3x3 convolution that predicts offsets and masks from features."""

    def __init__(self, features, groups, deform_conv2d):
        super().__init__(features, features, 3, padding=1)
        self.deform_conv2d = deform_conv2d
        self.conv_offset = conv(features, 27 * groups)

    def forward(self, x, offset_features):
        """Sample and convolve x, [N, C, H, W]."""
        predicted = self.conv_offset(offset_features)
        num_offsets = predicted.shape[1] * 2 // 3
        offset, mask = predicted[:, :num_offsets], predicted[:, num_offsets:]
        return self.deform_conv2d(
            x, offset, self.weight, self.bias, padding=1, mask=torch.sigmoid(mask)
        )


class PCDAlignment(nn.Module):
    """Pyramid, cascading and deformable alignment to the reference frame."""

    def __init__(self, features, groups, deform_conv2d):
        super().__init__()
        levels = ("l3", "l2", "l1")
        self.offset_conv1 = nn.ModuleDict(
            {level: conv(2 * features, features) for level in levels}
        )
        self.offset_conv2 = nn.ModuleDict(
            {
                level: conv(features if level == "l3" else 2 * features, features)
                for level in levels
            }
        )
        self.offset_conv3 = nn.ModuleDict(
            {level: conv(features, features) for level in levels[1:]}
        )
        self.dcn_pack = nn.ModuleDict(
            {level: DCNv2Pack(features, groups, deform_conv2d) for level in levels}
        )
        self.feat_conv = nn.ModuleDict(
            {level: conv(2 * features, features) for level in levels[1:]}
        )
        self.cas_offset_conv1 = conv(2 * features, features)
        self.cas_offset_conv2 = conv(features, features)
        self.cas_dcnpack = DCNv2Pack(features, groups, deform_conv2d)

    def forward(self, neighbor, reference):
        """Align pyramids (levels 1, 2, 3 of [N, C, H, W]) to the references'."""
        offset = torch.cat([neighbor[2], reference[2]], 1)
        offset = leaky_relu(self.offset_conv1["l3"](offset))
        offset = leaky_relu(self.offset_conv2["l3"](offset))
        aligned = leaky_relu(self.dcn_pack["l3"](neighbor[2], offset))
        for i in (1, 0):
            level = f"l{i + 1}"
            coarse_offset, coarse_aligned = enlarge(offset) * 2, enlarge(aligned)
            offset = torch.cat([neighbor[i], reference[i]], 1)
            offset = leaky_relu(self.offset_conv1[level](offset))
            offset = torch.cat([offset, coarse_offset], 1)
            offset = leaky_relu(self.offset_conv2[level](offset))
            offset = leaky_relu(self.offset_conv3[level](offset))
            aligned = self.dcn_pack[level](neighbor[i], offset)
            aligned = self.feat_conv[level](torch.cat([aligned, coarse_aligned], 1))
            if i == 1:
                aligned = leaky_relu(aligned)
        offset = torch.cat([aligned, reference[0]], 1)
        offset = leaky_relu(self.cas_offset_conv1(offset))
        offset = leaky_relu(self.cas_offset_conv2(offset))
        return leaky_relu(self.cas_dcnpack(aligned, offset))


class TSAFusion(nn.Module):
    """Fusion by temporal and spatial attention."""

    def __init__(self, features, num_frames, center):
        super().__init__()
        self.center = center
        self.temporal_attn1 = conv(features, features)
        self.temporal_attn2 = conv(features, features)
        self.feat_fusion = conv(num_frames * features, features, 1)
        self.spatial_attn1 = conv(num_frames * features, features, 1)
        self.spatial_attn2 = conv(2 * features, features, 1)
        self.spatial_attn3 = conv(features, features)
        self.spatial_attn4 = conv(features, features, 1)
        self.spatial_attn5 = conv(features, features)
        self.spatial_attn_l1 = conv(features, features, 1)
        self.spatial_attn_l2 = conv(2 * features, features)
        self.spatial_attn_l3 = conv(features, features)
        self.spatial_attn_add1 = conv(features, features, 1)
        self.spatial_attn_add2 = conv(features, features, 1)

    def forward(self, aligned):
        """Fuse [N, T, C, H, W] into [N, C, H, W]."""
        n, t = aligned.shape[:2]
        reference = self.temporal_attn1(aligned[:, self.center])
        embedding = self.temporal_attn2(aligned.flatten(0, 1)).unflatten(0, (n, t))
        similarity = (embedding * reference[:, None]).sum(2, keepdim=True)
        weighted = (aligned * torch.sigmoid(similarity)).flatten(1, 2)
        fused = leaky_relu(self.feat_fusion(weighted))

        attn = leaky_relu(self.spatial_attn1(weighted))
        attn = leaky_relu(self.spatial_attn2(self._pool(attn)))
        level = leaky_relu(self.spatial_attn_l1(attn))
        level = leaky_relu(self.spatial_attn_l2(self._pool(level)))
        level = enlarge(leaky_relu(self.spatial_attn_l3(level)))
        attn = leaky_relu(self.spatial_attn3(attn)) + level
        attn = enlarge(leaky_relu(self.spatial_attn4(attn)))
        attn = self.spatial_attn5(attn)
        added = self.spatial_attn_add2(leaky_relu(self.spatial_attn_add1(attn)))
        return fused * torch.sigmoid(attn) * 2 + added

    @staticmethod
    def _pool(x):
        return torch.cat([F.max_pool2d(x, 3, 2, 1), F.avg_pool2d(x, 3, 2, 1)], 1)


class PredeblurModule(nn.Module):
    """Three-level pyramid of residual blocks before the feature extraction."""

    def __init__(self, in_channels, features, hr_in):
        super().__init__()
        self.hr_in = hr_in
        self.conv_first = conv(in_channels, features)
        if hr_in:
            self.stride_conv_hr1 = conv(features, features, stride=2)
            self.stride_conv_hr2 = conv(features, features, stride=2)
        self.stride_conv_l2 = conv(features, features, stride=2)
        self.stride_conv_l3 = conv(features, features, stride=2)
        self.resblock_l3 = ResidualBlockNoBN(features)
        self.resblock_l2_1 = ResidualBlockNoBN(features)
        self.resblock_l2_2 = ResidualBlockNoBN(features)
        self.resblock_l1 = nn.ModuleList(ResidualBlockNoBN(features) for _ in range(5))

    def forward(self, x):
        """Map frames [N, C, H, W] to features, at a quarter of the size if hr_in."""
        l1 = leaky_relu(self.conv_first(x))
        if self.hr_in:
            l1 = leaky_relu(self.stride_conv_hr1(l1))
            l1 = leaky_relu(self.stride_conv_hr2(l1))
        l2 = leaky_relu(self.stride_conv_l2(l1))
        l3 = leaky_relu(self.stride_conv_l3(l2))
        l2 = self.resblock_l2_1(l2) + enlarge(self.resblock_l3(l3))
        l2 = enlarge(self.resblock_l2_2(l2))
        for i, block in enumerate(self.resblock_l1):
            l1 = block(l1)
            if i == 1:
                l1 = l1 + l2
        return l1


class EDVR(nn.Module):
    """The network, for scale 4 or ``hr_in``.

    The arguments are the fields of edvr_jax.ModelConfig, and which function computes
    deformable convolutions. A new network has PyTorch's default parameters, not
    EDVR's: load some.
    """

    def __init__(
        self,
        *,
        num_features=64,
        num_frames=5,
        deformable_groups=8,
        num_extract_blocks=5,
        num_reconstruct_blocks=10,
        hr_in=False,
        with_predeblur=False,
        with_tsa=True,
        deform_conv2d=deform_conv2d,
    ):
        super().__init__()
        features = num_features
        self.center, self.hr_in = num_frames // 2, hr_in
        self.with_predeblur, self.with_tsa = with_predeblur, with_tsa
        if with_predeblur:
            self.predeblur = PredeblurModule(3, features, hr_in)
            self.conv_1x1 = conv(features, features, 1)
        elif hr_in:
            self.conv_first_1 = conv(3, features)
            self.conv_first_2 = conv(features, features, stride=2)
            self.conv_first_3 = conv(features, features, stride=2)
        else:
            self.conv_first = conv(3, features)
        self.feature_extraction = _blocks(features, num_extract_blocks)
        self.conv_l2_1 = conv(features, features, stride=2)
        self.conv_l2_2 = conv(features, features)
        self.conv_l3_1 = conv(features, features, stride=2)
        self.conv_l3_2 = conv(features, features)
        self.pcd_align = PCDAlignment(features, deformable_groups, deform_conv2d)
        if with_tsa:
            self.fusion = TSAFusion(features, num_frames, self.center)
        else:
            self.fusion = conv(num_frames * features, features, 1)
        self.reconstruction = _blocks(features, num_reconstruct_blocks)
        self.upconv1 = conv(features, 4 * features)
        self.upconv2 = conv(features, 4 * 64)
        self.conv_hr = conv(64, 64)
        self.conv_last = conv(64, 3)

    def forward(self, frames):
        """Restore the center frames of windows, [N, T, 3, H, W] to [N, 3, sH, sW]."""
        n, t = frames.shape[:2]
        l1 = self.feature_extraction(self._stem(frames.flatten(0, 1)))
        l2 = leaky_relu(self.conv_l2_2(leaky_relu(self.conv_l2_1(l1))))
        l3 = leaky_relu(self.conv_l3_2(leaky_relu(self.conv_l3_1(l2))))
        pyramid = (l1, l2, l3)
        aligned = self.pcd_align(pyramid, [self._reference(x, n, t) for x in pyramid])
        aligned = aligned.unflatten(0, (n, t))
        x = self.fusion(aligned if self.with_tsa else aligned.flatten(1, 2))
        x = self.reconstruction(x)
        x = leaky_relu(F.pixel_shuffle(self.upconv1(x), 2))
        x = leaky_relu(F.pixel_shuffle(self.upconv2(x), 2))
        residual = self.conv_last(leaky_relu(self.conv_hr(x)))
        base = frames[:, self.center]
        return residual + (base if self.hr_in else enlarge(base, 4))

    def _stem(self, x):
        if self.with_predeblur:
            return self.conv_1x1(self.predeblur(x))
        if self.hr_in:
            for layer in (self.conv_first_1, self.conv_first_2, self.conv_first_3):
                x = leaky_relu(layer(x))
            return x
        return leaky_relu(self.conv_first(x))

    def _reference(self, level, n, t):
        """Repeat the center frame's features for every frame of its window."""
        level = level.unflatten(0, (n, t))
        return level[:, self.center : self.center + 1].expand_as(level).flatten(0, 1)


def _blocks(features, count):
    return nn.Sequential(*(ResidualBlockNoBN(features) for _ in range(count)))
