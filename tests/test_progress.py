"""Progress on a terminal and in a log."""

import io
import re
import time

import pytest

from edvr_jax import progress


class Terminal(io.StringIO):
    """Stands for a terminal; pytest has none."""

    def isatty(self):
        return True


@pytest.fixture
def error_lines(monkeypatch):
    """Function that has stderr collected, and returns what was written there."""

    def collect(stream):
        monkeypatch.setattr("sys.stderr", stream)
        return lambda: stream.getvalue().splitlines()

    return collect


def test_terminal_gets_a_bar_that_goes_away(error_lines):
    read = error_lines(Terminal())
    assert list(progress.watch([1, 2], name="decoding")) == [1, 2]
    lines = read()  # splitlines parts at the returns, too
    assert any("decoding" in line and "0/2" in line for line in lines)
    assert not lines[-1].strip()


def test_log_gets_lines_with_rate_and_time_left(error_lines, monkeypatch):
    monkeypatch.setattr(progress, "INTERVAL", 0.001)
    read = error_lines(io.StringIO())
    with progress.open_bar(50, first=10) as bar:
        for index in range(11, 51):
            bar.set_postfix_str(f"tile {index}", refresh=False)
            bar.update()
            for _ in range(20_000):
                pass
    lines = read()
    assert 1 < len(lines) <= 40
    form = (
        r"\d+ of 50, +[\d.]+(frame/s|s/frame), \d\d:\d\d so far, "
        r"\d\d:\d\d left, tile \d+"
    )
    assert all(re.fullmatch(form, line) for line in lines), lines
    assert lines == sorted(lines, key=lambda line: int(line.split()[0]))


def test_rate_is_that_of_whole_items(error_lines):
    read = error_lines(Terminal())
    with progress.open_bar(2) as bar:
        for _ in range(4):
            time.sleep(0.15)
            bar.update(0)
        bar.update()
        bar.refresh()
    rate = float(re.search(r"([\d.]+)(frame/s|s/frame)", read()[-2])[1])
    assert rate < 3  # since the last call it would be 6 or more


def test_short_work_writes_nothing_into_a_log(error_lines):
    read = error_lines(io.StringIO())
    assert list(progress.watch(iter("abc"), total=3)) == list("abc")
    assert read() == []
