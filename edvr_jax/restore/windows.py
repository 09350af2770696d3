"""The windows of a sequence whose length is not known."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from edvr_jax.data.windows import window_indices

T = TypeVar("T")


def iter_windows(
    items: Iterable[T], *, num_frames: int, center: int, padding: str
) -> Iterator[list[T]]:
    """Yield the window of every item of a sequence whose length is unknown.

    Args:
        items: One item per frame; each is drawn once and at most ``num_frames`` are
            held (more if ``center`` is not the middle).
        num_frames: Items in a window; odd.
        center: Index in the window of the item it belongs to. If that is not the
            middle, the window is cut from the smallest symmetric one around it.
        padding: One of ``edvr_jax.data.windows.PADDING_MODES``.

    Yields:
        Lists of ``num_frames`` items, as many lists as there are items.
    """
    reach = max(center, num_frames - 1 - center)
    span = 2 * reach + 1
    ring: dict[int, T] = {}
    num_done = num_read = 0

    def window(index: int) -> list[T]:
        indices = window_indices(index, num_read, span, padding)
        first = reach - center
        return [ring[i] for i in indices[first : first + num_frames]]

    for item in items:
        ring.pop(num_read - span, None)
        ring[num_read] = item
        num_read += 1
        # Up to index `reach` a window may reach as far as frame `span - 1`, later
        # ones `reach` ahead; the windows at the end need the last `span` frames.
        while num_read >= span and num_done + reach < num_read:
            yield window(num_done)
            num_done += 1
    for index in range(num_done, num_read):
        yield window(index)
