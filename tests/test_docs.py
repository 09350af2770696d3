"""The documentation: links lead somewhere, commands exist, examples run."""

import ast
import hashlib
import importlib
import json
import re
import shlex
import tomllib
from pathlib import Path

import numpy as np
import pytest

from edvr_jax import cli, weights
from edvr_jax.config import ModelConfig
from edvr_jax.ops import resize_bilinear
from tests import typed_user
from tests.videos import moving_bars, write_video
from tools import draw_network, write_results

ROOT = Path(__file__).resolve().parent.parent
DOCS = [
    path.relative_to(ROOT).as_posix()
    for path in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
]
PUBLIC = [
    path.parent.relative_to(ROOT).as_posix().replace("/", ".")
    for path in sorted((ROOT / "edvr_jax").rglob("__init__.py"))
    if "\n__all__ = " in path.read_text("utf-8")
]


def _code_blocks(path: str, language: str) -> list[str]:
    text = (ROOT / path).read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("path", DOCS)
def test_links_lead_somewhere(path):
    text = (ROOT / path).read_text("utf-8")
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", text)
    local = [t for t in targets if "://" not in t]
    missing = [t for t in local if not (ROOT / path).parent.joinpath(t).exists()]
    assert not missing


@pytest.mark.parametrize("path", DOCS)
def test_named_files_exist(path):
    text = (ROOT / path).read_text("utf-8")
    folders = "configs|docs|edvr_jax|examples|tests|tools"
    named = re.findall(rf"`((?:{folders})/[\w./]*\w)`", text)
    assert not [name for name in named if not (ROOT / name).exists()]


@pytest.mark.parametrize("path", DOCS)
def test_commands_and_their_options_exist(path, capsys):
    for block in _code_blocks(path, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words = line.split("#")[0].split()
            if words[:1] == ["python"] and words[1] in ("train.py", "eval.py"):
                words = ["edvr", words[1].removesuffix(".py"), *words[2:]]
            if words[:1] == ["edvr"]:
                _check_options(words[1], words[2:], capsys)


def _check_options(command, arguments, capsys):
    with pytest.raises(SystemExit) as exit_info:
        raise SystemExit(cli.main([command, "--help"]))
    assert exit_info.value.code in (0, None)
    help_text = capsys.readouterr().out
    for option in (a for a in arguments if a.startswith("--")):
        assert option in help_text, f"{command} has no {option}"


@pytest.mark.parametrize("path", DOCS)
def test_python_examples_compile(path):
    for block in _code_blocks(path, "python"):
        compile(block, path, "exec")


@pytest.fixture(scope="module")
def names_in_examples():
    """Every name in the Python blocks of the documentation, and in examples/."""
    programs = [block for path in DOCS for block in _code_blocks(path, "python")]
    programs += [path.read_text("utf-8") for path in (ROOT / "examples").glob("*.py")]
    found = set()
    for node in (node for text in programs for node in ast.walk(ast.parse(text))):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.alias(name=name):
                found.add(name)
    return found


@pytest.mark.parametrize("package", PUBLIC)
def test_public_names_have_an_example(package, names_in_examples):
    assert set(importlib.import_module(package).__all__) <= names_in_examples


def test_reference_has_the_public_packages():
    pages = (ROOT / "docs" / "reference").glob("*.md")
    text = "\n".join(page.read_text("utf-8") for page in pages)
    modules = re.findall(r"^::: ([\w.]+)$", text, re.MULTILINE)
    assert set(PUBLIC) <= set(modules)
    assert len(modules) == len(set(modules))
    for module in modules:
        importlib.import_module(module)


def test_library_examples_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "example"}
    for block in _code_blocks("docs/library.md", "python"):
        exec(compile(block, "<docs/library.md>", "exec"), names)
    printed = capsys.readouterr().out.splitlines()
    promised = re.findall(
        r"print\(.*\)(?:  |\n)# (.+)", (ROOT / "docs/library.md").read_text("utf-8")
    )
    assert len(promised) == 8
    assert set(promised) <= set(printed)
    assert {path.name for path in tmp_path.iterdir()} == {
        *("mine.safetensors", "basicsr.safetensors", "small.edvr", "small.onnx"),
    }


