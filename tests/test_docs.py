"""The documentation: links lead somewhere, commands exist, examples run."""

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

from edvr_jax import cli, weights
from edvr_jax.config import ModelConfig
from edvr_jax.ops import resize_bilinear
from tests import typed_user
from tools import draw_network

ROOT = Path(__file__).resolve().parent.parent
DOCS = [
    path.relative_to(ROOT).as_posix()
    for path in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
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
