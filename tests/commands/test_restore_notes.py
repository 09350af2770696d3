"""``edvr restore`` reports what is lost or changed, by what it is."""

import json
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from edvr_jax.commands.restore import Restore
from edvr_jax.restore.source import Source
from tests import videos

pytestmark = pytest.mark.usefixtures("quick_compile")


def run(source, target, weights_path, **options):
    return Restore(source, target, weights=(weights_path,), **options).run()


def join(path, *parts, codec="libx264"):
    """Join several videos of 25 frames per second without encoding them again.

    Args:
        path: The result.
        *parts: Frames and pixel format of each, or these and options of the encoder.
        codec: Encoder of all.
    """
    suffix = "ts" if codec == "libx264" else "webm"  # headers are in the stream itself
    with av.open(str(path), "w") as output:
        stream, start = None, Fraction(0)
        for frames, pix_fmt, *options in parts:
            part = path.with_name(f"part.{suffix}")
            options = {"options": options[0] if options else None, "with_sound": False}
            videos.write_film(part, frames, codec=codec, pix_fmt=pix_fmt, **options)
            with av.open(str(part)) as container:
                picture = container.streams.video[0]
                stream = stream or output.add_stream_from_template(picture)
                for packet in container.demux(picture):
                    if packet.dts is not None:
                        packet.pts += round(start / packet.time_base)
                        packet.dts += round(start / packet.time_base)
                        packet.stream = stream
                        output.mux(packet)
            start += Fraction(len(frames), 25)


# FFmpeg and players scale to the first size, too. Folders are refused before the work.
@pytest.mark.parametrize(
    ("name", "codec", "size", "pix_fmt", "kind"),
    [
        ("in.ts", "libx264", (64, 96), "yuv420p", "96x64 with 8 bits"),
        ("in.mp4", "libx264", (32, 48), "yuv420p10le", "48x32 with more than 8 bits"),
        ("in.mkv", "libx264", (48, 64), "yuv420p10le", "64x48 with more than 8 bits"),
        ("in.webm", "libvpx-vp9", (96, 128), "yuv420p", "128x96 with 8 bits"),
    ],
)
def test_change_of_size_or_depth_in_mid_stream(
    tmp_path, same, capsys, name, codec, size, pix_fmt, kind
):
    frames = videos.moving_bars(5)
    other = np.stack([cv2.resize(frame, size[::-1]) for frame in frames])
    parts = (frames, "yuv420p"), (other, pix_fmt), (frames, "yuv420p")
    join(tmp_path / name, *parts, codec=codec)
    target, report = tmp_path / "out.mp4", tmp_path / "report.json"
    run(tmp_path / name, target, same, report=report)
    changes = [f"frame 5 (0.20 s) to {kind}", "frame 10 (0.40 s) to 64x48 with 8 bits"]
    assert json.loads(report.read_text())["changes"] == changes
    note = (
        f"note: {tmp_path / name}: the picture changes at {changes[0]}, and 1 more "
        "times; all frames became 64x48 with 8 bits"
    )
    assert note in capsys.readouterr().err.splitlines()
    restored = np.stack(list(Source(target))).astype(float)
    difference = np.abs(restored - np.concatenate([frames] * 3)).mean((1, 2, 3))
    assert len(restored) == 15
    # Measured: 4.6 for the frames that kept their size (4:2:0), 5.0 for the others.
    assert difference.max() < 6
