"""The command line as a whole."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import pytest

import edvr_jax
from edvr_jax import cli


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as exit_info:
        cli.main(["--help"])
    assert exit_info.value.code in (0, None)
    text = capsys.readouterr().out
    assert not [name for name in cli._COMMANDS if f"• {name}" not in text]


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"edvr_jax {edvr_jax.__version__}\n"


def test_unknown_command_ends_with_2(capsys):
    with pytest.raises(SystemExit) as exit_info:
        cli.main(["restroe", "in.mp4", "out.mp4"])
    assert exit_info.value.code == 2
    assert "restroe" in capsys.readouterr().err


def test_refusal_of_the_system_is_one_line(tmp_path, capsys):
    name = str(tmp_path / ("long" * 100))
    assert cli.main(["restore", name, str(tmp_path / "out.mp4")]) == 2
    assert capsys.readouterr().err == f"error: {name}: File name too long\n"


@pytest.mark.parametrize("name", ["a\nb", "\x1b[31ma", "a\rb", os.fsdecode(b"\xff")])
def test_names_give_the_terminal_no_orders(tmp_path, name, capsys):
    assert cli.main(["info", str(tmp_path / name)]) == 2
    assert cli.main(["restore", str(tmp_path), str(tmp_path / (name + "x" * 300))]) == 2
    lines = capsys.readouterr().err.split("\n")
    assert len(lines) == 3
    assert all(line.isprintable() for line in lines)


def run(*arguments, code="", **options):
    """Run a command in a process of its own, after some code."""
    script = f"import sys; {code}from edvr_jax import cli; sys.exit(cli.main())"
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        **options,
    )


def test_missing_platform_is_one_line():
    """Also looked at: a GPU build without a driver, which raises the same errors."""
    environment = os.environ | {"JAX_PLATFORMS": "cuda"}
    done = run("info", "edvr_s_x4", env=environment, stdout=subprocess.DEVNULL)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: JAX cannot use the platform cuda")
    assert "JAX_PLATFORMS=cpu" in line


def test_reader_that_ends_is_no_error():
    """As in edvr train --help | head -3."""
    reading, writing = os.pipe()
    os.close(reading)
    done = run("train", "--help", stdout=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (cli.READER_ENDED, "")


def test_closed_output_and_unwritable_cache(tmp_path):
    """Nobody sees the output; the cache is named only if the user chose it."""
    file = tmp_path / "file"
    file.touch()
    for name in ("JAX_COMPILATION_CACHE_DIR", "XDG_CACHE_HOME"):
        environment = {**os.environ, name: str(file / "cache")}
        if name == "XDG_CACHE_HOME":
            del environment["JAX_COMPILATION_CACHE_DIR"]
        done = run("info", "edvr_s_x4", code="sys.stdout = None; ", env=environment)
        assert done.returncode == 0
        is_named = f"{file / 'cache'} (JAX_COMPILATION_CACHE_DIR)" in done.stderr
        assert is_named == (name == "JAX_COMPILATION_CACHE_DIR")
        assert len(done.stderr.splitlines()) == is_named


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_behind_the_output_is_one_line():
    with Path("/dev/full").open("w") as full:
        done = run("info", "edvr_s_x4", stdout=full)
    assert done.returncode == 2
    reason = os.strerror(errno.ENOSPC)
    assert done.stderr == f"error: the output of this command: {reason}\n"


@pytest.mark.parametrize(
    ("code", "stream"),
    [
        ("sys.stdin = None; ", "stdin"),
        ("sys.stdin = sys.stdout = sys.stderr = None; ", "all of them"),
    ],
)
def test_closed_streams_are_no_traceback(tmp_path, code, stream):
    """As a service manager starts programs; also looked at: each stream alone."""
    done = run("restore", "-", str(tmp_path / "o.mp4"), code=code)
    assert done.returncode == 2, stream
    assert len(done.stderr.splitlines()) == (stream == "stdin")


@pytest.mark.parametrize("name", ["größe", os.fsdecode(b"\xff")])
def test_names_that_the_terminal_cannot_show(tmp_path, fixtures, name):
    """Another encoding, and bytes that are text in none."""
    copy = tmp_path / f"{name}.safetensors"
    shutil.copy(fixtures / "models" / "basicsr_sr.safetensors", copy)
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = run("info", str(copy), env=environment, stdout=subprocess.DEVNULL)
    assert (done.returncode, done.stderr) == (0, "")
    copy.write_bytes(b"damaged")
    done = run("info", str(copy), env=environment, stdout=subprocess.DEVNULL)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")


@pytest.mark.parametrize("columns", ["1", "5"])
def test_narrow_terminal(columns):
    """Below 8 columns tyro's help took all memory."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_AS, (2**33, 2**33)); "
    environment = os.environ | {"COLUMNS": columns}
    done = run(
        *("info", "--help"), code=limit, env=environment, stdout=subprocess.DEVNULL
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_interrupt_is_one_line(monkeypatch, capsys):
    """Of the commands that have nothing to save: info, eval, metrics, export, ..."""

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_run", interrupt)
    assert cli.main(["info", "edvr_s_x4"]) == 130
    assert capsys.readouterr().err == "\ninterrupted\n"


def test_user_without_a_home(monkeypatch, capsys):
    """Containers run under numbers that no user has; the cache is left out."""

    def expanduser(path):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "expanduser", expanduser)
    monkeypatch.setattr(Path, "home", expanduser)
    folder = jax.config.jax_compilation_cache_dir
    try:
        assert cli.main(["info", "edvr_s_x4"]) == 0
    finally:
        jax.config.update("jax_compilation_cache_dir", folder)
    assert capsys.readouterr().err == ""
