"""The rules of the tree: who may import whom, and what a file may hold.

Every rule is a function from one file to its violations, so that the last tests
can show each of them catching one.
"""

import ast
import dataclasses
import functools
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import edvr_jax

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "edvr_jax"

# A module may import the layers above it in this list; sideways only inside its
# own folder.
LAYERS = (
    ("errors",),
    ("config", "files", "progress"),
    ("ops", "losses"),
    ("models", "data"),
    ("convert", "metrics", "optim", "state"),
    ("weights", "alignment"),
    ("steps",),
    ("parallel", "protocols", "restore", "warm_start"),
    (
        *("benchmark", "checkpoint", "evaluator", "event_file", "export"),
        *("interruption", "profiling", "workdir"),
    ),
    ("validation",),
    ("watch",),
    ("trainer", "dry_run"),
    ("chain",),
    ("commands",),
    ("cli",),
)
LAYER_OF = {name: i for i, names in enumerate(LAYERS) for name in names}

# Which units of the package may import an outside library that is optional, or
# that would spread if it were let in.
OUTSIDE = {
    "grain": ("data", "checkpoint"),
    "orbax": ("checkpoint", "weights"),
    "tensorflow": (),
    "tensorflow_datasets": ("data",),
    "torch": ("convert",),
    "tyro": ("cli", "commands"),
}
OPTIONAL = ("grain", "tensorflow", "tensorflow_datasets", "torch")
# Files that nothing imports but inside a function.
LAZY_FILES = ("edvr_jax/data/builders.py",)

MAX_LINES = 400
MAX_ENTRY_POINT_LINES = 80


@dataclasses.dataclass(frozen=True)
class Import:
    """One imported module, and where the import stands."""

    name: str
    line: int
    is_lazy: bool  # inside a function

    @property
    def root(self) -> str:
        """The library's name."""
        return self.name.split(".")[0]


@dataclasses.dataclass(frozen=True)
class SourceFile:
    """One Python file, its path written relative to the repository."""

    path: str
    source: str

    @functools.cached_property
    def tree(self) -> ast.Module:
        """The parsed file."""
        return ast.parse(self.source, self.path)

    @property
    def unit(self) -> str:
        """Name of the layer's member that the file belongs to; "" outside."""
        parts = Path(self.path).with_suffix("").parts
        if parts[0] != PACKAGE or parts[1] == "__init__":
            return ""
        return parts[1]

    @functools.cached_property
    def imports(self) -> tuple[Import, ...]:
        """Every import of the file, `from a import b` as a.b if that is a module."""
        return tuple(_walk_imports(self.tree, is_lazy=False))


