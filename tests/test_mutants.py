"""Inputs that were damaged at random: success, or one line that names the fault.

Weights, configurations, images, videos, folders of clips, records and runs are changed
by a seeded mutator and read in a separate process. A traceback, a crash, a hang and
memory without bound are faults. The same seed makes the same mutants:

    EDVR_MUTANTS=20000 pytest -m slow -s tests/test_mutants.py
    python -m tests.test_mutants KIND FIRST LAST FOLDER    # one range, in this process

More than 400 lines, because a mutant is made, read and followed in one place.
"""

import contextlib
import dataclasses
import json
import os
import resource
import select
import shutil
import struct
import subprocess
import sys
import traceback
from pathlib import Path

import cv2
import numpy as np
import pytest

SEED = 1
COUNT = int(os.environ.get("EDVR_MUTANTS", "20000"))  # of all kinds together
SECONDS = float(os.environ.get("EDVR_MUTANTS_SECONDS", "550"))  # of all kinds
HANG = 60.0  # seconds for one mutant
GROWTH = 2 * 2**30  # bytes
MAX_MESSAGE = 2000  # characters
SHARES = {"weights": 6, "configs": 4, "images": 5, "videos": 4, "folders": 1}

NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1)
VALUES = (
    *(None, True, False, "", "x", "float32", "\x00", "\x1b[31m\nx", [], {}, [1], [[]]),
    *(-1, 0, 1, 2, 3, 7, 64, 1000, 10**6, 10**9, 2**40, 10**30, -(2**63)),
    *(0.5, -0.0, 1e308, float("inf"), float("nan"), {"a": 1}, ["x", None]),
)


def damage(rng, data):
    """Return bytes with a few changes, half of them near the start."""
    data = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        reach = len(data) if rng.random() < 0.5 else min(len(data), 256)
        start = int(rng.integers(0, reach + 1))
        length = int(rng.integers(1, 65))
        end = start + length
        order = ">I" if rng.random() < 0.5 else "<I"
        number = struct.pack(order, int(rng.choice(NUMBERS)))
        match rng.integers(0, 8):
            case 0:
                del data[start:]
            case 1:
                del data[start:end]
            case 2:
                data[start:start] = rng.bytes(length)
            case 3:
                data[start:start] = data[start:end]
            case 4:
                data[start:end] = bytes([int(rng.choice([0, 255]))]) * length
            case 5:
                data[start : start + 4] = number
            case _ if data:
                for position in rng.integers(0, max(1, min(reach, len(data))), 4):
                    data[position] ^= 1 << int(rng.integers(0, 8))
    return bytes(data)


def change(rng, tree):
    """Return JSON values with one of them changed, removed or added."""
    if isinstance(tree, dict) and tree and rng.random() < 0.9:
        key = str(rng.choice(list(tree)))
        kind = rng.random()
        if kind < 0.1:
            return {k: v for k, v in tree.items() if k != key}
        if kind < 0.15:
            return {**tree, key + "x": tree[key]}
        return {**tree, key: change(rng, tree[key])}
    if isinstance(tree, list) and tree and rng.random() < 0.7:
        index = int(rng.integers(0, len(tree)))
        return [*tree[:index], change(rng, tree[index]), *tree[index + 1 :]]
    return VALUES[rng.integers(0, len(VALUES))]


def pick(rng, folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return files[rng.integers(0, len(files))]


def read_weights(rng, base, work):
    """Bytes of a file, or the table at its start."""
    from edvr_jax import weights

    source = pick(rng, base / "weights")
    data = source.read_bytes()
    if rng.random() < 0.5:
        size = struct.unpack("<Q", data[:8])[0]
        header = change(rng, json.loads(data[8 : 8 + size]))
        text = json.dumps(header).encode()
        data = struct.pack("<Q", len(text)) + text + data[8 + size :]
        data = damage(rng, data) if rng.random() < 0.1 else data
    else:
        data = damage(rng, data)
    path = work / source.name
    path.write_bytes(data)
    try:
        weights.read_metadata(path)
    finally:
        weights.load_weights(path)


def read_configs(rng, base, work):
    """The configuration in a weights file, and values in an experiment's file."""
    from edvr_jax import cli, config, weights
    from edvr_jax.commands import train

    if rng.random() < 0.5:
        source = base / "weights" / "native.safetensors"
        data = source.read_bytes()
        size = struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8 : 8 + size])
        fields = json.loads(header["__metadata__"]["config"])
        for _ in range(rng.integers(1, 3)):
            fields = change(rng, fields)
        header["__metadata__"]["config"] = json.dumps(fields)
        text = json.dumps(header).encode()
        path = work / source.name
        path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])
        if rng.random() < 0.1:
            run_command(cli, "info", path)
        weights.load_weights(path)
        return
    tree = change(rng, dataclasses.asdict(config.Config()))
    if isinstance(tree, dict):
        tree = {k: v for k, v in tree.items() if v != getattr(config.Config(), k, None)}
    path = work / "experiment.py"
    path.write_text(
        "from edvr_jax.config import Config, from_dict\n\ninf, nan = 1e999, 1e999 * 0\n"
        f"\n\ndef get_config():\n    return from_dict(Config, {tree!r})\n"
    )
    found = train.load_config(path)
    assert config.from_dict(config.Config, json.loads(config.to_json(found))) == found


