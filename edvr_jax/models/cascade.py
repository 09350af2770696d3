"""Two-stage restoration: a second EDVR refines the outputs of the first.

EDVR (arXiv:1905.02716), section 3.4 "Two-Stage Restoration".
"""

from typing import overload

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from edvr_jax import config as config_lib
from edvr_jax.models.edvr import EDVR, WindowNetwork, create_edvr


class Cascade(WindowNetwork):
    """Apply stage 1 to every window that stage 2 needs, then stage 2.

    Attributes:
        stage1: First network.
        stage2: Second network; keeps the size.
    """

    stage1: EDVR
    stage2: EDVR

    def __call__(self, frames: ArrayLike) -> jax.Array:
        """Restore one frame of each window.

        Args:
            frames: RGB in [0, 1], [N, T1 + T2 - 1, H, W, C], where T1 and T2 are
                the windows of the stages. H and W fit stage 1, and the size of
                stage 1's output fits stage 2.

        Returns:
            Restored frames, float32, [N, s*H, s*W, C], of the frame with index
            stage1.center_frame_index + stage2.center_frame_index.

        Raises:
            TypeError: if the frames are not floating point.
            ValueError: if the number of frames does not fit.

        Note:
            The official code saves stage 1's results as 8-bit images in between;
            here they stay floating point, clipped to [0, 1].
        """
        frames = jnp.asarray(frames)
        t1, t2 = self.stage1.num_frames, self.stage2.num_frames
        if frames.ndim != 5 or frames.shape[1] != t1 + t2 - 1:
            raise ValueError(
                f"expected frames [N, {t1 + t2 - 1}, H, W, C], got {frames.shape}"
            )
        n, t = frames.shape[:2]
        # Every frame is encoded once, then seen by up to t1 windows.
        pyramid = self.stage1.encode(frames.reshape(n * t, *frames.shape[2:]))
        windows = tuple(
            _windows(level.reshape(n, t, *level.shape[1:]), t1) for level in pyramid
        )
        center = self.stage1.center_frame_index
        centers = frames[:, center : center + t2]
        first = self.stage1.reconstruct(windows, centers.reshape(-1, *frames.shape[2:]))
        first = jnp.clip(first, 0, 1).reshape(n, t2, *first.shape[1:])
        return self.stage2(first)


def _windows(level: jax.Array, num_frames: int) -> jax.Array:
    """All windows of consecutive frames, [N, T, ...] -> [N*(T-n+1), n, ...]."""
    starts = range(level.shape[1] - num_frames + 1)
    windows = jnp.stack([level[:, i : i + num_frames] for i in starts], axis=1)
    return windows.reshape(-1, *windows.shape[2:])


@overload
def create_model(
    config: config_lib.ModelConfig,
    *,
    predeblur: nn.Module | None = None,
    pcd_align: nn.Module | None = None,
    fusion: nn.Module | None = None,
) -> EDVR: ...


@overload
def create_model(config: config_lib.CascadeConfig) -> Cascade: ...


def create_model(
    config: config_lib.NetworkConfig,
    *,
    predeblur: nn.Module | None = None,
    pcd_align: nn.Module | None = None,
    fusion: nn.Module | None = None,
) -> EDVR | Cascade:
    """Build the network that a configuration describes.

    Args:
        config: One network, or a two-stage cascade.
        predeblur: Your module in place of PredeblurModule: frames [N, H, W, C] to
            features [N, h, w, num_features]. Needs ``config.with_predeblur``.
        pcd_align: Your module in place of PCDAlignment: called with the neighbors'
            and the references' pyramids, gives [N, H, W, num_features].
        fusion: Your module in place of TSAFusion: aligned features
            [N, T, H, W, num_features] to [N, H, W, num_features].

    Returns:
        A pure linen module, ``model.apply({"params": params}, frames)``. A
        cascade's parameters are nested under ``stage1`` and ``stage2``.

    Raises:
        TypeError: if ``config`` is no configuration, for example a name.
        ValueError: if a module is given that the configuration does not use, or
            for a cascade (replace the parts of each stage instead).
    """
    if not isinstance(config, config_lib.ModelConfig | config_lib.CascadeConfig):
        raise TypeError(
            f"config must be a ModelConfig or a CascadeConfig, got {config!r}; "
            "load_weights(name) returns the one of a weights file"
        )
    parts = {"predeblur": predeblur, "pcd_align": pcd_align, "fusion": fusion}
    if isinstance(config, config_lib.ModelConfig):
        return create_edvr(config, **parts)
    if any(part is not None for part in parts.values()):
        raise ValueError(
            "to replace parts of a cascade, build Cascade(stage1=..., stage2=...) "
            "from two create_model results"
        )
    return Cascade(stage1=create_edvr(config.stage1), stage2=create_edvr(config.stage2))
