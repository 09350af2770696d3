"""What works without the extras, and what the wheel and the sdist hold."""

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from edvr_jax import weights
from edvr_jax.config import ModelConfig
from edvr_jax.errors import MissingExtraError, needs_extra
from tests.messages import check_message
from tests.videos import moving_bars, write_video

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
# What no extra but [dev] brings, nor any library of a plain installation.
BLOCKED = (
    *("array_record", "chex", "cloudpickle", "grain", "huggingface_hub", "jinja2"),
    *("onnx", "optax", "orbax", "tensorboardX", "tensorflow_datasets", "torch"),
    "wandb",
)
BLOCK = f"""
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BLOCKED!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocked())
"""


@pytest.fixture(scope="module")
def places(tmp_path_factory, random_params):
    """A folder with a clip of two frames and weights of a tiny network."""
    folder = tmp_path_factory.mktemp("places")
    write_video(folder / "in.mp4", moving_bars(2, 16, 16))
    config = ModelConfig(4, 1, 1, 0, 0, with_tsa=False)
    weights.save_weights(
        folder / "w.safetensors", config, random_params(config), origin="", license=""
    )
    return folder


def test_what_works_without_extras(places):
    """Every command that needs none, and one line from each that does."""
    code = """
import contextlib, io
from edvr_jax import cli

def run(line):
    stderr = io.StringIO()
    with contextlib.redirect_stderr(stderr):
        try:
            return cli.main(line.split()) or 0, stderr.getvalue()
        except SystemExit as stop:  # of --help
            return stop.code or 0, stderr.getvalue()

for line in WORKS.splitlines():
    assert run(line)[0] == 0, line
for line, extra in NEEDS.items():
    code, message = run(line)
    assert code == 2, line
    assert message.endswith(f": pip install 'edvr-jax[{extra}]'\\n"), message
    assert message.count("\\n") == 1
try:
    import edvr_jax.train
except ImportError as error:
    assert "edvr-jax[train]" in str(error)
else:
    sys.exit("imported")
"""
    works = """--help
train --help
records --help
bench --help
info w.safetensors
convert w.safetensors torch.safetensors --layout basicsr
restore in.mp4 out.mp4 --weights w.safetensors
eval --gt in.mp4 --weights w.safetensors
metrics in.mp4 in.mp4
export w.safetensors w.edvr --platforms cpu"""
    needs = {
        f"train --config {ROOT}/configs/debug.py --data . --workdir run": "train",
        "bench --cases train_step_m": "train",
        "bench --cases data_png": "train",
        "records folder_of_clips . records": "data",
        "restore in.mp4 page.mp4 --report-html page.html": "report",
        "export w.safetensors w.onnx": "onnx",
        "convert w.safetensors w.pth": "torch",
    }
    done = subprocess.run(
        [sys.executable, "-c", f"{BLOCK}WORKS, NEEDS = {works!r}, {needs!r}\n{code}"],
        cwd=places,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    for name in ("torch.safetensors", "out.mp4", "w.edvr"):
        assert (places / name).stat().st_size


def test_own_faulty_imports_are_no_missing_extra():
    with pytest.raises(ModuleNotFoundError) as caught, needs_extra("train", "training"):
        import edvr_jax.no_such_module  # noqa: F401 # pyright: ignore
    assert not isinstance(caught.value, MissingExtraError)


def test_messages_and_documents_name_extras_that_exist():
    patterns = ("edvr_jax/**/*.py", "*.md", "docs/*.md", "Makefile")
    files = [path for pattern in patterns for path in ROOT.glob(pattern)]
    named = set()
    for path in files:
        text = path.read_text("utf-8")
        for names in re.findall(r"(?:edvr-jax|'\.)\[([\w,]+)\]", text):
            named |= set(names.split(","))
        named |= set(re.findall(r'needs_extra\(\s*"(\w+)"', text))
    assert {"hub", "onnx", "report", "torch", "train"} <= named
    assert named <= EXTRAS.keys()


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Wheel and sdist, built as for a release; hatchling comes from the index."""
    folder = tmp_path_factory.mktemp("dist")
    uv("build", "--quiet", "--out-dir", folder, ROOT)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


def uv(*arguments):
    command = [sys.executable, "-m", "uv", *map(str, arguments)]
    subprocess.run(command, check=True, timeout=600)


@pytest.mark.slow
def test_wheel_and_sdist_hold_the_weights_and_the_license(built):
    wheel, sdist = built
    packed = set(zipfile.ZipFile(wheel).namelist())
    with tarfile.open(sdist) as archive:
        source = {name.partition("/")[2] for name in archive.getnames()}
    shipped = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "edvr_jax").rglob("*")
        if path.suffix in (".safetensors", ".npz", ".jinja", ".css", ".js", ".typed")
    }
    names = {f"edvr_jax/weights/{x}.safetensors" for x in weights.available_weights()}
    assert len(names) == 4
    assert names <= shipped
    assert shipped <= packed
    assert shipped <= source
    assert any(name.endswith("licenses/LICENSE") for name in packed)
    assert {"LICENSE", "README.md", "CITATION.cff", "examples/quickstart.py"} <= source


@pytest.mark.slow
def test_wheel_in_an_empty_environment_restores_offline(built, places, tmp_path):
    venv = tmp_path / "venv"
    uv("venv", "--quiet", "--python", sys.executable, venv)
    python = venv / "bin" / "python"
    constraints = ROOT / "constraints.txt"
    uv("pip", "install", "--quiet", "--python", python, "-c", constraints, built[0])
    closed = "http://127.0.0.1:9"  # nothing listens there
    offline = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "JAX_PLATFORMS": "cpu",
        **dict.fromkeys(
            ("HF_ENDPOINT", "PIP_INDEX_URL", "http_proxy", "https_proxy"), closed
        ),
    }

    def edvr(*arguments):
        return subprocess.run(
            [venv / "bin" / "edvr", *arguments],
            cwd=places,
            env=offline,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )

    assert edvr("--version").stdout.strip() == f"edvr_jax {PROJECT['version']}"
    checked = edvr("selftest")
    assert (checked.returncode, checked.stdout.count("PASS")) == (0, 2), checked
    for name in weights.available_weights():
        restored = edvr("restore", "in.mp4", f"{name}.mp4", "--weights", name)
        assert restored.returncode == 0, restored.stderr
        assert (places / f"{name}.mp4").stat().st_size
    refused = edvr(
        *("train", "--config", ROOT / "configs" / "debug.py"),
        *("--data", places, "--workdir", tmp_path / "run"),
    )
    assert refused.returncode == 2
    check_message(refused.stderr, "pip install 'edvr-jax[train]'")
