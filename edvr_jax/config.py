"""Configuration: nested frozen dataclasses, one place for every setting.

An experiment is a file in ``configs/`` whose ``get_config()`` returns a
:class:`Config`. Every part checks its fields when it is made; nothing here changes a
value. Paths are never part of a configuration: they are given on the command line.
More than 400 lines, because the whole schema is in one place.
"""

import dataclasses
import json
import math
import re
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from edvr_jax.errors import InputError

T = TypeVar("T")

SCALES = (1, 2, 3, 4)

Track = Literal["sr", "sr_bd", "sr_blur", "sr_comp", "deblur", "deblur_comp", "web"]
Codec = Literal["h264", "h265", "vp9"]
DatasetName = Literal["folder_of_clips", "reds", "vimeo90k", "vid4", "udm10"]
ProtocolName = Literal[
    "reds4",
    "reds4_blur",
    "reds4_deblur",
    "reds4_deblur_comp",
    "vid4",
    "vid4_bd",
    "vimeo90k_t",
    "vimeo90k_t_bd",
    "udm10",
    "udm10_bd",
]

_MAX_SIZE = 10_000  # of anything in a network: a typing error, not a wish

REDS4 = ("000", "011", "015", "020")  # the usual test clips of REDS
BLUR_TRACKS = ("sr_blur", "deblur", "deblur_comp")


def _check_type(cls: type, name: str, value: Any, hint: Any) -> None:
    if not _fits(value, hint):
        expected = hint.__name__ if isinstance(hint, type) else str(hint)
        if get_origin(hint) is Literal:
            expected = " or ".join(map(str, get_args(hint)))
        expected = re.sub(r"\b(?:typing|edvr_jax\.config)\.", "", expected)
        raise InputError(
            f"{cls.__name__}.{name} must be {expected}, got {_brief(repr(value))}"
        )


def _fits(value: Any, hint: Any) -> bool:
    """Report whether a value has a type, as the configurations' fields use them."""
    kind, arguments = get_origin(hint), get_args(hint)
    if kind is Literal:
        return value in arguments
    if kind is tuple:
        if not isinstance(value, tuple):
            return False
        if arguments[1] is not ...:
            return len(value) == len(arguments) and all(map(_fits, value, arguments))
        return all(_fits(item, arguments[0]) for item in value)
    if kind is not None:  # a union
        return any(_fits(value, argument) for argument in arguments)
    if isinstance(value, bool):
        return hint is bool
    return isinstance(value, int | float if hint is float else hint)


def _brief(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:60]}..."


@dataclasses.dataclass(frozen=True)
class _Settings:
    """A part of the configuration, whose fields are checked when it is made."""

    def __post_init__(self) -> None:
        """Check the type of every field, then the values."""
        for name, hint in get_type_hints(type(self)).items():
            _check_type(type(self), name, getattr(self, name), hint)
        self._check()

    def _check(self) -> None:
        """Check the values, and the fields against each other."""


def _positive(config: Any, names: str) -> None:
    for name in names.split():
        if not getattr(config, name) >= 1:
            raise InputError(f"{name} must be positive, got {getattr(config, name)}")


def _not_negative(config: Any, names: str) -> None:
    for name in names.split():
        if not getattr(config, name) >= 0:
            raise InputError(
                f"{name} must not be negative, got {getattr(config, name)}"
            )


