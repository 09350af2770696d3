"""Clips replaced under their names are noticed; copied and touched ones are the same.

Every kind of source was looked at: image files of formats with and without compression,
videos (decoded into the cache), records, and degraded frames that are given.
"""

import os
import shutil

import av
import cv2
import numpy as np
import pytest

from edvr_jax.config import Config, DataConfig, ModelConfig
from edvr_jax.data import fingerprint, records
from edvr_jax.data.clips import TrainClip, open_clips
from edvr_jax.data.datasets import find_layout
from edvr_jax.data.frames import FrameFiles
from edvr_jax.errors import InputError

FRAMES = np.random.default_rng(0).integers(0, 256, (6, 80, 96, 3), np.uint8)
OTHER = FRAMES.copy()
OTHER[3] = 255 - OTHER[3]


def write_images(suffix):
    def write(folder, frames):
        """Write files whose size does not depend on what they show."""
        (folder / "a").mkdir(parents=True)
        for i, frame in enumerate(frames):
            _, data = cv2.imencode(suffix, frame)
            path = folder / "a" / f"{i}{suffix}"
            path.write_bytes(data.tobytes().ljust(40_000, b"\0"))

    return write


def write_video(folder, frames):
    folder.mkdir(parents=True)
    with av.open(str(folder / "a.avi"), "w") as container:
        stream = container.add_stream("rawvideo", rate=25)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "bgr24"
        for image in frames:
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def write_records(folder, frames):
    pytest.importorskip("tensorflow_datasets")
    source = folder.with_name(f"{folder.name}-source")
    write_images(".png")(source, frames)
    records.build("folder_of_clips", find_layout("folder_of_clips", source), folder)


def take(root, cache):
    config = Config(model=ModelConfig(), data=DataConfig(gt_crop=32))
    return fingerprint.take(open_clips(root, config, cache)[0], skip_bad=False)


KINDS = {
    "png": write_images(".png"),
    "jpg": write_images(".jpg"),
    "bmp": write_images(".bmp"),
    "video": write_video,
    "records": write_records,
}


@pytest.mark.parametrize("kind", KINDS)
def test_replaced_contents_of_the_same_size_are_noticed(tmp_path, kind):
    write = KINDS[kind]
    # Of a clip in records, the first frame and every 25th after it are read.
    other = OTHER[[3, 1, 2, 0, 4, 5]] if kind == "records" else OTHER
    for name, frames in (("one", FRAMES), ("two", other)):
        write(tmp_path / name, frames)
    if kind != "records":  # their files are compressed
        one, two = (
            sorted((p.name, p.stat().st_size) for p in (tmp_path / name).rglob("*.*"))
            for name in ("one", "two")
        )
        assert one == two
    one, two = (take(tmp_path / name, tmp_path / "cache") for name in ("one", "two"))
    assert one.keys() == two.keys() == {"a"}
    assert one["a"][:3] == two["a"][:3] == [6, 80, 96]
    assert one["a"][3] != two["a"][3]


@pytest.mark.parametrize("kind", KINDS)
def test_copies_are_the_same(tmp_path, kind):
    """Other times, another folder, decoded again, other names in the same order."""
    KINDS[kind](tmp_path / "one", FRAMES)
    before = take(tmp_path / "one", tmp_path / "cache")
    shutil.copytree(tmp_path / "one", tmp_path / "two", copy_function=shutil.copyfile)
    for path in (tmp_path / "two").rglob("*.*"):
        os.utime(path, (1, 1))
        if path.parent.name == "a":
            path.rename(path.with_name(f"frame{path.name}"))
    assert take(tmp_path / "two", tmp_path / "other") == before


def test_given_degraded_frames_count(tmp_path):
    for name, frames in (("gt", FRAMES), ("lq", FRAMES[:, ::4, ::4])):
        write_images(".bmp")(tmp_path / name, frames)
    files = tuple(f"{i}.bmp" for i in range(6))
    gt, lq = (FrameFiles(tmp_path / name / "a", files) for name in ("gt", "lq"))
    found = [
        fingerprint.take([TrainClip("a", gt, given, ((0, 6),))], skip_bad=False)["a"]
        for given in (None, lq, gt)
    ]
    assert len({text for *_, text in found}) == 3


def test_large_files_are_read_in_part(tmp_path):
    """First, last and some places between; a file that cannot be read is named."""
    path = tmp_path / "0.png"
    _, png = cv2.imencode(".png", FRAMES[0])
    clip = TrainClip("a", FrameFiles(tmp_path, (path.name,)), None, ((0, 1),))
    size, found = 3_000_000, []
    for changed in (None, len(png) - 1, size - 1, size // 3):
        data = bytearray(png.tobytes().ljust(size, b"\0"))
        if changed is not None:
            data[changed] ^= 1
        path.write_bytes(data)
        found.append(fingerprint.take([clip], skip_bad=False)["a"][3])
    assert len({found[0], found[2], found[3]}) == 3
    assert found[1] == found[0]  # between the places
    path.unlink()
    with pytest.raises(InputError, match=r"0\.png: cannot be read"):
        fingerprint.take([clip], skip_bad=False)
    assert fingerprint.take([clip], skip_bad=True)["a"][:3] == [1, 80, 96]
