"""Every command: one that is refused leaves its folder byte-identical.

Each command is pointed at a folder that already holds results, with bad options,
missing and damaged inputs, outputs that exist, are inside the input or cannot be
written. ``edvr train`` with the folder of a run is in tests/train/test_workdir.py.
"""

import shutil

import cv2
import numpy as np
import pytest

from edvr_jax import cli
from tests.videos import moving_bars, write_video

EXPERIMENTS = {
    "good.py": "from edvr_jax.config import Config\nget_config = Config\n",
    "half.py": "def get_config(:\n",
    "raises.py": "import edvr_jax\n\n\ndef get_config():\n    return 1 / 0\n",
    "exits.py": "raise SystemExit(0)\n",
    "imports.py": "import no_such_module\n",
    "other.py": "get_config = dict\n",
    "range.py": "from edvr_jax.config import Config\n\n\ndef get_config():\n"
    "    return Config(total_steps=-1)\n",
}


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
    shutil.copytree(tmp_path / "clips", tmp_path / "mixed")
    shutil.copytree(tmp_path / "broken", tmp_path / "mixed" / "c")
    for name in ("result.mp4", "result.safetensors", "result.edvr"):
        (tmp_path / name).write_bytes(b"an earlier result")
    (tmp_path / "result.json").write_text('{"earlier": "result"}')
    for name in ("prepare.json", "r/folder_of_clips/1.0.0/dataset_info.json"):
        path = tmp_path / "damaged" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("half a fi")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text('{"model": ')
    for name, text in EXPERIMENTS.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