@dataclasses.dataclass(frozen=True)
class ModelConfig(_Settings):
    """Architecture of one EDVR network. The defaults are EDVR-M.

    Attributes:
        num_features: Channels of the feature maps.
        num_frames: Frames in a window; odd.
        deformable_groups: Offset groups of each deformable convolution; must
            divide ``num_features``.
        num_extract_blocks: Residual blocks of the per-frame feature extraction.
        num_reconstruct_blocks: Residual blocks of the reconstruction.
        center_frame_index: Index in the window of the frame to restore; None is
            the middle one.
        scale: Output size over input size: 1, 2, 3 or 4. With ``hr_in`` the
            output has the size of the input whatever this says (1, or the
            reference's nominal 4).
        hr_in: The input already has the output's size (deblurring, second
            stage): features are computed at a quarter of it.
        with_predeblur: Put a PreDeblur module before the feature extraction.
        with_tsa: Fuse by temporal and spatial attention; otherwise by one 1x1
            convolution.
        with_alignment: Align and fuse the frames of a window. Without, this is a
            network for single images (``num_frames`` 1, no TSA): feature extraction,
            reconstruction and upsampling; it trains PreDeblur on its own.
        max_offset: Clamp the offsets of deformable convolutions to this many pixels
            of their level; None does not. It is part of the network: weights
            trained with it are applied with it.
        in_channels: Channels of the input frames.
        out_channels: Channels of the restored frame.
        dtype: Computation type; parameters are always float32, and so are
            sampling positions, masks and attention sums.
    """

    num_features: int = 64
    num_frames: int = 5
    deformable_groups: int = 8
    num_extract_blocks: int = 5
    num_reconstruct_blocks: int = 10
    center_frame_index: int | None = None
    scale: int = 4
    hr_in: bool = False
    with_predeblur: bool = False
    with_tsa: bool = True
    with_alignment: bool = True
    max_offset: float | None = None
    in_channels: int = 3
    out_channels: int = 3
    dtype: Literal["float32", "bfloat16"] = "float32"

    def _check(self) -> None:
        """Check the fields against each other."""
        _positive(
            self,
            "num_features num_frames deformable_groups in_channels out_channels",
        )
        _not_negative(self, "num_extract_blocks num_reconstruct_blocks")
        for field in dataclasses.fields(self):
            if field.type is int and getattr(self, field.name) > _MAX_SIZE:
                raise InputError(f"{field.name} must be at most {_MAX_SIZE}")
        if self.num_frames % 2 == 0:
            raise InputError(f"num_frames must be odd, got {self.num_frames}")
        if self.num_features % self.deformable_groups:
            raise InputError(
                f"deformable_groups ({self.deformable_groups}) must divide "
                f"num_features ({self.num_features})"
            )
        center = self.center_frame_index
        if center is not None and not 0 <= center < self.num_frames:
            raise InputError(
                f"center_frame_index must be in 0..{self.num_frames - 1}, got {center}"
            )
        if self.scale not in SCALES:
            raise InputError(f"scale must be one of {SCALES}, got {self.scale}")
        if self.hr_in and self.scale not in (1, 4):
            raise InputError(
                "hr_in keeps the size of the input: scale must be 1 (or the "
                f"reference's nominal 4), got {self.scale}"
            )
        if self.in_channels not in (1, self.out_channels) and (
            self.in_channels < self.out_channels
        ):
            raise InputError(
                "out_channels must not exceed in_channels unless in_channels is 1: "
                f"got in_channels={self.in_channels}, out_channels={self.out_channels}"
            )
        if not self.with_alignment and (self.num_frames > 1 or self.with_tsa):
            raise InputError(
                "without alignment there is one frame and no fusion: with_alignment "
                "False needs num_frames 1 and with_tsa False"
            )
        if self.max_offset is not None and not self.max_offset > 0:
            raise InputError(f"max_offset must be positive, got {self.max_offset}")

    @property
    def center(self) -> int:
        """Index in the window of the frame that is restored."""
        if self.center_frame_index is None:
            return self.num_frames // 2
        return self.center_frame_index

    @property
    def output_scale(self) -> int:
        """Size of the output over the size of the input."""
        return 1 if self.hr_in else self.scale

    @property
    def size_multiple(self) -> int:
        """Height and width of the input must be multiples of this."""
        return 16 if self.hr_in else 4

    @property
    def feature_scale(self) -> int:
        """Size of the output over the size of the features at level 1."""
        return 4 if self.hr_in else self.scale

    def with_dtype(self, dtype: Literal["float32", "bfloat16"]) -> "ModelConfig":
        """Return the same network with another computation type."""
        return dataclasses.replace(self, dtype=dtype)


