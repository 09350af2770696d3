import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edvr_jax.config import DataConfig, ModelConfig
from edvr_jax.data.imresize import imresize
from edvr_jax.data.pipeline import TrainWindows, iterate_batches, paired_crop
from edvr_jax.errors import InputError
from edvr_jax.metrics import to_uint8


def random_clip(num_frames=7, height=70, width=90, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (num_frames, height, width, 3), np.uint8)


def labelled_clip(num_frames, height, width, label=0):
    """Pixels that tell where they come from: (frame or label, y, x)."""
    t, y, x = np.meshgrid(
        np.arange(num_frames) + label,
        np.arange(height),
        np.arange(width),
        indexing="ij",
    )
    return np.stack([t, y, x], axis=-1).astype(np.uint8)


def make_windows(clips, *, scale=4, num_frames=5, seed=0, **data):
    return TrainWindows(
        clips,
        [f"clip{i}" for i in range(len(clips))],
        data=DataConfig(**{"gt_crop": 32, "batch_size": 2, **data}),
        model=ModelConfig(num_frames=num_frames, scale=scale),
        seed=seed,
    )


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("corner", [(0, 0), (12, 24), (36, 48)])
def test_lq_crop_is_the_crop_of_the_shrunk_frame(scale, corner):
    size = 24
    frames = random_clip(height=60, width=72)
    lq, gt = paired_crop(
        frames, np.tile(corner, (7, 1)), size=size, scale=scale, center=3
    )
    y, x = corner
    np.testing.assert_array_equal(gt, frames[3, y : y + size, x : x + size])
    shrunk = to_uint8(imresize(frames, 1 / scale) / 255)
    low = slice(y // scale, (y + size) // scale), slice(x // scale, (x + size) // scale)
    np.testing.assert_array_equal(lq, shrunk[:, low[0], low[1]])


@settings(deadline=None, max_examples=60)
@given(
    index=st.integers(0, 10**9),
    seed=st.integers(0, 10**6),
    scale=st.sampled_from([1, 2, 3, 4]),
    lengths=st.lists(st.integers(5, 9), min_size=1, max_size=3),
    camera_motion=st.sampled_from([0.0, 1.0]),
)
def test_lq_and_gt_show_the_same_place(index, seed, scale, lengths, camera_motion):
    clips = [labelled_clip(n, 60, 56, label=50 * i) for i, n in enumerate(lengths)]
    windows = make_windows(
        clips, scale=scale, seed=seed, gt_crop=24, camera_motion=camera_motion
    )
    sample = windows[index]
    lq, gt = sample["lq"].astype(int), sample["gt"].astype(int)
    assert lq.shape == (5, 24 // scale, 24 // scale, 3)
    assert gt.shape == (24, 24, 3)
    # One clip, consecutive frames, the middle one is the ground truth.
    labels = lq[:, 0, 0, 0]
    np.testing.assert_array_equal(np.diff(labels), np.ones(4))
    assert gt[0, 0, 0] == labels[2]
    assert labels[0] // 50 == labels[-1] // 50
    assert labels[-1] % 50 < lengths[labels[0] // 50]
    # Positions in the shrunk center frame are the mean of those in its blocks.
    blocks = gt.reshape(24 // scale, scale, 24 // scale, scale, 3).mean(axis=(1, 3))
    inner = slice(2, -2)  # mirrored borders bend the ramps
    difference = np.abs(lq[2] - blocks)[inner, inner, 1:]
    assert difference.max() <= 1


def test_samples_depend_on_seed_and_index_alone():
    clips = [random_clip(), random_clip(9, seed=1)]
    first, again, other = (make_windows(clips, seed=seed) for seed in (3, 3, 4))
    order = [5, 0, 5, 2]
    samples = [first[i] for i in order]
    np.testing.assert_array_equal(samples[0]["lq"], samples[2]["lq"])
    np.testing.assert_array_equal(again[2]["lq"], samples[3]["lq"])
    assert (other[2]["lq"] != samples[3]["lq"]).any()


def test_every_window_of_every_clip_is_equally_likely():
    clips = [labelled_clip(5, 32, 32), labelled_clip(8, 32, 32, label=50)]
    windows = make_windows(clips)
    first = [int(windows[i]["lq"][0, 0, 0, 0]) for i in range(1000)]
    values, counts = np.unique(first, return_counts=True)
    np.testing.assert_array_equal(values, [0, 50, 51, 52, 53])
    assert counts.min() > 150  # 200 expected, standard deviation 13


def test_camera_motion_moves_the_crop_and_stays_inside():
    clip = labelled_clip(5, 120, 120)
    still, moving = (
        make_windows([clip], camera_motion=p, max_camera_speed=4.0) for p in (0.0, 1.0)
    )

    def spread(windows):
        tops = [windows[i]["lq"][:, :, :, 1].min(axis=(1, 2)) for i in range(50)]
        return np.abs(np.diff(np.array(tops, int), axis=1)).max(axis=1)

    assert not spread(still).any()
    assert (spread(moving) > 0).mean() > 0.5
    assert spread(moving).max() <= 12


def test_flips_and_transposes_all_appear():
    windows = make_windows([labelled_clip(5, 32, 32)])
    corners = {
        (int(gt[0, 0, 1]) > 16, int(gt[0, 0, 2]) > 16, int(gt[0, -1, 1] != gt[0, 0, 1]))
        for gt in (windows[i]["gt"] for i in range(200))
    }
    assert len(corners) == 8


def test_batches_start_at_any_step_and_split_over_processes():
    windows = make_windows([random_clip()])

    def take(count, **options):
        batches = iterate_batches(windows, **options)
        taken = list(itertools.islice(batches, count))
        batches.close()
        return taken

    all_batches = take(3, first_step=0, batch_size=2)
    resumed = take(1, first_step=2, batch_size=2)
    np.testing.assert_array_equal(all_batches[2]["gt"], resumed[0]["gt"])
    second = take(1, first_step=2, batch_size=1, process_index=1, process_count=2)
    np.testing.assert_array_equal(all_batches[2]["gt"][1:], second[0]["gt"])


def test_short_and_small_clips_are_named():
    with pytest.raises(InputError, match="clip1: 4 frames, but a window needs 5"):
        make_windows([random_clip(), random_clip(4)])
    with pytest.raises(InputError, match="clip0: 90x30 is smaller"):
        make_windows([random_clip(height=30)])
