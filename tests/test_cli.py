"""The command line as a whole."""

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
