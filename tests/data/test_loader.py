"""Training samples and batches: aligned, inside the clip, uniform, repeatable."""

import itertools
import logging

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edvr_jax.config import Config, DataConfig, DegradeConfig, ModelConfig
from edvr_jax.data import degrade, flow
from edvr_jax.data.augment import Flip
from edvr_jax.data.clips import TrainClip
from edvr_jax.data.frames import FrameCache, FrameFiles
from edvr_jax.data.imresize import imresize_uint8
from edvr_jax.data.loader import TrainLoader
from edvr_jax.data.windows import Window, WindowCenters, WindowSampler, read_window
from edvr_jax.errors import InputError

pytest.importorskip("grain")
TRACK_OF = {1: "deblur", 2: "sr", 3: "sr", 4: "sr"}


class Array:
    """Frames in memory."""

    def __init__(self, frames):
        self.frames = frames

    def __len__(self):
        return len(self.frames)

    @property
    def size(self):
        return self.frames.shape[1:3]

    def __getitem__(self, index):
        assert 0 <= index < len(self)
        return self.frames[index]


def make_clip(frames, name="clip", lq=None, cuts=()):
    scenes = tuple(itertools.pairwise([0, *cuts, len(frames)]))
    return TrainClip(name, Array(frames), None if lq is None else Array(lq), scenes)


def make_config(*, scale=4, num_frames=5, center=None, degrade=None, seed=0, **data):
    degrade = degrade or DegradeConfig(
        track=TRACK_OF[scale], blur_frames=1, frame_step=1
    )
    data = {"gt_crop": 48, "batch_size": 2, "degrade": degrade, **data}
    return Config(
        model=ModelConfig(
            num_frames=num_frames, scale=scale, center_frame_index=center
        ),
        data=DataConfig(**data),
        seed=seed,
    )


def sampler(clips, config):
    return WindowSampler(clips, WindowCenters(clips, config), config, FrameCache(2**20))


def draw(clips, config, seed):
    """Sample number ``seed``, around any center."""
    rng = np.random.default_rng(seed)
    draw = sampler(clips, config)
    return draw(draw.centers[rng.integers(len(draw.centers))], rng)


def random_clip(num_frames=7, height=70, width=90, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (num_frames, height, width, 3), np.uint8)


def labelled_clip(num_frames, height, width, label=0):
    """Pixels that tell where they come from: (frame + label, y, x)."""
    t, y, x = np.meshgrid(
        np.arange(num_frames) + label,
        np.arange(height),
        np.arange(width),
        indexing="ij",
    )
    return np.stack([t, y, x], axis=-1).astype(np.uint8)


