"""Restore a clip frame by frame: a sliding window that reuses every frame's features.

Each frame is encoded once (PreDeblur, feature extraction, pyramid); a window is
aligned, fused and reconstructed from the features in a ring buffer. Memory does not
grow with the clip, whose length need not be known. A two-stage restoration is one
stream feeding another, so that stage 2 sees stage 1's output of every frame, padded
at the ends of the clip like any other clip.
"""

import collections
import functools
from collections.abc import Container, Iterable, Iterator
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from edvr_jax.config import CascadeConfig, ModelConfig
from edvr_jax.data.windows import PADDING_MODES, window_indices
from edvr_jax.errors import InputError
from edvr_jax.models.cascade import Cascade, create_model

T = TypeVar("T")


def restore_frames(
    config: ModelConfig | CascadeConfig,
    params: Any,
    frames: Iterable[np.ndarray],
    *,
    padding: str = "reflection_circle",
    model: nn.Module | None = None,
    only: Container[int] | None = None,
) -> Iterator[np.ndarray]:
    """Restore the frames of one clip, in order, one out for each one in.

    Args:
        config: Architecture of the network, or of the two of a cascade.
        params: Its parameters.
        frames: RGB frames of one size, [H, W, C], uint8 or float in [0, 1]; any size.
        padding: What stands in for frames beyond the ends of the clip; one of
            ``edvr_jax.data.windows.PADDING_MODES``.
        model: The module to apply if it is not ``create_model(config)``, for one
            with a part replaced.
        only: Indices of the frames to restore; None is all of them.

    Returns:
        Iterator over the restored frames, float32, [s*H, s*W, C] with s =
        ``config.output_scale``. They are the network's output as it is; it may
        overshoot [0, 1] by a little.

    Raises:
        InputError: for an unknown padding and, while iterating, for a frame whose
            shape or type does not fit; it names the frame's index.
    """
    if padding not in PADDING_MODES:
        raise InputError(
            f"padding must be one of {', '.join(PADDING_MODES)}; got {padding!r}"
        )
    model = create_model(config) if model is None else model
    if isinstance(config, ModelConfig):
        return _stream(config, params, frames, padding, model, only)
    stage1, stage2 = cast(Cascade, model).stage1, cast(Cascade, model).stage2
    first = _stream(config.stage1, params["stage1"], frames, padding, stage1)
    first = (np.clip(frame, 0, 1) for frame in first)  # as Cascade does
    return _stream(config.stage2, params["stage2"], first, padding, stage2, only)


def iter_windows(
    items: Iterable[T], *, num_frames: int, center: int, padding: str
) -> Iterator[list[T]]:
    """Yield the window of every item of a sequence whose length is unknown.

    Args:
        items: One item per frame; each is drawn once and at most ``num_frames`` are
            held (more if ``center`` is not the middle).
        num_frames: Items in a window; odd.
        center: Index in the window of the item it belongs to. If that is not the
            middle, the window is cut from the smallest symmetric one around it.
        padding: As for :func:`restore_frames`.

    Yields:
        Lists of ``num_frames`` items, as many lists as there are items.
    """
    reach = max(center, num_frames - 1 - center)
    span = 2 * reach + 1
    ring: dict[int, T] = {}
    num_done = num_read = 0

    def window(index: int) -> list[T]:
        indices = window_indices(index, num_read, span, padding)
        first = reach - center
        return [ring[i] for i in indices[first : first + num_frames]]

    for item in items:
        ring.pop(num_read - span, None)
        ring[num_read] = item
        num_read += 1
        # Up to index `reach` a window may reach as far as frame `span - 1`, later
        # ones `reach` ahead; the windows at the end need the last `span` frames.
        while num_read >= span and num_done + reach < num_read:
            yield window(num_done)
            num_done += 1
    for index in range(num_done, num_read):
        yield window(index)


