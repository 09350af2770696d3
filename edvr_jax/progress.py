"""Progress of long work: a bar on a terminal, and elsewhere a line now and then."""

import contextlib
import logging
import shutil
import sys
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import tqdm

T = TypeVar("T")

INTERVAL = 60.0  # seconds between two lines
_MOST_OF_AN_ITEM = 0.99  # what its parts add up to before it is done


class _Lines:
    """What tqdm draws over and over, as lines on stderr."""

    def write(self, text: str) -> None:
        line = text.strip()
        if line:
            sys.stderr.write(f"{line}\n")

    def flush(self) -> None:
        sys.stderr.flush()


class LogHandler(logging.Handler):
    """Writes log records to stderr, above a progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record as one line."""
        tqdm.tqdm.write(self.format(record), file=sys.stderr)


class _Meter(tqdm.tqdm):
    """Knows a word more than tqdm: the items that are done, without parts of one."""

    @property
    def format_dict(self) -> dict[str, Any]:
        found = super().format_dict
        return {**found, "num_done": int(found["n"])}


class Bar:
    """Shows how far work is; several threads may call it."""

    def __init__(self, bar: "tqdm.tqdm[Any]"):
        self._bar = bar
        self._num_done = bar.n

    def update(self, count: int = 1, *, name: str = "") -> None:
        """Tell that items are done.

        Args:
            count: So many.
            name: What the work is now; "" leaves it.
        """
        with self._bar.get_lock():
            if name:
                self._bar.set_description(name, refresh=False)
            self._num_done += count
            self._bar.update(self._num_done - self._bar.n)

    def advance(self, share: float, note: str = "") -> None:
        """Tell that a part of an item is done.

        Args:
            share: Of the item, in 0..1.
            note: Where in the item that is; "" leaves it.
        """
        with self._bar.get_lock():
            if note:
                self._bar.set_postfix_str(note, refresh=False)
            most = self._num_done + _MOST_OF_AN_ITEM - self._bar.n
            self._bar.update(max(0, min(share, most)))


@contextlib.contextmanager
def open_bar(
    total: int | None, *, unit: str = "frame", name: str = "", first: int = 0
) -> Iterator[Bar]:
    """Show how far work is, with its rate and the time that is left.

    Args:
        total: How many items there are; None if that is not known.
        unit: What an item is.
        name: What the work is.
        first: How many were done before.

    Yields:
        The bar; nothing is shown any more after the ``with``.
    """
    if sys.stderr.isatty():
        width, height = shutil.get_terminal_size()  # also if it does not say
        style: dict[str, Any] = {
            "ncols": width,
            "nrows": height,
            "bar_format": (
                "{l_bar}{bar}| {num_done}/{total_fmt} "
                "[{elapsed}<{remaining}, {rate_fmt}{postfix}]"
            ),
        }
    else:
        style = {
            "file": _Lines(),
            "mininterval": INTERVAL,
            "maxinterval": INTERVAL,
            "delay": INTERVAL,
            "bar_format": (
                "{desc}{num_done} of {total_fmt}, {rate_fmt}, {elapsed} so far, "
                "{remaining} left{postfix}"
            ),
        }
    with _Meter(
        total=total,
        unit=unit,
        desc=name or None,
        initial=first,
        miniters=0,
        smoothing=0,  # items differ, and so do their parts
        leave=False,
        **style,
    ) as bar:
        yield Bar(bar)


def track(
    items: Iterable[T], *, total: int | None = None, unit: str = "frame", name: str = ""
) -> Iterator[T]:
    """Pass items on and show how many have passed; see :func:`open_bar`.

    Args:
        items: The items.
        total: How many there are; None is their length, if they have one.
        unit: What an item is.
        name: What the work is.
    """
    if total is None and hasattr(items, "__len__"):
        total = len(items)  # pyright: ignore[reportArgumentType]
    with open_bar(total, unit=unit, name=name) as bar:
        for item in items:
            yield item
            bar.update()