def _walk_imports(node: ast.AST, *, is_lazy: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(alias.name, child.lineno, is_lazy)
        elif isinstance(child, ast.ImportFrom):
            if child.level:
                yield Import("." * child.level, child.lineno, is_lazy)
                continue
            for alias in child.names:
                name = f"{child.module}.{alias.name}"
                yield Import(
                    name if _is_module(name) else str(child.module),
                    child.lineno,
                    is_lazy,
                )
        elif _imported_by_name(child):
            yield Import(_imported_by_name(child), child.lineno, is_lazy)  # type: ignore[attr-defined]
        is_function = isinstance(
            child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
        )
        yield from _walk_imports(child, is_lazy=is_lazy or is_function)


def _is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def _imported_by_name(node: ast.AST) -> str:
    """Module named in a call of importlib.import_module; "" for other nodes."""
    if not (isinstance(node, ast.Call) and node.args):
        return ""
    called = node.func.attr if isinstance(node.func, ast.Attribute) else ""
    if isinstance(node.func, ast.Name):
        called = node.func.id
    argument = node.args[0]
    if called in ("import_module", "__import__") and isinstance(argument, ast.Constant):
        return str(argument.value)
    return ""


def import_direction(file: SourceFile) -> Iterator[str]:
    """The layers: nothing imports upwards or sideways."""
    if not file.unit:
        return
    if file.unit not in LAYER_OF:
        yield f"{file.path}: {file.unit} has no place in LAYERS"
        return
    for item in file.imports:
        if item.root != PACKAGE:
            continue
        other = item.name.removeprefix(f"{PACKAGE}.").split(".")[0]
        if other not in LAYER_OF:
            yield f"{file.path}:{item.line}: imports {item.name}: name a module of it"
        elif other != file.unit and LAYER_OF[other] >= LAYER_OF[file.unit]:
            yield f"{file.path}:{item.line}: {file.unit} must not import {other}"


def outside_libraries(file: SourceFile) -> Iterator[str]:
    """Optional and far-reaching libraries stay in their corners."""
    for item in file.imports:
        if item.root not in OUTSIDE:
            continue
        where = f"{file.path}:{item.line}"
        if file.unit and file.unit not in OUTSIDE[item.root]:
            yield f"{where}: {file.unit} must not import {item.root}"
        elif item.root in OPTIONAL and not (
            item.is_lazy or file.path in LAZY_FILES or not file.unit
        ):
            yield f"{where}: {item.root} is optional, import it inside a function"
        elif item.root == "torch" and not (
            file.unit or file.path.startswith(("tools/", "tests/parity/"))
        ):
            yield f"{where}: torch is for convert.py, tools/ and tests/parity/"


def no_relative_imports(file: SourceFile) -> Iterator[str]:
    """Imports are absolute."""
    for item in file.imports:
        if item.name.startswith("."):
            yield f"{file.path}:{item.line}: relative import"


def configs_import_config_only(file: SourceFile) -> Iterator[str]:
    """An experiment file needs the schema, other experiments, and no more."""
    if not file.path.startswith("configs/"):
        return
    for item in file.imports:
        is_sibling = (ROOT / "configs" / f"{item.root}.py").is_file()
        is_allowed = item.name == f"{PACKAGE}.config" or is_sibling
        if not is_allowed and item.root not in sys.stdlib_module_names:
            yield f"{file.path}:{item.line}: configs must not import {item.name}"


def pmap_in_parallel_only(file: SourceFile) -> Iterator[str]:
    """One file knows about devices."""
    if file.unit == "parallel" or file.path.startswith("tests/"):
        return
    for node in ast.walk(file.tree):
        is_attribute = isinstance(node, ast.Attribute) and node.attr == "pmap"
        is_imported = isinstance(node, ast.ImportFrom) and any(
            alias.name == "pmap" for alias in node.names
        )
        if is_attribute or is_imported:
            yield f"{file.path}:{node.lineno}: pmap outside parallel.py"  # type: ignore[attr-defined]


def short_files(file: SourceFile) -> Iterator[str]:
    """A long file says why, an entry point holds no logic."""
    num_lines = len(file.source.splitlines())
    if file.path in ("train.py", "eval.py") and num_lines >= MAX_ENTRY_POINT_LINES:
        yield f"{file.path}: {num_lines} lines, {MAX_ENTRY_POINT_LINES - 1} at most"
    docstring = ast.get_docstring(file.tree) or ""
    if num_lines >= MAX_LINES and f"{MAX_LINES} lines" not in docstring:
        yield (
            f"{file.path}: {num_lines} lines, and its docstring does not say why "
            f"it has more than {MAX_LINES} lines"
        )


def no_print(file: SourceFile) -> Iterator[str]:
    """The package writes through its callers or sys.stdout."""
    if not file.path.startswith(f"{PACKAGE}/"):
        return
    for node in ast.walk(file.tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
            continue
        if node.func.id == "print":
            yield f"{file.path}:{node.lineno}: print"


def public_docstrings(file: SourceFile) -> Iterator[str]:
    """Modules and what they offer are documented."""
    if file.path.startswith("tests/"):
        return
    if file.source.strip() and not ast.get_docstring(file.tree):
        yield f"{file.path}: no module docstring"
    yield from _missing_docstrings(file.tree, file.path)


def _missing_docstrings(node: ast.AST, where: str) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if child.name.startswith("_") and child.name != "__call__":
            continue
        if "overload" in map(ast.unparse, child.decorator_list):
            continue
        if not ast.get_docstring(child):
            yield f"{where}:{child.lineno}: {child.name} has no docstring"
        if isinstance(child, ast.ClassDef):
            yield from _missing_docstrings(child, where)


RULES = (
    import_direction,
    outside_libraries,
    no_relative_imports,
    configs_import_config_only,
    pmap_in_parallel_only,
    short_files,
    no_print,
    public_docstrings,
)


@functools.cache
def _files() -> tuple[SourceFile, ...]:
    paths = [*ROOT.glob("*.py")]
    for folder in (PACKAGE, "configs", "tools", "tests"):
        paths.extend((ROOT / folder).rglob("*.py"))
    return tuple(
        SourceFile(path.relative_to(ROOT).as_posix(), path.read_text("utf-8"))
        for path in sorted(paths)
    )


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rule_holds(rule: Callable[[SourceFile], Iterator[str]]):
    files = _files()
    assert any(file.path == f"{PACKAGE}/config.py" for file in files)
    violations = [text for file in files for text in rule(file)]
    assert not violations, "\n" + "\n".join(violations)


@pytest.mark.parametrize(
    ("rule", "path", "source"),
    [
        (import_direction, "edvr_jax/ops/a.py", "from edvr_jax import models"),
        (import_direction, "edvr_jax/models/a.py", "from edvr_jax.data import video"),
        (import_direction, "edvr_jax/steps.py", "import edvr_jax.checkpoint"),
        (import_direction, "edvr_jax/trainer.py", "import edvr_jax"),
        (import_direction, "edvr_jax/utils.py", ""),
        (outside_libraries, "edvr_jax/convert.py", "import torch"),
        (outside_libraries, "edvr_jax/optim.py", "def f():\n    import torch"),
        (
            outside_libraries,
            "edvr_jax/ops/a.py",
            "def f():\n    return importlib.import_module('torch')",
        ),
        (outside_libraries, "tests/test_a.py", "import torch"),
        (outside_libraries, "edvr_jax/steps.py", "def f():\n    import grain.python"),
        (outside_libraries, "edvr_jax/config.py", "import tyro"),
        (outside_libraries, "edvr_jax/data/a.py", "import tensorflow_datasets"),
        (no_relative_imports, "edvr_jax/models/a.py", "from . import layers"),
        (configs_import_config_only, "configs/a.py", "from edvr_jax import optim"),
        (configs_import_config_only, "configs/a.py", "import jax"),
        (pmap_in_parallel_only, "edvr_jax/steps.py", "f = jax.pmap(g)"),
        (pmap_in_parallel_only, "tools/a.py", "from jax import pmap"),
        (short_files, "edvr_jax/data/a.py", '"""Doc."""\n' + "x = 1\n" * MAX_LINES),
        (short_files, "train.py", "x = 1\n" * MAX_ENTRY_POINT_LINES),
        (no_print, "edvr_jax/cli.py", "print('x')"),
        (public_docstrings, "edvr_jax/a.py", "x = 1"),
        (public_docstrings, "edvr_jax/a.py", '"""D."""\ndef f():\n    pass'),
        (
            public_docstrings,
            "tools/a.py",
            '"""D."""\nclass A:\n    "D."\n    def f(): 1',
        ),
    ],
)
def test_rule_catches(rule, path, source):
    assert list(rule(SourceFile(path, source)))


@pytest.mark.parametrize(
    ("rule", "path", "source"),
    [
        (
            import_direction,
            "edvr_jax/models/edvr.py",
            "from edvr_jax.models import pcd",
        ),
        (import_direction, "edvr_jax/evaluator.py", "from edvr_jax.restore import a"),
        (import_direction, "edvr_jax/__init__.py", "from edvr_jax import trainer"),
        (outside_libraries, "edvr_jax/convert.py", "def f():\n    import torch"),
        (outside_libraries, "tools/a.py", "import torch"),
        (configs_import_config_only, "configs/a.py", "from edvr_jax.config import A"),
        (configs_import_config_only, "configs/a.py", "import dataclasses"),
        (pmap_in_parallel_only, "edvr_jax/parallel.py", "f = jax.pmap(g)"),
        (
            public_docstrings,
            "edvr_jax/a.py",
            '"""D."""\n@overload\ndef f(): ...\n\n\ndef f():\n    """D."""',
        ),
        (
            short_files,
            "edvr_jax/ops/a.py",
            '"""Over 400 lines: one table."""\n' + "x = 1\n" * MAX_LINES,
        ),
    ],
)
def test_rule_allows(rule, path, source):
    assert not list(rule(SourceFile(path, source)))


def test_import_needs_no_optional_library():
    block = "".join(f"sys.modules[{name!r}] = None; " for name in OPTIONAL)
    names = [path.stem for path in (ROOT / PACKAGE / "commands").glob("*.py")]
    modules = ", ".join(f"{PACKAGE}.commands.{name}" for name in names)
    subprocess.run(
        [sys.executable, "-c", f"import sys; {block}import {PACKAGE}.cli, {modules}"],
        cwd=ROOT,
        check=True,
        timeout=120,
    )


def test_restore_does_not_wait_for_the_libraries_of_training():
    heavy = "orbax", "grain", "tensorboardX", "tensorflow_datasets"
    program = (
        f"import sys, {PACKAGE}.cli, {PACKAGE}.commands.restore; "
        f"assert not {set(heavy)} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=120)


def test_package_states_its_types_and_version():
    assert (ROOT / "edvr_jax" / "py.typed").is_file()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert edvr_jax.__version__ == project["version"]