def _stream(
    config: ModelConfig,
    params: Any,
    frames: Iterable[np.ndarray],
    padding: str,
    model: nn.Module,
    only: Container[int] | None = None,
) -> Iterator[np.ndarray]:
    params = jax.device_put(params)
    multiple, scale = config.size_multiple, config.output_scale
    running = collections.deque(maxlen=config.num_frames)

    def encode(frame: np.ndarray) -> tuple[jax.Array, ...]:
        features = _encode(params, frame, model=model, multiple=multiple)
        running.append(features)
        return features

    frames = _check_frames(frames, config.in_channels)
    windows = iter_windows(
        ((frame, encode(frame)) for frame in frames),
        num_frames=config.num_frames,
        center=config.center,
        padding=padding,
    )
    pending = restored = None
    try:
        for index, window in enumerate(windows):
            if only is not None and index not in only:
                continue
            features = tuple(levels for _, levels in window)
            frame = window[config.center][0]
            restored = _reconstruct(
                params, features, frame, model=model, multiple=multiple, scale=scale
            )
            # One frame is computed while the caller works on the one before.
            if pending is not None:
                yield np.asarray(pending)
            pending = restored
        if pending is not None:
            yield np.asarray(pending)
    finally:
        # What still runs reads the frames' memory, which Python frees at its exit:
        # without waiting, Ctrl-C ends in a crash.
        jax.block_until_ready((restored, pending, list(running)))


def _check_frames(
    frames: Iterable[np.ndarray], num_channels: int
) -> Iterator[np.ndarray]:
    first_shape = None
    for index, frame in enumerate(frames):
        frame = np.asarray(frame)
        if frame.ndim != 3 or frame.shape[2] != num_channels or not frame.size:
            raise InputError(
                f"frame {index} has shape {frame.shape}; this network takes "
                f"[H, W, {num_channels}]"
            )
        first_shape = first_shape or frame.shape
        if frame.shape != first_shape:
            raise InputError(
                f"frame {index} has shape {frame.shape} but frame 0 has "
                f"{first_shape}; all frames of a clip must have one size"
            )
        if frame.dtype != np.uint8:
            if not np.issubdtype(frame.dtype, np.floating):
                raise InputError(
                    f"frame {index} is {frame.dtype}; give uint8, or float in [0, 1]"
                )
            frame = frame.astype(np.float32)
        yield frame


@functools.partial(jax.jit, static_argnames=("model", "multiple"))
def _encode(
    params: Any, frame: jax.Array, *, model: nn.Module, multiple: int
) -> tuple[jax.Array, ...]:
    image = _prepare(frame, multiple)
    return model.apply({"params": params}, image, method="encode")  # pyright: ignore


@functools.partial(jax.jit, static_argnames=("model", "multiple", "scale"))
def _reconstruct(
    params: Any,
    features: tuple[tuple[jax.Array, ...], ...],
    frame: jax.Array,
    *,
    model: nn.Module,
    multiple: int,
    scale: int,
) -> jax.Array:
    levels = tuple(jnp.stack(level, axis=1) for level in zip(*features, strict=True))
    image = _prepare(frame, multiple)
    restored = model.apply({"params": params}, levels, image, method="reconstruct")
    height, width, _ = frame.shape
    restored = restored[0, : height * scale, : width * scale]  # pyright: ignore
    return restored.astype(jnp.float32)


def _prepare(frame: jax.Array, multiple: int) -> jax.Array:
    """Scale uint8 to [0, 1] and pad bottom and right to whole multiples."""
    if frame.dtype == jnp.uint8:
        frame = frame.astype(jnp.float32) / 255
    for axis in (0, 1):
        size = frame.shape[axis]
        pad = -size % multiple
        widths = [(0, 0)] * 3
        widths[axis] = (0, pad)
        # A mirror is the better guess, but needs more pixels than it makes.
        frame = jnp.pad(frame, widths, mode="reflect" if pad < size else "edge")
    return frame[None]
