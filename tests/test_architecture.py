"""Rules of the layout that neither import-linter nor ruff can check.

Who may import whom stands in pyproject.toml (``[tool.importlinter]``).
"""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import edvr_jax

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted(
    path.relative_to(ROOT)
    for folder in ("edvr_jax", "configs", "examples", "tools", "tests", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
)
MAX_LINES = 400
MAX_ENTRY_POINT_LINES = 80


def test_the_root_holds_the_front_door_only():
    found = {path.name for path in (ROOT / "edvr_jax").glob("*.py")}
    assert found == {
        *("__init__.py", "config.py", "cli.py", "errors.py", "files.py"),
        *("progress.py", "export.py"),
    }


def test_entry_points_hold_no_logic():
    for name in ("train.py", "eval.py"):
        assert len((ROOT / name).read_text().splitlines()) < MAX_ENTRY_POINT_LINES


@pytest.mark.parametrize("path", FILES, ids=str)
def test_long_files_say_why(path):
    source = (ROOT / path).read_text("utf-8")
    docstring = ast.get_docstring(ast.parse(source)) or ""
    assert len(source.splitlines()) < MAX_LINES or f"{MAX_LINES} lines" in docstring


def test_configs_import_the_schema_and_each_other_only():
    for path in (ROOT / "configs").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [str(node.module)]
            else:
                continue
            for name in names:
                is_sibling = (ROOT / "configs" / f"{name}.py").is_file()
                is_allowed = name == "edvr_jax.config" or is_sibling
                assert is_allowed or name in sys.stdlib_module_names, (path, name)


def test_restore_does_not_wait_for_the_libraries_of_training():
    heavy = "orbax", "grain", "tensorboardX", "tensorflow_datasets", "jinja2"
    program = (
        f"import sys, edvr_jax.cli, edvr_jax.commands.restore; "
        f"assert not {set(heavy)} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=120)


def test_package_states_its_types_and_version():
    assert (ROOT / "edvr_jax" / "py.typed").is_file()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert edvr_jax.__version__ == project["version"]