@dataclasses.dataclass(frozen=True)
class CascadeConfig(_Settings):
    """Two-stage restoration: ``stage2`` refines the outputs of ``stage1``.

    Attributes:
        stage1: First network.
        stage2: Second network; its input has the size of stage 1's output.
    """

    stage1: ModelConfig = ModelConfig()
    stage2: ModelConfig = ModelConfig(
        num_features=128, num_reconstruct_blocks=20, scale=1, hr_in=True
    )

    def _check(self) -> None:
        """Check that the two stages fit together."""
        if self.stage2.output_scale != 1:
            raise InputError(
                f"stage2 must keep the size, but its scale is {self.stage2.scale}; "
                "use hr_in=True or scale=1"
            )
        if self.stage1.out_channels != self.stage2.in_channels:
            raise InputError(
                f"stage1 gives {self.stage1.out_channels} channels but stage2 takes "
                f"{self.stage2.in_channels}"
            )

    def with_dtype(self, dtype: Literal["float32", "bfloat16"]) -> "CascadeConfig":
        """Return the same networks with another computation type."""
        return CascadeConfig(
            self.stage1.with_dtype(dtype), self.stage2.with_dtype(dtype)
        )

    @property
    def num_frames(self) -> int:
        """Input frames that one restored frame needs."""
        return self.stage1.num_frames + self.stage2.num_frames - 1

    @property
    def center(self) -> int:
        """Index in these frames of the one that is restored."""
        return self.stage1.center + self.stage2.center

    @property
    def output_scale(self) -> int:
        """Size of the output over the size of the input."""
        return self.stage1.output_scale

    @property
    def size_multiple(self) -> int:
        """Height and width of the input must be multiples of this."""
        # Stage 2 sees the size times the scale.
        multiple2 = self.stage2.size_multiple
        needed = multiple2 // math.gcd(multiple2, self.output_scale)
        return math.lcm(self.stage1.size_multiple, needed)

    @property
    def in_channels(self) -> int:
        """Channels of the input frames."""
        return self.stage1.in_channels

    @property
    def out_channels(self) -> int:
        """Channels of the restored frame."""
        return self.stage2.out_channels


NetworkConfig = ModelConfig | CascadeConfig
"""One network, or the two of a cascade."""


@dataclasses.dataclass(frozen=True)
class WebConfig(_Settings):
    """Ranges of the track ``web``; every window draws its own values.

    Attributes:
        clean: Probability of MATLAB bicubic and nothing else.
        blur_sigma: Least and largest Gaussian blur before resampling, in pixels of
            the ground truth.
        max_noise_sigma: Largest Gaussian noise, in 8-bit levels.
        codecs: Codecs to draw from; name one twice to draw it twice as often.
        crf: Least and largest quality number, on the scale of x264; lower is better.
    """

    clean: float = 0.1
    blur_sigma: tuple[float, float] = (0.0, 1.0)
    max_noise_sigma: float = 5.0
    codecs: tuple[Codec, ...] = ("h264", "h264", "h264", "h265", "vp9")
    crf: tuple[float, float] = (17.0, 35.0)

    def _check(self) -> None:
        """Check ranges."""
        _not_negative(self, "max_noise_sigma")
        if not 0 <= self.clean <= 1:
            raise InputError(f"clean is a probability, got {self.clean}")
        if not self.codecs:
            raise InputError("codecs must name at least one codec")
        for name, limit in (("blur_sigma", math.inf), ("crf", 51.0)):
            low, high = getattr(self, name)
            if not 0 <= low <= high <= limit:
                raise InputError(
                    f"{name} must be a least and a largest value from 0 to {limit:g}, "
                    f"got {low:g} and {high:g}"
                )