REFUSED = {
    "restore": (
        "clips/a out --weights tiny.safetensors",  # exists
        "clips/a result.mp4 --weights tiny.safetensors",
        "clips result.mp4 --weights tiny.safetensors",  # of a library
        "clips new --weights half.safetensors",
        "clips new --weights tiny.safetensors --report result.json",
        "clips new --weights tiny.safetensors --shard 3/2",
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
        "clips/a new.mp4 --weights tiny.safetensors --report-html no/such.html",
        "clips/a new.mp4 --weights tiny.safetensors --report-html result.json",
        "clips/a new.mp4 --overwrite --weights tiny.safetensors "
        "--report-html result.json",
        "clips/a new.mp4 --weights run",
        "clips/a clips/a/new --weights tiny.safetensors",
        "clips/a new.mp4 --weights tiny.safetensors --encoder-options no=such",
        "clips/a new.mp4 --artifact result.edvr",
    ),
    "eval": (
        "--gt nowhere --weights tiny.safetensors --json result.json",
        "--gt clips --weights half.safetensors --json result.json",
        "--gt clips --weights tiny.safetensors --clips c --json result.json",
        "--gt clips --weights tiny.safetensors --crop 99 --json result.json",
        "--gt clips --weights tiny.safetensors --json no/such.json",
        "--gt broken --weights tiny.safetensors --json result.json",
        "--gt clips --lq pred/a --weights tiny.safetensors --json result.json",
        "--gt clips --weights tiny.safetensors --json tiny.safetensors",
        "--gt nowhere --weights tiny.safetensors --report new",
        "--gt clips --weights half.safetensors --report new",
        "--gt clips --weights tiny.safetensors --crop 99 --report new",
        "--gt clips --weights tiny.safetensors --report clips/new",
        "--gt clips --weights tiny.safetensors --report no/such",
        "--gt clips --weights tiny.safetensors --report result.mp4",
    ),
    "metrics": (
        "clips nowhere --json result.json",
        "clips pred/a --json result.json",
        "clips pred --crop 99 --json result.json",
        "clips broken --json result.json",
        "clips pred --json out",
        "clips pred --json clips/a/0.png",  # its own input
        "clips pred --json tiny.safetensors",
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
        "clips clips/new --scale 2",
        "clips/a clips --scale 2",
        "clips ./clips --scale 2",
        "mixed new --scale 2",  # one of its clips is damaged
        "clips new --track deblur --scale 1 --blur-frames 9",  # too short for it
        "clips damaged --scale 2",
    ),
    "records": (
        "folder_of_clips nowhere new",
        "reds clips new",
        "folder_of_clips clips result.mp4",
        "folder_of_clips clips result.mp4/new",
        "folder_of_clips mixed new",
        "folder_of_clips clips damaged/r",
    ),
    "train": (
        "--data clips --workdir out",  # no configuration
        "--config nothing.py --data clips --workdir out",
        "--config half.png --data clips --workdir out",
        *(
            f"--config {name} --data clips --workdir {workdir}"
            for name in EXPERIMENTS
            for workdir in ("new", "out", "run")
        ),
        "--config good.py --data nowhere --workdir new",
        "--config good.py --data clips",
        "--config good.py --data clips --workdir new --chain",
        "--config good.py --data clips --workdir new --optim.peak-lr much",
        "--config good.py --data clips --workdir new --profile 3",
    ),
    "convert": (
        "nothing.pth result.safetensors",
        "half.safetensors result.safetensors",
        "tiny.safetensors no/such.safetensors",
        "tiny.safetensors result.json",
        "tiny.safetensors out",
        "clips result.safetensors",
        "tiny.safetensors result.safetensors --step 3",
        "tiny.safetensors result.safetensors",  # exists
        "tiny.safetensors tiny.safetensors --overwrite",  # its own input
        "run new.safetensors",
    ),
    "export": (
        "tiny.safetensors result.edvr",
        "half.safetensors result.edvr --overwrite",
        "tiny.safetensors no/such.edvr",
        "nowhere result.edvr --overwrite",
        "tiny.safetensors tiny.safetensors --overwrite --platforms cpu",
        "run new.edvr",
        "tiny.safetensors new.onnx --precision bfloat16",
        "tiny.safetensors new.ONNX --platforms cpu",
        "half.safetensors new.onnx",
    ),
    "bench": (
        "--json no/such.json",
        "--json result.json --compare half.png",
        "--json result.json --repeats 0",
        "--json tiny.safetensors",
    ),
    "info": (
        "nothing.pth",
        "half.safetensors",
        "tiny.safetensors --height 0",
        "run",
        "clips",
    ),
    "selftest": ("--no-such-option",),
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


# Names that fit the file system, but not with what is added while they are written.
LONG = "x" * 240
TOO_LONG = (
    f"restore clips/a {LONG}xxxxx.mkv --weights tiny.safetensors",
    f"restore clips/a {LONG}xxxxx --weights tiny.safetensors",
    f"restore clips/a new.mp4 --weights tiny.safetensors --report {LONG}.json",
    "restore frames new --weights tiny.safetensors --image-format webp",
    f"restore clips/a new.mp4 --weights tiny.safetensors --report-html {LONG}.html",
    f"eval --gt clips --weights tiny.safetensors --json {LONG}.json",
    f"eval --gt clips --weights tiny.safetensors --report {LONG}xxxx",
    f"metrics clips pred --json {LONG}.json",
    "prepare long new --scale 2",
    f"convert tiny.safetensors {LONG}.pth",
    f"export tiny.safetensors {LONG}.edvr",
    f"bench --json {LONG}.json",
)


@pytest.mark.parametrize("arguments", TOO_LONG)
def test_name_that_is_too_long_is_refused_before_the_work(folder, capsys, arguments):
    shutil.copytree(folder / "clips" / "a", folder / "long" / LONG)
    (folder / "frames").mkdir()
    shutil.copy(
        folder / "clips" / "a" / "0.png", folder / "frames" / f"{LONG:x<251}.png"
    )
    before = content(folder)
    assert cli.main(arguments.split()) == 2
    lines = capsys.readouterr().err.splitlines()
    assert "bytes, but the longest that works here has 2" in lines[-1]
    assert f"/.{LONG}" not in lines[-1]  # what is blamed is the output
    assert content(folder) == before
    if arguments.startswith("restore frames"):
        assert cli.main([*arguments.split()[:-1], "png"]) == 0
        assert [len(path.name) for path in (folder / "new").iterdir()] == [255]


@pytest.mark.xfail(
    strict=True, reason="videos are decoded into WORKDIR/frames before --init is read"
)
def test_refused_training_on_videos_changes_nothing(folder):
    """Folders of frames are read as they are: tests/train/test_workdir.py."""
    (folder / "videos").mkdir()
    for name in ("a.mp4", "b.mp4"):
        write_video(folder / "videos" / name, moving_bars(8), with_sound=False)
    (folder / "small.py").write_text(
        "from edvr_jax.config import Config, DataConfig, ModelConfig, OptimConfig\n\n\n"
        "def get_config():\n"
        "    model = ModelConfig(num_features=8, num_frames=3, deformable_groups=2,\n"
        "        num_extract_blocks=1, num_reconstruct_blocks=1, with_tsa=False)\n"
        "    optim = OptimConfig(period_steps=(4,), restart_weights=(1.0,))\n"
        "    return Config(model=model, optim=optim, total_steps=4,\n"
        '        data=DataConfig(gt_crop=32, batch_size=4, val_clips=("b",)))\n'
    )
    before = content(folder)
    line = "train --config small.py --data videos --workdir new --init nothing.pth"
    assert cli.main(line.split()) == 2
    assert content(folder) == before