def read_images(rng, base, work):
    from edvr_jax.media.read import images

    source = pick(rng, base / "images")
    path = work / source.name
    path.write_bytes(damage(rng, source.read_bytes()))
    reads = (
        images.read_size,
        images.read_image,
        lambda path: images.read_image(path, keep_bit_depth=True),
        lambda path: images.check_all([path]),
    )
    reads[rng.integers(0, len(reads))](path)


def read_videos(rng, base, work):
    """As eval reads them, as restore does, and restored."""
    from edvr_jax import cli
    from edvr_jax.media.read import clip_reader, source
    from edvr_jax.media.write import stream_copy

    original = pick(rng, base / "videos")
    path = work / original.name
    path.write_bytes(damage(rng, original.read_bytes()))
    clip = clip_reader.open_clip(path)
    is_small = max(clip.size) <= 128
    if is_small and rng.random() < 0.02:
        weights = base / "weights" / "native.safetensors"
        run_command(cli, "restore", path, work / "out.mkv", "--weights", weights)
    elif rng.random() < 0.5:
        for _ in zip(range(100), clip, strict=False):
            pass
    else:
        stream_copy.choose_streams(work / "out.mkv", stream_copy.StreamCopy(path))
        with contextlib.closing(source.open_source(path)) as opened:
            opened.check()
            for _ in zip(range(100), opened, strict=False):
                pass


def read_folders(rng, base, work):
    """Clips of frames, pairs, records, runs: files removed, renamed or damaged."""
    from edvr_jax import weights
    from edvr_jax.data import datasets, records
    from edvr_jax.media.read import clip_reader

    kinds = sorted(path for path in (base / "folders").iterdir())
    source = kinds[rng.integers(0, len(kinds))]
    folder = work / source.name
    shutil.copytree(source, folder)
    for _ in range(rng.integers(1, 4)):
        damage_file(rng, pick(rng, folder))
        if not any(path.is_file() for path in folder.rglob("*")):
            break
    if source.name == "run":
        weights.read_metadata(f"{folder}@best")
        weights.load_weights(f"{folder}@best")
        return
    found = records.find_records(folder, "folder_of_clips")
    if found is None:
        layout = datasets.find_layout("folder_of_clips", folder)
        opened = [
            clip_reader.open_clip(path)
            for clips in layout.streams.values()
            for path in clips.values()
        ]
    else:
        layout = records.read_layout(found)
        opened = [clip for clips in layout.streams.values() for clip in clips.values()]
    for clip in opened:
        for frame in range(len(clip)) if found else clip:
            _ = clip[frame] if found else frame


def damage_file(rng, path):
    match rng.integers(0, 6):
        case 0:
            path.unlink()
        case 1:
            path.rename(path.with_name(f"{rng.integers(0, 99)}{path.suffix}"))
        case 2:
            path.unlink()
            path.mkdir()
        case 3:
            path.write_bytes(b"")
        case 4 if path.suffix == ".json":
            with contextlib.suppress(ValueError):
                path.write_text(json.dumps(change(rng, json.loads(path.read_text()))))
        case _:
            path.write_bytes(damage(rng, path.read_bytes()))