@dataclasses.dataclass(frozen=True)
class DegradeConfig(_Settings):
    """How low-quality frames are made from sharp ones.

    Attributes:
        track: sr: MATLAB bicubic; sr_bd: Gaussian blur, then every fourth pixel;
            sr_blur: motion blur, then MATLAB bicubic; sr_comp: MATLAB bicubic, then
            H.264; deblur: motion blur; deblur_comp: motion blur, then H.264; web:
            blur, resampling, noise and compression at random, any scale.
        blur_frames: Sharp frames averaged into one blurred frame; odd. For the
            tracks with motion blur.
        frame_step: Frames of the sharp clip from one blurred frame to the next. 5 of
            5 make 24 blurred frames per second of a 120 Hz clip, as in REDS.
        shutter: For clips of ordinary frame rates, whose averages would ghost: each
            frame is blurred along its optical flow for this fraction of the time
            between two frames, and ``blur_frames`` and ``frame_step`` have no effect.
        shake: With ``shutter``, in clips that ``edvr prepare`` makes: mean speed in
            pixels per frame of a hand-held camera, whose view is a crop that moves.
        crf: Quality of H.264, 0 (best) to 51.
        noise_sigma: Gaussian noise, in 8-bit levels.
        web: Ranges of the track web, which has its own noise and quality.
    """

    track: Track = "sr"
    blur_frames: int = 5
    frame_step: int = 5
    shutter: float | None = None
    shake: float = 0.0
    crf: int = 30
    noise_sigma: float = 0.0
    web: WebConfig = WebConfig()

    def _check(self) -> None:
        """Check ranges."""
        _positive(self, "blur_frames frame_step")
        _not_negative(self, "crf noise_sigma shake")
        if self.shutter is not None and not 0 < self.shutter <= 1:
            raise InputError(f"shutter must be in (0, 1], got {self.shutter}")
        if (self.shutter or self.shake) and not (
            self.shutter and self.track in BLUR_TRACKS
        ):
            raise InputError(
                f"shutter and shake are for the tracks {', '.join(BLUR_TRACKS)}, and "
                "shake needs a shutter"
            )
        if self.blur_frames % 2 == 0:
            raise InputError(f"blur_frames must be odd, got {self.blur_frames}")
        if self.crf > 51:
            raise InputError(f"crf must be in 0..51, got {self.crf}")

    @property
    def num_blurred(self) -> int:
        """Sharp frames that one exposure is made from."""
        if self.shutter is not None:
            return 3
        return self.blur_frames if self.track in BLUR_TRACKS else 1

    @property
    def step(self) -> int:
        """Sharp frames from one degraded frame to the next."""
        if self.shutter is not None:
            return 1
        return self.frame_step if self.track in BLUR_TRACKS else 1

    def check_scale(self, scale: int) -> None:
        """Check that the track can make frames that are ``scale`` times smaller.

        Raises:
            InputError: if it cannot.
        """
        if self.track == "sr_bd" and scale != 4:
            raise InputError(f"track sr_bd shrinks by 4, but the scale is {scale}")
        if self.track == "web":
            return
        if self.track.startswith("deblur") != (scale == 1):
            raise InputError(
                f"track {self.track} does not go with scale {scale}; deblurring "
                "keeps the size (scale 1), super-resolution takes 2, 3 or 4"
            )


