"""Progress of long work: a bar on a terminal, and elsewhere a line now and then."""

import contextlib
import shutil
import sys
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import tqdm

T = TypeVar("T")

INTERVAL = 60.0  # seconds between two lines


class _Lines:
    """What tqdm draws over and over, as lines on stderr."""

    def write(self, text: str) -> None:
        line = text.strip()
        if line:
            sys.stderr.write(f"{line}\n")

    def flush(self) -> None:
        sys.stderr.flush()


class Bar:
    """Shows how far work is; several threads may call it."""

    def __init__(self, bar: "tqdm.tqdm[Any]"):
        self._bar = bar

    def update(self, count: int = 1, *, name: str = "", note: str = "") -> None:
        """Tell that something was done.

        Args:
            count: So many items; 0 within a long one.
            name: What the work is now; "" leaves it.
            note: Where in an item; "" leaves it.
        """
        with self._bar.get_lock():
            if name:
                self._bar.set_description(name, refresh=False)
            if note:
                self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(count)


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
        style: dict[str, Any] = {"ncols": width, "nrows": height}
    else:
        style = {
            "file": _Lines(),
            "mininterval": INTERVAL,
            "maxinterval": INTERVAL,
            "delay": INTERVAL,
            "bar_format": (
                "{desc}{n_fmt} of {total_fmt}, {rate_fmt}, {elapsed} so far, "
                "{remaining} left{postfix}"
            ),
        }
    with tqdm.tqdm(
        total=total,
        unit=unit,
        desc=name or None,
        initial=first,
        miniters=0,
        smoothing=0,  # else a call within an item would seem to begin it
        leave=False,
        **style,
    ) as bar:
        yield Bar(bar)


def watch(
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
