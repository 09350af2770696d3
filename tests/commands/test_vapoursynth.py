"""Frames of VapourSynth: ``vspipe -c y4m script.vpy - | edvr restore - out.mp4``."""

import io
import shutil
import subprocess
import sys

import numpy as np
import pytest

from edvr_jax import cli
from edvr_jax.media.read.clip_reader import open_clip

SCRIPT = """
import vapoursynth as vs
clip = vs.core.std.BlankClip(
    width=32, height=16, format=vs.{format}, length=3, fpsnum=24000, fpsden=1001,
    color=[{luma}, {gray}, {gray}],
)
clip.set_output()
"""


def restore(stream, tiny, folder, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stream)))
    target = folder / "out.mp4"
    assert cli.main(["restore", "-", str(target), "--weights", tiny]) == 0
    return open_clip(target)


@pytest.mark.parametrize(
    ("chroma", "dtype", "luma", "gray"),
    [("420", np.uint8, 180, 128), ("420p10", np.dtype("<u2"), 720, 512)],
)
def test_stream_as_vspipe_writes_it(
    chroma, dtype, luma, gray, tiny, tmp_path, monkeypatch
):
    """Byte by byte; the aspect is unknown and the length is a comment."""
    header = f"YUV4MPEG2 C{chroma} W32 H16 F24000:1001 Ip A0:0 XLENGTH=3\n"
    planes = (np.full(512, luma, dtype), np.full(256, gray, dtype))
    frame = b"FRAME\n" + b"".join(plane.tobytes() for plane in planes)
    clip = restore(header.encode() + 3 * frame, tiny, tmp_path, monkeypatch)
    frames = list(clip)
    assert (clip.size, len(frames)) == ((32, 64), 3)
    assert clip.fps.limit_denominator(1001) * 1001 == 24000


@pytest.mark.skipif(shutil.which("vspipe") is None, reason="needs VapourSynth")
@pytest.mark.parametrize(
    ("format", "luma", "gray"), [("YUV420P8", 180, 128), ("YUV420P10", 720, 512)]
)
def test_vspipe(format, luma, gray, tiny, tmp_path, monkeypatch):
    script = tmp_path / "script.vpy"
    script.write_text(SCRIPT.format(format=format, luma=luma, gray=gray))
    done = subprocess.run(
        ["vspipe", "-c", "y4m", script, "-"], stdout=subprocess.PIPE, check=True
    )
    header = done.stdout.partition(b"\n")[0]
    for part in (b"YUV4MPEG2 C420", b" W32 H16 F24000:1001 Ip A0:0 XLENGTH=3"):
        assert part in header
    clip = restore(done.stdout, tiny, tmp_path, monkeypatch)
    assert (clip.size, len(list(clip))) == ((32, 64), 3)
