"""What is timed in both frameworks: sizes, inputs and parameters.

Both workers import this file, so it needs NumPy alone. Arrays have edvr_jax's
layouts; parameters have BasicSR's names and shapes.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

M: Mapping[str, Any] = {
    "num_features": 64,
    "deformable_groups": 8,
    "num_extract_blocks": 5,
    "num_reconstruct_blocks": 10,
}
L: Mapping[str, Any] = {**M, "num_features": 128, "num_reconstruct_blocks": 40}
TINY: Mapping[str, Any] = {
    "num_features": 8,
    "deformable_groups": 2,
    "num_extract_blocks": 1,
    "num_reconstruct_blocks": 1,
}
NUM_FRAMES = 5
SCALE = 4

Name = Literal[
    "deform_conv_forward",
    "deform_conv_backward",
    "deform_conv_gradient",
    "window_m",
    "window_l",
    "stream_m",
    "train_step_m",
]

# The same numbers in both frameworks, those of the recipe.
LEARNING_RATE = 4e-4
BETAS = (0.9, 0.99)
EMA_DECAY = 0.999
CHARBONNIER_EPS = 1e-12


@dataclasses.dataclass(frozen=True)
class Case:
    """One piece of work.

    Attributes:
        work: What is computed.
        summary: The same in words, with what the clock includes.
        size: Height and width of the input.
        batch: Images, windows or, for a stream, frames of the clip.
        model: Fields of edvr_jax.ModelConfig; the deformable convolution takes its
            channels and groups from them.
        num_warm_up: Runs before the timed ones.
    """

    work: Literal["forward", "backward", "gradient", "window", "stream", "train_step"]
    summary: str
    size: tuple[int, int]
    batch: int = 1
    model: Mapping[str, Any] = dataclasses.field(default_factory=lambda: M)
    num_warm_up: int = 2


CASES: dict[Name, Case] = {
    "deform_conv_forward": Case(
        "forward", "deformable convolution 5x64x64x64, 8 groups", (64, 64), batch=5
    ),
    "deform_conv_backward": Case(
        "backward",
        "the same: gradients to all five inputs, the forward pass not timed",
        (64, 64),
        batch=5,
    ),
    "deform_conv_gradient": Case(
        "gradient", "the same: forward and backward pass together", (64, 64), batch=5
    ),
    "window_m": Case("window", "EDVR-M, 5x64x112 to 256x448", (64, 112)),
    "window_l": Case("window", "EDVR-L, 5x64x112 to 256x448", (64, 112), model=L),
    "stream_m": Case(
        "stream",
        "EDVR-M over a clip of 20 frames of 64x112; PyTorch window by window",
        (64, 112),
        batch=20,
        num_warm_up=1,
    ),
    "train_step_m": Case(
        "train_step",
        "EDVR-M, 2 windows of 5x64x64: Charbonnier, Adam, moving average",
        (64, 64),
        batch=2,
        num_warm_up=3,  # the losses of three steps are compared
    ),
}


def get(name: Name, *, is_tiny: bool) -> Case:
    """Return a case, or a tiny one of the same kind to try the program with."""
    case = CASES[name]
    if not is_tiny:
        return case
    return dataclasses.replace(
        case, size=(16, 16), batch=min(case.batch, 3), model=TINY
    )


def draw_inputs(case: Case) -> dict[str, np.ndarray]:
    """Draw a case's inputs, the same in every process, float32."""
    rng = np.random.default_rng(0)

    def image(*shape):
        return rng.random(shape, np.float32)

    def normal(*shape):
        return rng.standard_normal(shape, np.float32)

    n, (height, width) = case.batch, case.size
    if case.work == "window":
        return {"frames": image(n, NUM_FRAMES, height, width, 3)}
    if case.work == "stream":
        return {"frames": image(n, height, width, 3)}
    if case.work == "train_step":
        return {
            "lq": image(n, NUM_FRAMES, height, width, 3),
            "gt": image(n, SCALE * height, SCALE * width, 3),
        }
    channels, groups = case.model["num_features"], case.model["deformable_groups"]
    return {
        "x": normal(n, height, width, channels),
        "offset": normal(n, height, width, groups, 9, 2),
        "mask": image(n, height, width, groups, 9),
        "kernel": normal(3, 3, channels, channels) / np.float32(3 * channels**0.5),
        "bias": normal(channels),
        "cotangent": normal(n, height, width, channels),
    }


def draw_parameters(shapes: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Draw a network's parameters, by BasicSR's names, float32.

    Offsets come out about one pixel large: those of a new network are zero, and
    would make sampling look cheaper than it is.
    """
    rng = np.random.default_rng(1)
    parameters = {}
    for name, shape in shapes.items():
        is_kernel, is_offset = len(shape) == 4, "conv_offset" in name
        if is_kernel:
            scale = (0.1 if is_offset else 0.5) / np.prod(shape[1:]) ** 0.5
        else:
            scale = 1.0 if is_offset else 0.05
        parameters[name] = rng.standard_normal(shape, np.float32) * np.float32(scale)
    return parameters


def largest_difference(
    actual: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]
) -> float:
    """Compare outputs: the largest difference over the largest value of its array."""
    assert set(actual) == set(expected)
    ratios = [
        np.abs(actual[key] - value).max() / np.abs(value).max()
        for key, value in expected.items()
    ]
    return float(np.max(ratios))
