"""Restore two small clips into every output format by two checkouts; compare the bytes.

    python tools/compare_outputs.py OLD_CHECKOUT NEW_CHECKOUT

Both run in the environment of this Python. The random numbers that every Matroska and
WebM file gets are left out of the comparison. Exit code 1 means that a file differs.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

NUM_FRAMES, HEIGHT, WIDTH, SOUND_RATE = 12, 48, 64, 48000
# Name, encoder, pixel format, frames per second.
CLIPS = (
    ("8bit.mp4", "libx264", "yuv420p", Fraction(25)),
    ("10bit.mkv", "ffv1", "yuv444p10le", Fraction(30000, 1001)),
)
OUTPUTS = ("out.mp4", "out.mkv", "out.webm", "out.mov", "out.gif", "out.y4m", "frames")
PROGRAM = """
import json, sys
from edvr_jax.cli import main
raise SystemExit(max(main(arguments) for arguments in json.loads(sys.argv[1])))
"""
# Elements of Matroska with random contents, or a checksum of them: ID and size.
RANDOM_ELEMENTS = {
    b"\x73\xa4\x90": 16,  # SegmentUID
    b"\x73\xc5\x88": 8,  # TrackUID
    b"\x63\xc5\x88": 8,  # TagTrackUID
    b"\x46\xae\x88": 8,  # FileUID
    b"\xbf\x84": 4,  # CRC-32
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare two checkouts; the exit code is 1 if an output differs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for clip in CLIPS:
            write_clip(folder / clip[0], *clip[1:])
        results = [
            restore(checkout.absolute(), folder, folder / kind)
            for checkout, kind in ((args.old, "old"), (args.new, "new"))
        ]
    return report(*results)


def write_clip(path: Path, codec: str, pix_fmt: str, fps: Fraction) -> None:
    """Write moving gradients with a tone, a title and two chapters."""
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, fps)
        video.height, video.width, video.pix_fmt = HEIGHT, WIDTH, pix_fmt
        sound = container.add_stream("aac", SOUND_RATE, layout="mono")
        sound.metadata["language"] = "eng"
        container.metadata["title"] = "A clip"
        unit = Fraction(1, 1000)
        container.set_chapters(
            [
                {"id": i, "start": 200 * i, "end": 200 * (i + 1), "time_base": unit}
                | {"metadata": {"title": f"Chapter {i}"}}
                for i in range(2)
            ]
        )
        y, x = np.mgrid[:HEIGHT, :WIDTH]
        for t in range(NUM_FRAMES):
            image = np.stack([4 * (x + t) % 256, 5 * y, 2 * (x + y) + t], -1)
            frame = av.VideoFrame.from_ndarray(image.astype(np.uint8))
            container.mux(video.encode(frame.reformat(format=pix_fmt)))
        wave = np.sin(np.arange(NUM_FRAMES * SOUND_RATE // 30) / 9).astype(np.float32)
        for start in range(0, len(wave), 1024):
            part = wave[None, start : start + 1024]
            frame = av.AudioFrame.from_ndarray(part, "fltp", "mono")
            frame.sample_rate, frame.pts = SOUND_RATE, start
            container.mux(sound.encode(frame))
        for stream in (video, sound):
            container.mux(stream.encode(None))


def restore(checkout: Path, clips: Path, folder: Path) -> dict[str, bytes]:
    """Restore all clips by one checkout; return the contents of all output files."""
    cases = []
    for clip in (clips / name for name, *_ in CLIPS):
        (folder / clip.stem).mkdir(parents=True)
        for output in OUTPUTS:
            arguments = ["restore", str(clip), str(folder / clip.stem / output)]
            # WebM stores no AAC.
            is_webm = output.endswith(".webm")
            cases.append(arguments + (["--streams", "video"] if is_webm else []))
        with (folder / clip.stem / "pipe").open("wb") as pipe:
            run(checkout, [["restore", str(clip), "-"]], stdout=pipe)
    run(checkout, cases, stdout=subprocess.DEVNULL)
    return {
        str(path.relative_to(folder)): mask(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def run(checkout: Path, cases: list[list[str]], **options) -> None:
    """Run commands of ``edvr`` by a checkout in one process."""
    command = [sys.executable, "-c", PROGRAM, json.dumps(cases)]
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    subprocess.run(command, env=environment, cwd=checkout, check=True, **options)


def mask(path: Path) -> bytes:
    """Return the contents of a file without what Matroska draws at random."""
    data = path.read_bytes()
    if path.suffix in (".mkv", ".webm"):
        for head, size in RANDOM_ELEMENTS.items():
            pattern = re.escape(head) + b".{%d}" % size
            data = re.sub(pattern, head, data, flags=re.DOTALL)
    return data


def report(old: dict[str, bytes], new: dict[str, bytes]) -> int:
    """Print which files are equal; return 1 if not all are."""
    names = sorted(old.keys() | new.keys())
    unequal = [name for name in names if old.get(name) != new.get(name)]
    for name in names:
        print(f"{'DIFFERS' if name in unequal else 'equal  '} {name}")
    return int(bool(unequal))


if __name__ == "__main__":
    raise SystemExit(main())
