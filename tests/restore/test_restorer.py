"""A stream equals the network on windows built by hand, whatever the clip."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest

from edvr_jax.config import CascadeConfig, ModelConfig
from edvr_jax.models.cascade import create_model
from edvr_jax.restore.compiled import create_networks
from edvr_jax.restore.restorer import RestoreOptions, Restorer, restore_frames
from edvr_jax.restore.windows import PADDING_MODES, iter_windows, window_indices
from tests.messages import refused

ATOL = 1e-5  # stated for the stream; measured 1e-6 on CPU


def make_frames(num_frames, height=16, width=20):
    rng = np.random.default_rng(num_frames)
    return rng.random((num_frames, height, width, 3), np.float32)


@pytest.fixture(scope="module")
def make_network(random_params):
    """Function from a configuration to parameters and the network with them.

    They are large enough everywhere for each frame of a window to matter.
    """

    def make(config):
        model, params = create_model(config), random_params(config, scale=0.1)
        return params, jax.jit(lambda windows: model.apply({"params": params}, windows))

    return make


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
def five_frames(tiny_config, make_network):
    config = dataclasses.replace(tiny_config, num_frames=5)
    return config, *make_network(config)


@pytest.fixture(scope="module")
def small_config(tiny_config):
    return dataclasses.replace(tiny_config, with_tsa=False)


@pytest.mark.parametrize("num_total", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("padding", PADDING_MODES)
def test_stream_equals_explicit_windows(five_frames, padding, num_total):
    config, params, apply = five_frames
    frames = make_frames(num_total)
    restored = list(restore_frames(config, params, iter(frames), padding=padding))
    assert len(restored) == num_total
    for index, image in enumerate(restored):
        window = frames[window_indices(index, num_total, 5, padding)]
        assert image.dtype == np.float32
        np.testing.assert_allclose(image, apply(window[None])[0], atol=ATOL)


def test_only_some_frames(five_frames):
    config, params, _ = five_frames
    frames = make_frames(5)
    everything = list(restore_frames(config, params, frames))
    some = list(restore_frames(config, params, frames, only={1, 4}))
    np.testing.assert_array_equal(some, [everything[1], everything[4]])


def test_neighbors_matter(five_frames):
    # Else the test above could not see a wrong window.
    _, _, apply = five_frames
    frames = make_frames(5)
    still = np.broadcast_to(frames[2], frames.shape)
    difference = np.abs(apply(frames[None]) - apply(still[None]))
    assert difference.max() > 100 * ATOL


@pytest.mark.parametrize(
    ("change", "height", "width"),
    [({"center_frame_index": 0}, 17, 21), ({"hr_in": True, "scale": 1}, 33, 5)],
    ids=["first frame is restored", "features at a quarter"],
)
def test_any_size_and_center(small_config, make_network, change, height, width):
    config = dataclasses.replace(small_config, **change)
    multiple, scale = config.size_multiple, config.output_scale
    pads = [(0, -height % multiple), (0, -width % multiple)]
    frames = (make_frames(3, height, width) * 255).astype(np.uint8)
    padded = frames
    for axis, pad in enumerate(pads):
        mode = "reflect" if pad[1] < frames.shape[axis + 1] else "edge"
        widths = [(0, 0)] * 4
        widths[axis + 1] = pad
        padded = np.pad(padded, widths, mode)
    reach = max(config.center, config.num_frames - 1 - config.center)
    first = reach - config.center
    params, apply = make_network(config)
    restored = list(restore_frames(config, params, frames, padding="reflection"))
    for index, image in enumerate(restored):
        indices = window_indices(index, 3, 2 * reach + 1, "reflection")
        window = padded[indices[first : first + config.num_frames]]
        expected = apply(window[None] / np.float32(255))[0]
        expected = expected[: height * scale, : width * scale]
        np.testing.assert_allclose(image, expected, atol=ATOL)


def test_cascade_equals_the_module_inside_the_clip(small_config, make_network):
    stage1 = dataclasses.replace(small_config, scale=2)
    stage2 = dataclasses.replace(small_config, scale=1, hr_in=True)
    config = CascadeConfig(stage1, stage2)
    params, apply = make_network(config)
    frames = make_frames(6, 16, 24)
    restored = list(restore_frames(config, params, frames))
    assert [image.shape for image in restored] == [(32, 48, 3)] * 6
    for index in (2, 3):  # the others depend on the padding of stage 2
        window = frames[index - 2 : index + 3]
        expected = apply(window[None])[0]
        np.testing.assert_allclose(restored[index], expected, atol=ATOL)
    (middle,) = restore_frames(config, params, frames, only=[3])
    np.testing.assert_array_equal(middle, restored[3])


def test_chain_of_networks_is_one_stream_after_the_other(small_config, make_network):
    config = dataclasses.replace(small_config, scale=2)
    params, _ = make_network(config)
    frames = make_frames(6)
    network = create_networks(config, params)[0]
    chain = list(Restorer([network, network])(frames))
    first = [np.clip(x, 0, 1) for x in restore_frames(config, params, frames)]
    second = list(restore_frames(config, params, first))
    np.testing.assert_allclose(chain, second, atol=ATOL)
    # A resumed job restores only the last frames.
    rest = list(Restorer([network, network])(frames, only=range(4, 1000)))
    np.testing.assert_array_equal(rest, chain[4:])


def test_ensemble_is_the_mean_over_flips(five_frames):
    config, params, _ = five_frames
    frames = make_frames(6)
    restored = list(restore_frames(config, params, frames, ensemble=True))
    members = []
    for axes in ((), (1,), (2,), (1, 2)):
        flipped = np.flip(frames, axes)
        member = np.stack(list(restore_frames(config, params, flipped)))
        members.append(np.flip(member, axes))
    np.testing.assert_allclose(restored, np.mean(members, axis=0), atol=ATOL)
    assert np.abs(members[0] - members[1]).max() > 100 * ATOL
    some = restore_frames(config, params, frames, ensemble=True, only={1, 4})
    np.testing.assert_array_equal(list(some), [restored[1], restored[4]])
    rounded = restore_frames(config, params, frames, ensemble=True, dtype="uint8")
    levels = np.clip(np.stack(restored), 0, 1) * 255
    np.testing.assert_array_equal(list(rounded), np.rint(levels).astype(np.uint8))


def test_ensemble_of_a_chain_with_cuts_and_some_frames(small_config, make_network):
    config = dataclasses.replace(small_config, scale=2)
    params, _ = make_network(config)
    network = create_networks(config, params)[0]
    dark, bright = make_frames(4) / 4, 1 - make_frames(1) / 4
    clip = np.concatenate([dark, bright])  # the last scene is one frame
    options = RestoreOptions(ensemble=True, scene_cuts=True)
    restorer = Restorer([network, network], options)
    restored = list(restorer(clip))
    expected = []
    for scene in (dark, bright):
        first = restore_frames(config, params, scene, ensemble=True)
        between = [np.clip(x, 0, 1) for x in first]
        expected += restore_frames(config, params, between, ensemble=True)
    np.testing.assert_allclose(restored, expected, atol=ATOL)
    rest = list(restorer(clip, only=range(2, 99)))
    np.testing.assert_array_equal(rest, restored[2:])


def test_frames_may_come_in_one_buffer(five_frames):
    config, params, _ = five_frames
    frames = (make_frames(6) * 255).astype(np.uint8)
    buffer = np.empty_like(frames[0])

    def decode():
        for frame in frames:
            buffer[:] = frame
            yield buffer

    restored = list(restore_frames(config, params, decode()))
    expected = list(restore_frames(config, params, frames))
    np.testing.assert_array_equal(restored, expected)
    restored[0][:] = 0  # and what comes out belongs to the caller


def test_no_window_reaches_across_a_cut(five_frames):
    config, params, _ = five_frames
    dark, bright = make_frames(5) / 4, 1 - make_frames(7) / 4
    clip = np.concatenate([dark, bright])
    restored = list(restore_frames(config, params, clip, scene_cuts=True))
    apart = [
        image
        for scene in (dark, bright)
        for image in restore_frames(config, params, scene)
    ]
    np.testing.assert_array_equal(restored, apart)
    across = list(restore_frames(config, params, clip))
    assert np.abs(across[5] - apart[5]).max() > 100 * ATOL
    last = restore_frames(config, params, clip, scene_cuts=True, only=range(4, 99))
    np.testing.assert_array_equal(list(last), apart[4:])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_levels_in_and_out(five_frames, dtype):
    config, params, _ = five_frames
    largest = np.iinfo(dtype).max
    frames = np.rint(make_frames(5) * largest).astype(dtype)
    real = restore_frames(config, params, frames.astype(np.float64) / largest)
    restored = list(restore_frames(config, params, frames, dtype=dtype))
    assert {image.dtype for image in restored} == {np.dtype(dtype)}
    expected = np.clip(np.stack(list(real)), 0, 1).astype(np.float64) * largest
    # Half a level, and the rounding of float32 in the network.
    np.testing.assert_allclose(restored, expected, atol=0.5 + 1e-6 * largest)


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"with_tsa": False},
        {"with_predeblur": True},
        {"hr_in": True, "scale": 1},
        {"hr_in": True, "scale": 1, "with_predeblur": True},
        {"cascade": True},
    ],
    ids=["m", "without tsa", "predeblur", "hr_in", "deblur", "two stages"],
)
def test_real_clip_in_full_width(fixtures, make_network, change):
    """30 frames that pan over a photograph, EDVR-M with random weights."""
    photo = np.load(fixtures / "psnr_ssim.npz")["a_rgb"][0]
    starts = [(i, 2 * i) for i in range(30)]
    frames = np.stack([photo[y : y + 32, x : x + 48] for y, x in starts])
    options = {key: value for key, value in change.items() if key != "cascade"}
    config = ModelConfig(**options)
    if "cascade" in change:
        stage2 = ModelConfig(hr_in=True, scale=1, num_reconstruct_blocks=4)
        config = CascadeConfig(ModelConfig(scale=2, num_reconstruct_blocks=4), stage2)
    params, _ = make_network(config)
    params = jax.tree.map(lambda x: x * np.float32(0.3), params)
    for padding in PADDING_MODES:
        # Paddings differ at the ends only.
        clip = frames if padding == "reflection" else frames[:8]
        restored = list(restore_frames(config, params, clip, padding=padding))
        expected = windowed(config, params, clip / np.float32(255), padding)
        assert np.isfinite(restored).all()
        np.testing.assert_allclose(restored, expected, atol=ATOL)


def windowed(config, params, frames, padding):
    """The network on windows built by hand, stage by stage."""
    if isinstance(config, CascadeConfig):
        first = windowed(config.stage1, params["stage1"], frames, padding)
        first = np.clip(first, 0, 1)
        return windowed(config.stage2, params["stage2"], first, padding)
    model = create_model(config)
    apply = jax.jit(lambda windows: model.apply({"params": params}, windows))
    count, num_frames = len(frames), config.num_frames
    return np.stack(
        [
            apply(frames[window_indices(i, count, num_frames, padding)][None])[0]
            for i in range(count)
        ]
    )


@pytest.mark.parametrize(
    ("frames", "facts"),
    [
        (
            [make_frames(1)[0]] * 3 + [make_frames(1, 16, 24)[0]],
            ("frame 3", (16, 24, 3), "frame 0", (16, 20, 3)),
        ),
        (make_frames(2)[..., :1], ("frame 0", (16, 20, 1), "[H, W, 3]")),
        (make_frames(2)[0], ("frame 0", (20, 3))),
        (make_frames(2) * np.float32(200), ("frame 0", "[0, 1]", "to 2")),
        (make_frames(2) * np.float32(1.9), ("frame 0", "to 1.")),
        (make_frames(2) * np.float32(2) - np.float32(1), ("frame 0", "from -0.99")),
        (make_frames(2) * np.float32(np.nan), ("frame 0", "from nan")),
        (make_frames(2).astype(np.int32), ("frame 0", "int32", "uint8, uint16")),
        (
            [make_frames(1)[0], make_frames(1)[0].astype(np.uint8)],
            ("frame 1", "uint8", "frame 0", "float32"),
        ),
    ],
)
def test_frames_that_do_not_fit(five_frames, frames, facts):
    config, params, _ = five_frames
    with refused(*facts):
        list(restore_frames(config, params, frames))


def test_unknown_options_are_refused_at_the_call(five_frames):
    config, params, _ = five_frames
    with refused("padding", "mirror", *PADDING_MODES):
        restore_frames(config, params, [], padding="mirror")
    for dtype in ("int16", "fp16", "float16", 8, object):
        with refused("dtype", dtype, "float32", "uint8", "uint16"):
            restore_frames(config, params, [], dtype=dtype)
    for option, value in (("tile", 64.0), ("tile", "all"), ("overlap", 1.5)):
        with refused(option, value):
            restore_frames(config, params, [], **{option: value})


def test_no_frames_give_no_frames(five_frames):
    config, params, _ = five_frames
    assert list(restore_frames(config, params, [])) == []
