"""The command line as a whole."""

import errno
import os
import subprocess
import sys

import pytest

from edvr_jax import cli


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as exit_info:
        cli.main(["--help"])
    assert exit_info.value.code in (0, None)
    text = capsys.readouterr().out
    assert not [name for name in cli._COMMANDS if f"• {name}" not in text]


def test_unknown_command_ends_with_2(capsys):
    with pytest.raises(SystemExit) as exit_info:
        cli.main(["restroe", "in.mp4", "out.mp4"])
    assert exit_info.value.code == 2
    assert "restroe" in capsys.readouterr().err


def test_refusal_of_the_system_is_one_line(tmp_path, capsys):
    (tmp_path / "in.mp4").touch()
    name = str(tmp_path / ("long" * 100))
    assert cli.main(["restore", str(tmp_path / "in.mp4"), name]) == 2
    assert capsys.readouterr().err == f"error: {name}: File name too long\n"


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


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_full_disk_behind_the_output_is_one_line():
    with open("/dev/full", "w") as full:
        done = run("info", "edvr_s_x4", stdout=full)
    assert done.returncode == 2
    reason = os.strerror(errno.ENOSPC)
    assert done.stderr == f"error: the output of this command: {reason}\n"
