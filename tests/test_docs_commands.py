"""Every command of the documentation that one machine can run, in its page's order.

Left out are installations, the Hub (tests/weights/test_hub.py has a server), other
machines' launchers (tests/train/test_processes.py and tests/commands run what they
launch), and published datasets of many gigabytes (tests/data/datasets has the layouts).
Trainings are cut to two steps of a small network, and pairs for a second stage in size.
"""

import dataclasses
import functools
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from configs import edvr_s_x4
from edvr_jax import weights
from edvr_jax.config import ModelConfig
from edvr_jax.weights import torch_files
from tests.videos import moving_bars, write_folder, write_video

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    *("README.md", "docs/quickstart.md", "docs/restore.md", "docs/training.md"),
    *("docs/data.md", "docs/weights.md", "docs/migration.md", "docs/own_parts.md"),
]
CLIPS = (*edvr_s_x4.get_config().data.val_clips, "holiday", "garden", "val", "a")
HAS_TORCH = importlib.util.find_spec("torch") is not None
LEFT_OUT = re.compile(
    r"^(pip|make|vspipe|hf)\b|hf://|RUN@|REDS|vimeo_septuplet|Vid4|RECORDS"
    + ("" if HAS_TORCH else "|(?i:edvr_m)")
    + ("" if shutil.which("ffmpeg") else "|^ffmpeg")
)
TRAINING = (
    *("--total-steps", "2", "--optim.period-steps", "2", "--optim.restart-weights"),
    *("1", "--checkpoint-every-steps", "1", "--eval.every-steps", "1"),
    *("--eval.frames-per-clip", "1", "--data.batch-size", "2", "--data.num-workers"),
    *("0", "--model.num-features", "8", "--model.deformable-groups", "2"),
    *("--model.num-extract-blocks", "1", "--model.num-reconstruct-blocks", "1"),
)
# The clips here are small.
PAIRS = """
import tyro
from tools import make_stage2_pairs as tool
tool.SIZES, tool.SPEEDS = ((96, 128),), (1.0, 2.0)
tyro.cli(tool.MakeStage2Pairs).run()
"""
SHIMS = f"""
set -e
edvr() {{ {sys.executable} -m edvr_jax.cli "$@"; }}
python() {{
  case $* in
    "-m tools.make_stage2_pairs "*) {sys.executable} -c '{PAIRS}' "${{@:3}}";;
    train.py*) {sys.executable} "$@" {" ".join(TRAINING)};;
    *) {sys.executable} "$@";;
  esac
}}
"""


def commands(page):
    """Return the command lines of a page, those of continued lines joined."""
    text = (ROOT / page).read_text("utf-8")
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    found = (re.sub(r"\s+", " ", line.partition(" #")[0]).strip() for line in lines)
    return [line for line in found if line and not LEFT_OUT.search(line)]


@pytest.fixture
def folder(tmp_path, random_params):
    """A folder with everything that the pages' commands name."""
    for name in ("train.py", "eval.py", "configs", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    frames = moving_bars(9, 64, 96)
    write_video(tmp_path / "in.mp4", frames[:4])
    write_video(tmp_path / "in.mkv", frames[:4])
    for name in ("frames", "frames_in", "GT_FOLDER", "RESTORED_FOLDER"):
        write_folder(tmp_path / name, frames[:2])
    (tmp_path / "videos").mkdir()
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / "videos" / name, frames[:2])
    large = [np.tile(frame, (5, 4, 1)) for frame in frames]
    for name in (
        "SHARP/clip",
        *(f"CLIPS/{name}" for name in CLIPS),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_folder(tmp_path / name, large)
    write_folder(tmp_path / "CLIP", frames[:2])
    small = ModelConfig(
        num_features=8, deformable_groups=2, num_reconstruct_blocks=1, num_frames=3
    )
    deblur = dataclasses.replace(small, scale=1, hr_in=True)
    for name, config in (("sr", small), ("deblur", deblur), ("s2", deblur)):
        params = random_params(config)
        save = functools.partial(weights.save_weights, origin="test", license="none")
        save(tmp_path / f"{name}.safetensors", config, params)
    if HAS_TORCH:
        torch_files.to_torch(small, random_params(small), tmp_path / "EDVR_M.pth")
    return tmp_path


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.usefixtures("compiled_as_users_do")
def test_commands_run(page, folder):
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "JAX_PLATFORMS": "cpu",
    }
    for line in commands(page):
        _remove(folder.glob("out*"))
        if "prepare" in line or "make_stage2_pairs" in line:
            _remove(folder.glob("PAIRS*"))
        done = subprocess.run(
            ["bash", "-c", SHIMS + line.replace("@2500", "@2")],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stderr[-2000:]}"


def _remove(paths):
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
