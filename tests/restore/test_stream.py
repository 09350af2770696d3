"""A stream equals the network on windows built by hand, whatever the clip."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edvr_jax.config import CascadeConfig, ModelConfig
from edvr_jax.data.windows import PADDING_MODES, window_indices
from edvr_jax.errors import InputError
from edvr_jax.models.cascade import create_model
from edvr_jax.restore.stream import iter_windows, restore_frames

TINY = ModelConfig(
    num_features=8,
    deformable_groups=2,
    num_extract_blocks=1,
    num_reconstruct_blocks=1,
)
SMALLEST = dataclasses.replace(TINY, num_frames=3, with_tsa=False)
ATOL = 1e-5  # stated for the stream; measured 9e-7 on CPU


def make_frames(num_frames, height=16, width=20):
    rng = np.random.default_rng(num_frames)
    return rng.random((num_frames, height, width, 3), np.float32)


def make_params(config, height=16, width=20):
    """Random, and large enough everywhere for each frame of a window to matter."""
    shape = (1, config.num_frames, height, width, config.in_channels)
    model = create_model(config)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros(shape))["params"]
    leaves, tree = jax.tree.flatten(shapes)
    rng = np.random.default_rng(0)
    noise = [rng.normal(0, 0.1, x.shape).astype(np.float32) for x in leaves]
    return model, jax.tree.unflatten(tree, noise)


@pytest.mark.parametrize("num_total", [1, 2, 3, 5, 9, 12])
@pytest.mark.parametrize("padding", PADDING_MODES)
@pytest.mark.parametrize(("num_frames", "center"), [(5, 2), (1, 0), (3, 0), (3, 2)])
def test_windows_of_a_sequence_of_unknown_length(
    num_total, padding, num_frames, center
):
    reach = max(center, num_frames - 1 - center)
    expected = [
        window_indices(i, num_total, 2 * reach + 1, padding)[reach - center :][
            :num_frames
        ]
        for i in range(num_total)
    ]
    options = {"num_frames": num_frames, "center": center, "padding": padding}
    windows = list(iter_windows(iter(range(num_total)), **options))
    assert windows == expected
    assert [window[center] for window in windows] == list(range(num_total))


def test_windows_hold_few_items_and_look_ahead_little():
    held = set()

    class Item:
        def __init__(self, index):
            self.index = index
            held.add(index)

        def __del__(self):
            held.discard(self.index)

    items = map(Item, itertools.count())
    windows = iter_windows(items, num_frames=5, center=2, padding="circle")
    for index in range(50):
        window = [item.index for item in next(windows)]
        assert window[2] == index
        assert max(held) <= max(index + 2, 4)
        assert len(held) <= 6  # the ring of five, and the newest


@pytest.fixture(scope="module")
def tiny():
    model, params = make_params(TINY)
    apply = jax.jit(lambda windows: model.apply({"params": params}, windows))
    return params, apply


@pytest.mark.parametrize("num_total", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("padding", PADDING_MODES)
def test_stream_equals_explicit_windows(tiny, padding, num_total):
    params, apply = tiny
    frames = make_frames(num_total)
    restored = list(restore_frames(TINY, params, iter(frames), padding=padding))
    assert len(restored) == num_total
    for index, image in enumerate(restored):
        window = frames[window_indices(index, num_total, 5, padding)]
        assert image.dtype == np.float32
        np.testing.assert_allclose(image, apply(window[None])[0], atol=ATOL)


def test_neighbors_matter(tiny):
    # Else the test above could not see a wrong window.
    _, apply = tiny
    frames = make_frames(5)
    still = np.broadcast_to(frames[2], frames.shape)
    difference = np.abs(apply(frames[None]) - apply(still[None]))
    assert difference.max() > 100 * ATOL


@pytest.mark.parametrize(
    ("config", "height", "width"),
    [
        (dataclasses.replace(SMALLEST, center_frame_index=0), 17, 21),
        (dataclasses.replace(SMALLEST, hr_in=True, scale=1), 33, 5),
    ],
    ids=["first frame is restored", "features at a quarter"],
)
def test_any_size_and_center(config, height, width):
    multiple, scale = config.size_multiple, config.output_scale
    pads = [(0, -height % multiple), (0, -width % multiple)]
    model, params = make_params(config, height + pads[0][1], width + pads[1][1])
    frames = (make_frames(3, height, width) * 255).astype(np.uint8)
    padded = frames
    for axis, pad in enumerate(pads):
        mode = "reflect" if pad[1] < frames.shape[axis + 1] else "edge"
        widths = [(0, 0)] * 4
        widths[axis + 1] = pad
        padded = np.pad(padded, widths, mode)
    reach = max(config.center, config.num_frames - 1 - config.center)
    first = reach - config.center
    restored = list(restore_frames(config, params, frames, padding="reflection"))
    apply = jax.jit(lambda window: model.apply({"params": params}, window))
    for index, image in enumerate(restored):
        indices = window_indices(index, 3, 2 * reach + 1, "reflection")
        window = padded[indices[first : first + config.num_frames]]
        expected = apply(window[None] / np.float32(255))[0]
        expected = expected[: height * scale, : width * scale]
        np.testing.assert_allclose(image, expected, atol=ATOL)


def test_cascade_equals_the_module_inside_the_clip():
    stage1 = dataclasses.replace(SMALLEST, scale=2)
    stage2 = dataclasses.replace(SMALLEST, scale=1, hr_in=True)
    config = CascadeConfig(stage1, stage2)
    model, params = make_params_of_cascade(config)
    frames = make_frames(6, 16, 24)
    restored = list(restore_frames(config, params, frames))
    assert [image.shape for image in restored] == [(32, 48, 3)] * 6
    apply = jax.jit(lambda window: model.apply({"params": params}, window))
    for index in (2, 3):  # the others depend on the padding of stage 2
        window = frames[index - 2 : index + 3]
        expected = apply(window[None])[0]
        np.testing.assert_allclose(restored[index], expected, atol=ATOL)


def make_params_of_cascade(config):
    _, params1 = make_params(config.stage1, 16, 24)
    _, params2 = make_params(config.stage2, 32, 48)
    return create_model(config), {"stage1": params1, "stage2": params2}


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (
            [make_frames(1)[0]] * 3 + [make_frames(1, 16, 24)[0]],
            r"frame 3 has shape \(16, 24, 3\) but frame 0 has \(16, 20, 3\)",
        ),
        (make_frames(2)[..., :1], r"frame 0 has shape \(16, 20, 1\).*\[H, W, 3\]"),
        (make_frames(2)[0], r"frame 0 has shape \(20, 3\)"),
        (make_frames(2).astype(np.int32), "frame 0 is int32; give uint8"),
    ],
)
def test_frames_that_do_not_fit(tiny, frames, message):
    with pytest.raises(InputError, match=message):
        list(restore_frames(TINY, tiny[0], frames))


def test_unknown_padding_is_refused_at_the_call(tiny):
    with pytest.raises(InputError, match="padding must be one of replicate"):
        restore_frames(TINY, tiny[0], [], padding="mirror")


def test_no_frames_give_no_frames(tiny):
    assert list(restore_frames(TINY, tiny[0], [])) == []