@pytest.mark.parametrize(
    "flip", [Flip(), Flip(vertical=True, transpose=True), Flip(horizontal=True)]
)
@pytest.mark.parametrize("corner", [(0, 0), (12, 24), (24, 36)])
@pytest.mark.parametrize(
    ("track", "scale"), [("sr", 2), ("sr", 3), ("sr", 4), ("sr_bd", 4), ("sr_blur", 2)]
)
def test_degraded_crop_is_the_crop_of_the_degraded_frame(track, scale, corner, flip):
    size = 36
    frames = random_clip(height=60, width=72)
    settings = DegradeConfig(track=track, blur_frames=3, frame_step=1)
    config = make_config(scale=scale, degrade=settings, num_frames=3, gt_crop=48)
    flip = flip if track != "sr_bd" else Flip()
    window = Window(np.array([2, 3, 4]), np.tile(corner, (3, 1)), size, flip=flip)
    sample = read_window(
        make_clip(frames),
        window,
        config,
        rng=np.random.default_rng(0),
        cache=FrameCache(0),
    )
    inner = np.s_[corner[0] : corner[0] + size, corner[1] : corner[1] + size]
    np.testing.assert_array_equal(sample["gt"], flip.apply(frames[3][inner]))
    half = settings.num_blurred // 2
    whole = degrade.degrade_window(
        np.stack([frames[k - half : k + half + 1] for k in (2, 3, 4)]),
        settings,
        scale=scale,
        rng=np.random.default_rng(0),
    )
    low = np.s_[:, corner[0] // scale :, corner[1] // scale :]
    expected = whole[low][:, : size // scale, : size // scale]
    # The weights at scale 3 are no binary fractions: a half may round either way.
    difference = np.abs(sample["lq"].astype(int) - flip.apply(expected))
    assert difference.max() <= (1 if scale == 3 else 0)
    assert difference.mean() < 1e-3


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_lq_and_gt_show_the_same_place(data):
    """Any crop, flip, transpose, scale, interval, direction, center and length."""
    scale = data.draw(st.sampled_from([1, 2, 3, 4]))
    num_frames = data.draw(st.sampled_from([1, 3, 5, 7]))
    center = data.draw(st.sampled_from([None, 0, num_frames - 1]))
    shortest = data.draw(st.integers(1, 2))
    blur = data.draw(st.sampled_from([1, 3])) if scale == 1 else 1
    least = (num_frames - 1) * shortest + blur
    lengths = data.draw(st.lists(st.integers(least, 45), min_size=1, max_size=3))
    is_given = data.draw(st.booleans())
    if is_given:
        least = (num_frames - 1) * shortest + 1
    config = make_config(
        scale=scale,
        num_frames=num_frames,
        center=center,
        degrade=DegradeConfig(track=TRACK_OF[scale], blur_frames=blur, frame_step=1),
        lq="given" if is_given else "made",
        intervals=(shortest, 3),
        random_reverse=data.draw(st.booleans()),
        camera_motion=data.draw(st.sampled_from([0.0, 1.0])),
    )
    clips = []
    for i, length in enumerate(lengths):
        frames = labelled_clip(length, 96, 60, label=50 * i)
        lq = imresize_uint8(frames, 1 / scale) if is_given else None
        cuts = [length - least] if length >= 2 * least else []
        clips.append(make_clip(frames, f"clip{i}", lq, cuts))
    sample = draw(clips, config, data.draw(st.integers(0, 10**6)))
    lq, gt = sample["lq"].astype(int), sample["gt"].astype(int)
    assert lq.shape == (num_frames, 48 // scale, 48 // scale, 3)
    assert gt.shape == (48, 48, 3)
    # One scene of one clip, one interval, the center frame is the ground truth.
    middle = np.median(lq[:, 4:-4, 4:-4, 0], axis=(1, 2)).astype(int)
    label, frame = divmod(gt[0, 0, 0], 50)
    assert middle[config.model.center] == gt[0, 0, 0]
    steps = set(np.diff(middle))
    assert len(steps) <= 1
    allowed = {shortest, 3}
    assert {abs(step) for step in steps} <= allowed
    assert all(step > 0 for step in steps) or config.data.random_reverse
    first, last = next(s for s in clips[label].scenes if s[0] <= frame < s[1])
    assert (middle - 50 * label >= first + blur // 2 * (not is_given)).all()
    assert (middle - 50 * label < last - blur // 2 * (not is_given)).all()
    # Positions in the degraded center frame are the mean of those in its blocks.
    blocks = gt.reshape(48 // scale, scale, 48 // scale, scale, 3).mean(axis=(1, 3))
    inner = slice(2, -2)  # mirrored borders bend the ramps
    difference = np.abs(lq[config.model.center] - blocks)[inner, inner, 1:]
    assert difference.max() <= 1


def test_a_thousand_draws_cover_every_center_alike():
    lengths = {"a": 5, "b": 9, "c": 30, "d": 12}
    clips = [
        make_clip(random_clip(n, 48, 48), name, cuts=[6] if name == "d" else [])
        for name, n in lengths.items()
    ]
    config = make_config(num_frames=5)
    centers = WindowCenters(clips, config)
    legal = {(0, 2), *((1, k) for k in range(2, 7)), *((2, k) for k in range(2, 28))}
    legal |= {(3, k) for k in (2, 3, 8, 9)}  # the cut is before frame 6
    assert sorted(centers[i] for i in range(len(centers))) == sorted(legal)
    counts = dict.fromkeys(legal, 0)
    drawn = draw_centers(clips, config, 1_000)
    for center in drawn:
        counts[center] += 1
    # Every epoch visits each center once: 1000 draws are 27 or 28 of each.
    assert set(counts.values()) == {1_000 // 36, 1_000 // 36 + 1}
    first, second = drawn[:36], drawn[36:72]
    assert sorted(first) == sorted(second) == sorted(legal)
    assert first != second


def draw_centers(clips, config, count):
    """Centers in the order of training, by the pipeline without its pixels."""
    import grain

    dataset = (
        grain.MapDataset.source(WindowCenters(clips, config))
        .seed(config.seed)
        .shuffle()
        .repeat()
    )
    return [dataset[i] for i in range(count)]


def test_clips_of_unequal_length_share_by_their_centers():
    clips = [
        make_clip(np.full((n, 48, 48, 3), i, np.uint8), f"clip{i}")
        for i, n in enumerate([5, 8, 105])
    ]
    config = make_config(batch_size=106)
    with TrainLoader(clips, config) as batches:
        batch = next(batches)
    values, counts = np.unique(batch["gt"][:, 0, 0, 0], return_counts=True)
    np.testing.assert_array_equal(values, [0, 1, 2])
    np.testing.assert_array_equal(counts, [1, 4, 101])


def test_samples_depend_on_the_random_generator_alone():
    clips = [make_clip(random_clip()), make_clip(random_clip(9, seed=1), "b")]
    config = make_config()
    one, again, other = (draw(clips, config, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one["lq"], again["lq"])
    assert (one["lq"] != other["lq"]).any()


def test_camera_motion_moves_the_crop_and_stays_inside():
    clips = [make_clip(labelled_clip(5, 120, 120))]
    spreads = []
    for motion in (0.0, 1.0):
        config = make_config(camera_motion=motion, max_camera_speed=4.0, gt_crop=32)
        windows = (draw(clips, config, i)["lq"] for i in range(50))
        tops = [window[..., 1].min(axis=(1, 2)) for window in windows]
        spreads.append(np.abs(np.diff(np.array(tops, int), axis=1)).max(axis=1))
    still, moving = spreads
    assert not still.any()
    assert (moving > 0).mean() > 0.5
    assert moving.max() <= 12


FLIPS = [Flip(*flips) for flips in itertools.product((False, True), repeat=3)]


@pytest.mark.parametrize("flip", FLIPS)
def test_flow_leads_to_the_same_place(flip):
    """What the center shows at p is at p + flow(p) in each frame."""
    config = make_config(scale=1, num_frames=3, gt_crop=32)
    corners = np.array([[17, 9], [20, 14], [18, 20]])
    sample = read_window(
        make_clip(labelled_clip(1, 80, 90)),
        Window(np.zeros(3, int), corners, 32, flip=flip),
        config,
        rng=np.random.default_rng(0),
        cache=FrameCache(0),
        flow_pixel=1,
    )
    lq, flow = sample["lq"].astype(int), sample["flow"].astype(int)
    assert not flow[1].any()
    for frame in (0, 2):
        for p in ((10, 12), (16, 20)):
            y, x = np.add(p, flow[frame][p])
            np.testing.assert_array_equal(lq[frame, y, x], lq[1][p])


def test_synthetic_motion_moves_one_frame():
    clips = [make_clip(labelled_clip(9, 120, 120))]
    config = make_config(scale=1, synthetic_motion=1.0, gt_crop=32)
    for seed in range(20):
        lq = draw(clips, config, seed)["lq"]
        assert len(np.unique(lq[..., 0])) == 1
        assert len(np.unique(lq[:, 0, 0, 1:], axis=0)) > 1


def test_of_several_crops_the_one_with_most_texture_is_taken():
    frames = random_clip(5, 160, 160)
    frames[:, :, 40:] = 128
    clips = [make_clip(frames)]
    textures = {}
    for count in (1, 8):
        config = make_config(gt_crop=32, crop_candidates=count)
        samples = (draw(clips, config, seed)["gt"] for seed in range(40))
        textures[count] = np.mean([flow.texture(gt) for gt in samples])
    assert textures[8] > 2 * textures[1]


def test_flips_and_transposes_all_appear():
    clips = [make_clip(labelled_clip(5, 48, 48))]
    samples = (draw(clips, make_config(), i)["gt"] for i in range(200))
    corners = {
        (int(gt[0, 0, 1]) > 16, int(gt[0, 0, 2]) > 16, int(gt[0, -1, 1] != gt[0, 0, 1]))
        for gt in samples
    }
    assert len(corners) == 8


def take(batches, count):
    with batches:
        return [next(batches) for _ in range(count)]


def assert_equal_batches(actual, expected):
    assert len(actual) == len(expected)
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(a["gt"], b["gt"])
        np.testing.assert_array_equal(a["lq"], b["lq"])


def test_batches_go_on_from_a_state():
    clips = [make_clip(random_clip())]
    config = make_config()
    whole = take(TrainLoader(clips, config), 5)
    batches = TrainLoader(clips, config)
    take(batches, 3)
    state = batches.get_state()
    assert state == {"windows": 6}
    resumed = TrainLoader(clips, config)
    resumed.set_state(state)
    assert_equal_batches(take(resumed, 2), whole[3:])
    other = take(TrainLoader(clips, make_config(seed=1)), 1)
    assert (other[0]["gt"] != whole[0]["gt"]).any()


def test_processes_share_the_global_batch():
    clips = [make_clip(random_clip())]
    config = make_config(batch_size=4)
    whole = take(TrainLoader(clips, config), 2)
    shares = [
        take(TrainLoader(clips, config, process_index=i, process_count=2), 2)
        for i in range(2)
    ]
    for step in range(2):
        for i in range(2):
            np.testing.assert_array_equal(
                shares[i][step]["gt"], whole[step]["gt"][i::2]
            )
    with pytest.raises(InputError, match="multiple of the 3 processes"):
        TrainLoader(clips, config, process_count=3)


@pytest.fixture
def files(tmp_path):
    """Seven PNG frames, which another process can read."""
    names = tuple(f"{i}.png" for i in range(7))
    for name, frame in zip(names, random_clip(), strict=True):
        cv2.imwrite(str(tmp_path / name), frame)
    return TrainClip("files", FrameFiles(tmp_path, names), None, ((0, 7),))


def test_workers_change_nothing(files):
    config = make_config()
    expected = take(TrainLoader([files], config), 5)
    config = make_config(num_workers=2)
    batches = TrainLoader([files], config)
    assert_equal_batches(take(batches, 3), expected[:3])
    resumed = TrainLoader([files], make_config())  # without workers again
    resumed.set_state(batches.get_state())
    assert_equal_batches(take(resumed, 2), expected[3:])


@pytest.mark.parametrize("num_workers", [0, 1])
def test_damaged_frame_stops_with_its_name(files, num_workers):
    (files.gt.folder / "3.png").write_bytes(b"\x89PNG")
    config = make_config(num_workers=num_workers)
    with pytest.raises(InputError, match=r"3\.png: not a complete image"):
        take(TrainLoader([files], config), 3)


def test_damaged_frame_is_skipped_and_counted(files, caplog):
    (files.gt.folder / "6.png").write_bytes(b"\x89PNG")
    config = make_config(skip_bad=True, num_frames=3)
    with caplog.at_level(logging.WARNING):
        batches = take(TrainLoader([files], config), 5)
    assert len(batches) == 5
    assert "window 1 skipped" in caplog.text
    assert "6.png" in caplog.text
    assert_equal_batches(take(TrainLoader([files], config), 5), batches)


def test_endless_damage_ends(files):
    for path in files.gt.folder.iterdir():
        path.write_bytes(b"")
    broken = TrainClip(
        "a", FrameFiles(files.gt.folder, files.gt.names), None, ((0, 7),)
    )
    object.__setattr__(broken.gt, "_size", (70, 90))
    with pytest.raises(InputError, match="100 windows in a row"):
        draw([broken], make_config(skip_bad=True), 0)