def test_quickstart_commands_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "in.mp4", moving_bars(2, 16, 16))
    for block in _code_blocks("docs/quickstart.md", "sh"):
        for line in block.splitlines():
            command, *arguments = shlex.split(line, comments=True)
            if command == "edvr":
                (tmp_path / "out.mp4").unlink(missing_ok=True)
                assert cli.main(arguments) in (0, None)
                assert (tmp_path / arguments[2]).exists()


@pytest.mark.parametrize("name", ["edvr", "stride2_dilation2", "grouped"])
def test_arrays_of_torchvision_give_its_output(fixtures, name):
    (example,) = _code_blocks("docs/migration.md", "python")
    names = {"__name__": "example"}
    exec(compile(example, "<docs/migration.md>", "exec"), names)
    z = np.load(fixtures / "deform_conv" / f"{name}.npz")
    y = names["from_torchvision"](
        *(
            z[key].astype(np.float32)
            for key in ("x", "offset", "weight", "bias", "mask")
        ),
        deform_groups=int(z["deform_groups"]),
        strides=int(z["stride"]),
        padding=int(z["padding"]),
        dilation=int(z["dilation"]),
        groups=int(z["groups"]),
    )
    # Measured 5e-7 of the largest value, CPU.
    np.testing.assert_allclose(y, z["out"], atol=1e-5 * abs(z["out"]).max())


def test_replacing_a_module_runs():
    (example,) = _code_blocks("docs/design.md", "python")
    names = {"__name__": "example"}
    exec(compile(example, "<docs/design.md>", "exec"), names)
    assert names["restored"].shape == (1, 64, 64, 3)
    assert set(names["params"]["fusion"]) == {"Conv_0"}


def test_typed_program_runs(tmp_path, random_params, tiny_config):
    single = ModelConfig(
        num_features=4,
        num_frames=1,
        deformable_groups=1,
        num_extract_blocks=0,
        num_reconstruct_blocks=0,
        scale=1,
        with_tsa=False,
        with_alignment=False,
    )
    names = ("single", "both", "torch")
    file, both, torch = (tmp_path / f"{name}.safetensors" for name in names)
    params = random_params(single)
    weights.save_weights(file, single, params, origin="here", license="none")
    typed_user.join(file, file, both)
    typed_user.convert(torch, tiny_config, random_params(tiny_config))
    clip = np.ones((2, 4, 4, 3), np.float32)
    for path in (file, both):
        restored = list(typed_user.restore_by_file(path, resize_bilinear(clip, 1)))
        assert [x.shape for x in restored] == [(4, 4, 3)] * 2
    typed_user.operate(np.ones((1, 4, 4, 2)))
    typed_user.measure(np.ones((16, 16, 3)))


def test_changelog_has_the_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert f"## [{project['version']}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_figure_of_the_network_is_that_of_the_code():
    stored = (ROOT / "docs/images/network.svg").read_text("utf-8")
    assert stored == draw_network.draw()


@pytest.mark.parametrize("page", write_results.PAGES)
def test_results_are_those_of_the_measurements(page):
    stored = (ROOT / "docs" / page).read_text("utf-8")
    assert stored == write_results.render(page)


@pytest.mark.parametrize("name", write_results.TASKS)
def test_results_are_those_of_the_weights_that_ship(name):
    measured = json.loads((ROOT / f"docs/results/{name}.json").read_text("utf-8"))
    file = ROOT / f"edvr_jax/weights/{name}.safetensors"
    assert measured["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()


def test_every_network_that_ships_has_results():
    names = {path.stem for path in (ROOT / "edvr_jax/weights").glob("*.safetensors")}
    assert names == set(write_results.TASKS)
