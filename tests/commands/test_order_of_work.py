"""Every command: one that is refused leaves its folder byte-identical.

Each command is pointed at a folder that already holds results, with bad options,
missing and damaged inputs, outputs that exist or cannot be written. ``edvr train`` is
in tests/test_workdir.py.
"""

import shutil

import cv2
import numpy as np
import pytest

from edvr_jax import cli

pytestmark = pytest.mark.usefixtures("quick_compile")


@pytest.fixture
def folder(fixtures, tiny, tmp_path, monkeypatch):
    """Two clips of frames, weights, and results that were there before."""
    frames = np.load(fixtures / "psnr_ssim.npz")["a_rgb"][..., ::-1]
    for name in ("clips/a", "clips/b", "out", "pred/a", "pred/b"):
        (tmp_path / name).mkdir(parents=True)
        for index, frame in enumerate(frames):
            crop = np.ascontiguousarray(frame[:32, :48])
            cv2.imwrite(str(tmp_path / name / f"{index}.png"), crop)
    shutil.copy(tiny, tmp_path / "tiny.safetensors")
    (tmp_path / "half.safetensors").write_bytes(b"half a file")
    (tmp_path / "half.mp4").write_bytes(b"\0\0\0\x20ftypisom" + bytes(40))
    (tmp_path / "half.png").write_bytes(b"\x89PNG")
    (tmp_path / "broken").mkdir()
    shutil.copy(tmp_path / "half.png", tmp_path / "broken" / "0.png")
    for name in ("result.json", "result.mp4", "result.safetensors", "result.edvr"):
        (tmp_path / name).write_bytes(b"an earlier result")
    monkeypatch.chdir(tmp_path)
    return tmp_path


REFUSED = {
    "restore": (
        "clips/a out --weights tiny.safetensors",  # exists
        "clips/a result.mp4 --weights tiny.safetensors",
        "clips/a clips/a --weights tiny.safetensors --overwrite",  # its own input
        "clips/a result.mp4 --overwrite --weights half.safetensors",
        "clips/a result.mp4 --overwrite --weights nothing.pth",
        "half.mp4 result.mp4 --overwrite --weights tiny.safetensors",
        "broken result.mp4 --overwrite --weights tiny.safetensors",
        "nowhere result.mp4 --overwrite --weights tiny.safetensors",
        "clips/a result.mp4 --overwrite --weights tiny.safetensors --codec none",
        "clips/a result.mp4 --overwrite --weights tiny.safetensors --crf 99",
        "clips/a result.mp4 --overwrite --weights tiny.safetensors --tile 1",
        "clips/a result.mp4 --overwrite --weights tiny.safetensors --end 0",
        "clips/a no/such/out.mp4 --weights tiny.safetensors",
        "clips/a new.mp4 --weights tiny.safetensors --report no/such.json",
        "clips/a new.mp4 --weights tiny.safetensors --report tiny.safetensors",
    ),
    "eval": (
        "--gt nowhere --weights tiny.safetensors --json result.json",
        "--gt clips --weights half.safetensors --json result.json",
        "--gt clips --weights tiny.safetensors --clips c --json result.json",
        "--gt clips --weights tiny.safetensors --crop 99 --json result.json",
        "--gt clips --weights tiny.safetensors --json no/such.json",
        "--gt broken --weights tiny.safetensors --json result.json",
        "--gt clips --lq pred/a --weights tiny.safetensors --json result.json",
    ),
    "metrics": (
        "clips nowhere --json result.json",
        "clips pred/a --json result.json",
        "clips pred --crop 99 --json result.json",
        "clips broken --json result.json",
        "clips pred --json out",
    ),
    "prepare": (
        "clips out --scale 2",  # holds something else
        "clips result.mp4",
        "nowhere new",
        "clips new --scale 9",
        "clips new --track deblur --scale 2",
        "clips new --clips c",
        "clips new --blur-frames 2",
        "clips new --track sr --shutter 0.5",
    ),
    "records": (
        "folder_of_clips nowhere new",
        "reds clips new",
        "folder_of_clips clips result.mp4",
    ),
    "convert": (
        "nothing.pth result.safetensors",
        "half.safetensors result.safetensors",
        "tiny.safetensors no/such.safetensors",
        "tiny.safetensors result.json",
        "tiny.safetensors out",
        "clips result.safetensors",
        "tiny.safetensors result.safetensors --step 3",
    ),
    "export": (
        "tiny.safetensors result.edvr",
        "half.safetensors result.edvr --overwrite",
        "tiny.safetensors no/such.edvr",
        "nowhere result.edvr --overwrite",
    ),
    "bench": (
        "--json no/such.json",
        "--json result.json --compare half.png",
        "--json result.json --repeats 0",
    ),
    "info": ("nothing.pth", "half.safetensors", "tiny.safetensors --height 0"),
}


def content(folder):
    return {
        path.relative_to(folder): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


@pytest.mark.parametrize(
    ("command", "arguments"),
    [(command, line) for command, lines in REFUSED.items() for line in lines],
)
def test_refused_command_changes_nothing(folder, capsys, command, arguments):
    before = content(folder)
    try:
        code = cli.main([command, *arguments.split()])
    except SystemExit as stop:  # options that tyro refuses
        code = stop.code
    assert code == 2
    assert capsys.readouterr().err
    assert content(folder) == before