@dataclasses.dataclass(frozen=True)
class DataConfig(_Settings):
    """Clips, windows, crops and batches. The folder of clips is a command-line path.

    Attributes:
        dataset: How the folder is laid out; docs/data.md describes each.
        lq: made: degraded frames are made from the sharp ones while training; given:
            they are read, as published or as ``edvr prepare`` wrote them.
        degrade: The track: how degraded frames are made, or which of those given.
        val_clips: Names of the clips kept for validation (file name without
            suffix, or folder name); every other clip of the training list trains.
        gt_downscale: Ground truth is the clip downscaled by this (MATLAB
            bicubic); 2 hides the compression of web video.
        more_downscales: Training clips are there again downscaled by each of these,
            but not those that become smaller than the crop.
        max_frames_per_clip: Read at most this many frames of each clip.
        split_scenes: Look for cuts; no window reaches over one.
        intervals: Distances in frames between neighbors of a window; drawn at
            random from those that fit into the scene.
        random_reverse: Turn the order of a window's frames with probability 1/2.
        gt_crop: Side of the ground-truth crop, in pixels.
        camera_motion: Probability that a window's crop moves along a smooth
            path from frame to frame, which gives still clips a camera motion.
        max_camera_speed: Fastest such motion, in ground-truth pixels per frame.
        synthetic_motion: Probability that a window shows one single frame, moved
            like that, in place of successive frames: its optical flow is exact.
        crop_candidates: Crops drawn for each window, of which the one with the most
            texture is taken; 1 takes any.
        batch_size: Windows per step over all devices.
        num_workers: Processes that read and prepare; 0 does it by threads of the
            training process. The samples do not depend on it.
        frame_cache_mib: Decoded frames kept in memory, over all of these processes.
        max_disk_cache_gib: Refuse to decode clips into a larger cache on disk.
        skip_bad: Leave out clips and windows that cannot be read, with a warning
            that counts them, instead of stopping.
    """

    dataset: DatasetName = "folder_of_clips"
    lq: Literal["made", "given"] = "made"
    degrade: DegradeConfig = DegradeConfig()
    val_clips: tuple[str, ...] = ()
    gt_downscale: int = 1
    more_downscales: tuple[int, ...] = ()
    max_frames_per_clip: int = 100_000
    split_scenes: bool = False
    intervals: tuple[int, ...] = (1,)
    random_reverse: bool = False
    gt_crop: int = 256
    camera_motion: float = 0.0
    max_camera_speed: float = 6.0
    synthetic_motion: float = 0.0
    crop_candidates: int = 1
    batch_size: int = 32
    num_workers: int = 0
    frame_cache_mib: int = 128
    max_disk_cache_gib: float = 200.0
    skip_bad: bool = False

    def _check(self) -> None:
        """Check ranges, and fields against each other."""
        _positive(self, "gt_downscale gt_crop batch_size max_frames_per_clip")
        _positive(self, "crop_candidates")
        _not_negative(
            self, "max_camera_speed num_workers frame_cache_mib max_disk_cache_gib"
        )
        for name in ("camera_motion", "synthetic_motion"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is a probability, got {getattr(self, name)}")
        if not self.intervals or min(self.intervals) < 1:
            raise InputError(f"intervals must be positive, got {self.intervals}")
        if min(self.more_downscales, default=1) < 1:
            raise InputError(
                f"more_downscales must be positive, got {self.more_downscales}"
            )
        if self.lq == "given" and (self.gt_downscale > 1 or self.more_downscales):
            raise InputError(
                "gt_downscale and more_downscales do not go with lq=given: the "
                "degraded frames belong to the full size; use edvr prepare "
                "--gt-downscale"
            )

    @property
    def window_step(self) -> int:
        """Frames of a clip from one frame of a degraded clip to the next."""
        return self.degrade.step if self.lq == "made" else 1

    @property
    def exposure(self) -> int:
        """Frames of a clip that make one degraded frame."""
        return self.degrade.num_blurred if self.lq == "made" else 1


@dataclasses.dataclass(frozen=True)
class FidelityConfig(_Settings):
    """Offset-fidelity loss: optical flow guides the offsets of the alignment.

    The mean offset of each deformable convolution, over its taps and groups, is
    compared with the optical flow from the center frame to the neighbor; the
    cascaded one, which corrects an aligned result, with zero. Beyond the tolerance
    the error costs ``error^2 / 2`` up to ``huber_delta``, and grows linearly from
    there. Source: "Understanding Deformable Alignment in Video Super-Resolution"
    (arXiv:2009.07265), Eq. 5, which compares every single offset, by the absolute
    error, with a tolerance of 10 pixels and weight 1. An absolute error of the mean
    would teach fresh offsets to stay at zero, the median of the motion.

    Attributes:
        weight: Factor of the loss of a window, which is the sum over the deformable
            convolutions of the mean over pixels; 0 turns it off.
        decay_periods: The weight falls linearly to zero over so many periods of the
            learning rate; None keeps it.
        tolerance: Error that costs nothing, in pixels of the level.
        huber_delta: Error from which the loss grows linearly, in pixels of the level.
        alone: Train the alignment by this loss alone: no frame is restored, and only
            the features and the offsets of the three levels learn.
    """

    weight: float = 0.0
    decay_periods: int | None = None
    tolerance: float = 0.0
    huber_delta: float = 4.0
    alone: bool = False

    def _check(self) -> None:
        """Check ranges, and that there is a loss."""
        _not_negative(self, "weight tolerance")
        if self.decay_periods is not None:
            _positive(self, "decay_periods")
        if not self.huber_delta > 0:
            raise InputError(f"huber_delta must be positive, got {self.huber_delta}")
        if self.alone and (not self.weight or self.decay_periods is not None):
            raise InputError(
                "alone needs a weight that stays: set weight, and no decay_periods"
            )


@dataclasses.dataclass(frozen=True)
class OptimConfig(_Settings):
    """Adam, its learning rate as a function of the step, and the loss.

    Parameters are named by their path, ``pcd_align/cas_dcnpack/kernel``; a prefix
    stands for all whose path begins with it.

    Attributes:
        peak_lr: Learning rate at the start of a period of weight 1.
        b1: Adam's decay of the first moment.
        b2: Adam's decay of the second moment.
        eta_min: Learning rate at the end of a period.
        period_steps: Lengths of the cosine periods, in steps.
        restart_weights: Factor of each period's peak.
        tsa_warmup_steps: In the first steps train the fusion alone, and leave all
            other parameters and their moments in Adam as they are.
        offset_lr_multiplier: Factor of the learning rate of the convolutions that
            predict the offsets of deformable convolutions.
        frozen: Prefixes of parameters that are never trained, such as "stage1".
        max_grad_norm: Scale gradients of a larger global norm down to it; None does
            not. The loss is a sum over pixels, so norms are large: look at
            ``grad_norm`` in the log first.
        ema_decay: Decay of the parameters' moving average, per step.
        loss: charbonnier: a sum over pixels; rmse: the root of each window's mean
            squared error, in which windows that are hard to restore weigh less than
            in the squared error itself.
        charbonnier_eps: Epsilon of sqrt(d^2 + eps), added to the squared
            difference of [0, 1] images.
        micro_batch_size: At most so many windows per device have their gradients
            computed at a time, which are added up; memory grows with it. None is 1
            on CPU, where more gain nothing, and all windows elsewhere.
        remat: Keep only the results of convolutions for the gradients, and compute
            the rest again: less memory, a little slower. XLA undoes it on CPU.
        fidelity: Offset-fidelity loss, added to it.
    """

    peak_lr: float = 4e-4
    b1: float = 0.9
    b2: float = 0.99
    eta_min: float = 1e-7
    period_steps: tuple[int, ...] = (150_000,) * 4
    restart_weights: tuple[float, ...] = (1.0,) * 4
    tsa_warmup_steps: int = 0
    offset_lr_multiplier: float = 1.0
    frozen: tuple[str, ...] = ()
    max_grad_norm: float | None = None
    ema_decay: float = 0.999
    loss: Literal["charbonnier", "rmse"] = "charbonnier"
    charbonnier_eps: float = 1e-12
    micro_batch_size: int | None = None
    remat: bool = False
    fidelity: FidelityConfig = FidelityConfig()

    def _check(self) -> None:
        """Check that every period has a weight, and ranges."""
        if len(self.period_steps) != len(self.restart_weights):
            raise InputError(
                f"period_steps has {len(self.period_steps)} entries but "
                f"restart_weights has {len(self.restart_weights)}"
            )
        _not_negative(
            self,
            "peak_lr eta_min charbonnier_eps tsa_warmup_steps offset_lr_multiplier",
        )
        if self.max_grad_norm is not None and not self.max_grad_norm > 0:
            raise InputError(
                f"max_grad_norm must be positive, got {self.max_grad_norm}"
            )
        for name in ("b1", "b2", "ema_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        if not self.period_steps or min(self.period_steps) < 1:
            raise InputError(f"period_steps must be positive, got {self.period_steps}")
        if self.micro_batch_size is not None:
            _positive(self, "micro_batch_size")


@dataclasses.dataclass(frozen=True)
class GuardConfig(_Settings):
    """What happens when training goes wrong: not finite, or offsets explode.

    A bad step's update is skipped. After ``patience`` bad steps in a row the run goes
    back to its last checkpoint, with a lower rate of the offset convolutions.

    Attributes:
        enabled: Without, bad updates are made, and a loss that is not finite stops
            the run.
        max_offset_mean: A step is bad if the mean of the absolute offsets of a
            deformable convolution is larger, in pixels of its level. BasicSR warns
            above 50, the official code above 100.
        patience: Bad steps in a row that are skipped before the run goes back.
        lr_factor: Factor of the offset convolutions' rate each time it goes back.
        max_rollbacks: Times it goes back before the run stops.
    """

    enabled: bool = True
    max_offset_mean: float = 50.0
    patience: int = 20
    lr_factor: float = 0.3
    max_rollbacks: int = 5

    def _check(self) -> None:
        """Check ranges."""
        _positive(self, "patience")
        _not_negative(self, "max_rollbacks lr_factor")
        if not self.max_offset_mean > 0:
            raise InputError(
                f"max_offset_mean must be positive, got {self.max_offset_mean}"
            )


@dataclasses.dataclass(frozen=True)
class InitConfig(_Settings):
    """What may differ between the network and the weights that it starts from.

    Attributes:
        fresh: Prefixes of parameters that start as new and need not be in the
            weights, such as "fusion" for the first training with TSA; what the
            weights have under these prefixes is left out.
        identity: Parameters that the weights do not have start so that they pass the
            center frame on, see edvr_jax/train/identity.py. A new fusion fits a new
            alignment, or one that was itself started like that. Short trainings of
            networks that keep the size need fewer steps.
        grow_depth: Fill residual blocks that the weights do not have with copies of
            those that they have, in turn.
    """

    fresh: tuple[str, ...] = ()
    identity: bool = False
    grow_depth: bool = False


@dataclasses.dataclass(frozen=True)
class EvalConfig(_Settings):
    """Validation during training.

    Attributes:
        every_steps: Steps between validations.
        protocol: A published test set, restored in full frames (docs/data.md); None
            takes crops of ``data.val_clips``, which is quick.
        frames_per_clip: Frames restored per validation clip: spread evenly, or with a
            protocol the first ones; 0 takes all.
    """

    every_steps: int = 5_000
    protocol: ProtocolName | None = None
    frames_per_clip: int = 10

    def _check(self) -> None:
        """Check ranges."""
        _positive(self, "every_steps")
        _not_negative(self, "frames_per_clip")


@dataclasses.dataclass(frozen=True)
class Config(_Settings):
    """One experiment.

    Attributes:
        model: Architecture; a cascade trains its second stage on the first one's
            outputs if ``optim.frozen`` names "stage1".
        data: Clips, crops and batches.
        optim: Optimizer, schedule, loss.
        guard: What happens when training goes wrong.
        init: What may differ in the weights that the run starts from.
        eval: Validation.
        total_steps: Steps of the run.
        seed: Seed of the parameters and of the order of the data.
        log_every_steps: Steps between two lines of the log.
        checkpoint_every_steps: Steps between checkpoints; validated steps are saved
            too.
        keep_checkpoints: Checkpoints kept: the newest ones, and beside them the one
            with the best validation.
    """

    model: ModelConfig | CascadeConfig = ModelConfig()
    data: DataConfig = DataConfig()
    optim: OptimConfig = OptimConfig()
    guard: GuardConfig = GuardConfig()
    init: InitConfig = InitConfig()
    eval: EvalConfig = EvalConfig()
    total_steps: int = 600_000
    seed: int = 0
    log_every_steps: int = 100
    checkpoint_every_steps: int = 5_000
    keep_checkpoints: int = 3

    def _check(self) -> None:
        """Check the parts against each other."""
        _positive(
            self,
            "total_steps log_every_steps checkpoint_every_steps keep_checkpoints",
        )
        _not_negative(self, "seed")
        if self.total_steps > sum(self.optim.period_steps):
            raise InputError(
                f"total_steps ({self.total_steps}) is more than the "
                f"{sum(self.optim.period_steps)} steps of optim.period_steps; change "
                "both"
            )
        fused = (
            self.model.stage2 if isinstance(self.model, CascadeConfig) else self.model
        )
        if self.optim.tsa_warmup_steps and not fused.with_tsa:
            raise InputError(
                f"optim.tsa_warmup_steps is {self.optim.tsa_warmup_steps}, but the "
                "network has no TSA (model.with_tsa)"
            )
        if self.optim.fidelity.weight and (
            isinstance(self.model, CascadeConfig) or not self.model.with_alignment
        ):
            raise InputError(
                "optim.fidelity guides the alignment of one network: it does not go "
                "with a cascade, or with model.with_alignment False"
            )
        self.data.degrade.check_scale(self.model.output_scale)
        step = self.model.size_multiple * self.model.output_scale
        if self.data.gt_crop % step:
            raise InputError(
                f"data.gt_crop must be a multiple of {step} (input multiple "
                f"{self.model.size_multiple} x scale {self.model.output_scale}), "
                f"got {self.data.gt_crop}"
            )


@dataclasses.dataclass(frozen=True)
class Phase(_Settings):
    """One run of a chain; ``get_chain()`` of a file in ``configs/`` gives a tuple.

    Attributes:
        name: Names its folder in the working directory.
        config: The experiment.
        init: What it starts from, as ``edvr train --init``, where the name of an
            earlier phase stands for its final weights.
    """

    name: str
    config: Config
    init: tuple[str, ...] = ()


def to_json(config: Any) -> str:
    """Write a configuration dataclass as JSON."""
    return json.dumps(dataclasses.asdict(config), indent=2)


def from_dict(cls: type[T], values: Mapping[str, Any]) -> T:
    """Build a configuration dataclass from nested plain values.

    Args:
        cls: The dataclass to build.
        values: Field values; lists stand for tuples, mappings for nested
            dataclasses. Fields left out keep their defaults.

    Returns:
        The dataclass.

    Raises:
        InputError: if a key is not a field of the class, or a value has another type.
    """
    if not isinstance(values, Mapping):
        raise InputError(
            f"{cls.__name__} needs fields and values, got {_brief(repr(values))}"
        )
    hints = get_type_hints(cls)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        names = ", ".join(key if key.isprintable() else repr(key) for key in unknown)
        raise InputError(
            f"{cls.__name__} has no field {_brief(names)}; "
            f"it has {', '.join(sorted(hints))}"
        )
    fields = {key: _plain_to_field(hints[key], v) for key, v in values.items()}
    return cls(**fields)


def _plain_to_field(hint: Any, value: Any) -> Any:
    if isinstance(value, Mapping):
        classes = [c for c in get_args(hint) or [hint] if dataclasses.is_dataclass(c)]
        # The classes of a union share no field.
        fitting = [c for c in classes if set(value) & set(get_type_hints(c))]
        found: list[Any] = fitting or classes
        return from_dict(found[0], value) if found else value
    if type(value) is int and float in (hint, *get_args(hint)):
        return float(value)  # JAX takes integers of 32 bits only
    return tuple(value) if isinstance(value, list) else value