def run_command(cli, *arguments):
    """Run a command in this process; its exit code must be that of bad input."""
    with (
        Path(os.devnull).open("w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        code = cli.main(list(map(str, arguments)))
    assert code in (0, 2), f"exit code {code}"


def read_mutant(kind, index, base, work):
    """Make a mutant and read it; returns what is wrong with the result, or ""."""
    from edvr_jax.errors import InputError

    rng = np.random.default_rng([SEED, list(SHARES).index(kind), index])
    try:
        globals()[f"read_{kind}"](rng, base, work)
    except InputError as error:
        text = str(error)
        if len(text) > MAX_MESSAGE or "\n" in text or "\x1b" in text:
            return f"message of {len(text)} characters: {text[:300]!r}"
    except Exception:
        return traceback.format_exc()
    return ""


def work(kind, first, last, base):
    """Read mutants, and write a line for each: its fault, and the memory since."""
    import logging

    logging.disable(logging.CRITICAL)
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    folder = base / f"work-{kind}"
    before = 0
    for index in range(first, last):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        fault = read_mutant(kind, index, base, folder)
        peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        before = before or peak
        if peak - before > GROWTH:
            fault = fault or f"took {(peak - before) / 2**30:.1f} GiB"
            before = peak
        sys.stdout.write(json.dumps([index, fault]) + "\n")
        sys.stdout.flush()


@dataclasses.dataclass
class Outcome:
    """What became of the mutants of one kind."""

    count: int = 0
    faults: dict[int, str] = dataclasses.field(default_factory=dict)


def run_mutants(kind, count, seconds, base):
    """Read mutants in processes of their own; a crash or a hang costs one of them."""
    outcome, start = Outcome(), os.times().elapsed
    while outcome.count < count and os.times().elapsed - start < seconds:
        arguments = map(str, (kind, outcome.count, count, base))
        with subprocess.Popen(
            [sys.executable, "-m", "tests.test_mutants", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=Path(__file__).resolve().parent.parent,
        ) as process:
            fault = _follow(process, outcome, start + seconds)
            process.kill()
        if fault:
            outcome.faults[outcome.count] = fault
            outcome.count += 1
    return outcome


def _follow(process, outcome, end):
    """Read a worker's lines until it ends, hangs or the time is up."""
    while True:
        ready, _, _ = select.select([process.stdout], [], [], HANG)
        if not ready:
            return f"no result after {HANG:.0f} s"
        line = process.stdout.readline()
        if not line:
            code = process.wait()
            return f"the process ended with {code}" if code else ""
        index, fault = json.loads(line)
        outcome.count = index + 1
        if fault:
            outcome.faults[index] = fault
        if os.times().elapsed > end:
            return ""


@pytest.fixture(scope="module")
def base(tmp_path_factory, fixtures, tiny_config, random_params):
    """Small good inputs of every kind."""
    from edvr_jax import weights
    from edvr_jax.config import CascadeConfig, Config
    from edvr_jax.data import datasets, records
    from tests.videos import moving_bars, write_video
    from tests.weights.test_runs import write_run

    folder = tmp_path_factory.mktemp("mutants")
    (folder / "weights").mkdir()
    second = dataclasses.replace(tiny_config, hr_in=True)
    for name, config in (
        ("native", dataclasses.replace(tiny_config, scale=2)),
        ("cascade", CascadeConfig(tiny_config, second)),
    ):
        params = random_params(config, scale=0.05)
        path = folder / "weights" / f"{name}.safetensors"
        weights.save_weights(path, config, params, origin="o", license="l")
    for path in (fixtures / "models").glob("*_sr.safetensors"):
        shutil.copy(path, folder / "weights")
    (folder / "images").mkdir()
    frames = moving_bars(8, 24, 32)
    for suffix in ("png", "jpg", "bmp", "tif", "webp"):
        cv2.imwrite(str(folder / "images" / f"a.{suffix}"), frames[0])
    for suffix in ("png", "tif"):
        deep = frames[0].astype(np.uint16) * 257
        cv2.imwrite(str(folder / "images" / f"deep.{suffix}"), deep)
    (folder / "videos").mkdir()
    for name, codec, pix_fmt in (
        *(("a.mp4", "libx264", "yuv420p"), ("a.mkv", "libx265", "yuv420p10le")),
        *(("a.webm", "libvpx-vp9", "yuv420p"), ("a.avi", "mpeg4", "yuv420p")),
        *(("a.gif", "gif", "rgb8"), ("b.mov", "prores_ks", "yuv422p10le")),
        *(("a.ts", "mpeg2video", "yuv420p"), ("b.mkv", "ffv1", "bgr0")),
    ):
        has_sound = name.startswith("a") and name != "a.gif" and name != "a.webm"
        write_video(
            folder / "videos" / name,
            frames,
            codec=codec,
            pix_fmt=pix_fmt,
            with_sound=has_sound,
            **({} if codec in ("libx264", "libx265") else {"options": {}}),
            **({"rate": 25} if codec in ("mpeg4", "mpeg2video") else {}),
        )
    clips = folder / "folders" / "clips"
    pairs = folder / "folders" / "pairs"
    for name in (clips / "a", clips / "b", pairs / "gt" / "a", pairs / "lq" / "a"):
        name.mkdir(parents=True)
        for index, frame in enumerate(frames[:4]):
            cv2.imwrite(str(name / f"{index:04d}.png"), frame)
    shutil.copy(folder / "videos" / "b.mkv", clips / "c.mkv")
    write_run(
        folder / "folders" / "run",
        Config(model=tiny_config),
        random_params(tiny_config),
        [3, 6],
        {3: 30.0},
    )
    with contextlib.suppress(ImportError):
        import tensorflow_datasets  # noqa: F401

        layout = datasets.find_layout("folder_of_clips", clips)
        records.build("folder_of_clips", layout, folder / "folders" / "records")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("kind", SHARES)
def test_mutants_are_read_or_refused(kind, base):
    count = round(COUNT * SHARES[kind] / sum(SHARES.values()))
    outcome = run_mutants(kind, count, SECONDS / len(SHARES), base)
    sys.stderr.write(f"{kind}: {outcome.count} mutants\n")
    assert outcome.count
    lines = [f"{kind} {index}: {fault}" for index, fault in outcome.faults.items()]
    assert not lines, "\n".join(lines)


if __name__ == "__main__":
    work(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
