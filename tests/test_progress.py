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
    assert list(progress.track([1, 2], name="decoding")) == [1, 2]
    lines = read()  # splitlines parts at the returns, too
    assert any("decoding" in line and "0/2" in line for line in lines)
    assert not lines[-1].strip()


def test_log_gets_lines_with_rate_and_time_left(error_lines, monkeypatch):
    monkeypatch.setattr(progress, "INTERVAL", 0.001)
    read = error_lines(io.StringIO())
    with progress.open_bar(50, first=10) as bar:
        for index in range(11, 51):
            time.sleep(0.002)
            bar.advance(0.5, note=f"tile {index}")
            bar.update()
    lines = read()
    assert 1 < len(lines) <= 80
    form = (
        r"\d+ of 50, +[\d.]+(frame/s|s/frame), \d\d:\d\d so far, "
        r"\d\d:\d\d left, tile \d+"
    )
    assert all(re.fullmatch(form, line) for line in lines), lines
    assert lines == sorted(lines, key=lambda line: int(line.split()[0]))


def test_rate_counts_the_parts_of_an_item(error_lines):
    read = error_lines(Terminal())
    seconds = iter(range(0, 10_000, 10))
    with progress.open_bar(3) as bar:
        bar._bar._time = lambda: next(seconds)
        bar._bar.start_t = bar._bar.last_print_t = 0
        for index in range(4):
            bar.advance(0.25, note=f"tile {index + 1}")
        bar.update()
        bar.advance(7)  # never more than an item
    lines = [line.split("| ")[-1] for line in read() if "|" in line]
    # One quarter in 10 seconds and some calls of the clock.
    found = re.fullmatch(
        r"0/3 \[00:\d\d<0[12]:\d\d, ([\d.]+)s/frame, tile 2\]", lines[1]
    )
    assert found, lines
    assert 40 <= float(found[1]) <= 120
    shown = [line[:3] for line in lines]
    assert shown == sorted(shown)
    assert set(shown) == {"0/3", "1/3"}


def test_short_work_writes_nothing_into_a_log(error_lines):
    read = error_lines(io.StringIO())
    assert list(progress.track(iter("abc"), total=3)) == list("abc")
    assert read() == []
