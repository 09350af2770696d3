"""Which frames form a window, with padding beyond the ends of a clip.

Checked against ``generate_frame_indices`` of BasicSR (``basicsr/data/data_util.py``).
"""

from collections.abc import Iterable, Iterator
from typing import Literal, TypeVar, get_args

T = TypeVar("T")
Padding = Literal["replicate", "reflection", "reflection_circle", "circle"]
PADDING_MODES = get_args(Padding)


def window_indices(
    center: int, num_total: int, num_frames: int, padding: str
) -> list[int]:
    """List the frames around ``center``, padded at both ends of the clip.

    For frame 0 of a longer clip and a window of five: replicate 0 0 0 1 2,
    reflection 2 1 0 1 2; the other two use the frames that follow the window,
    reflection_circle 4 3 0 1 2 and circle 3 4 0 1 2. In a clip shorter than the
    window, reflection reflects at both ends, circle repeats the clip, and
    reflection_circle replicates its ends.

    Args:
        center: Frame to restore, 0 <= center < num_total.
        num_total: Frames in the clip.
        num_frames: Frames in the window; odd.
        padding: One of ``PADDING_MODES``.

    Returns:
        ``num_frames`` indices, all within the clip, with ``center`` in the middle.

    Raises:
        ValueError: if an argument is outside its range.
    """
    if padding not in PADDING_MODES:
        raise ValueError(f"padding must be one of {PADDING_MODES}, got {padding!r}")
    if num_frames < 1 or num_frames % 2 == 0:
        raise ValueError(f"num_frames must be odd and positive, got {num_frames}")
    if not 0 <= center < num_total:
        raise ValueError(f"center must be in 0..{num_total - 1}, got {center}")
    reach = num_frames // 2
    return [
        index
        if 0 <= index < num_total
        else _pad_index(index, center, num_total, reach, padding)
        for index in range(center - reach, center + reach + 1)
    ]


def _pad_index(
    index: int, center: int, num_total: int, reach: int, padding: str
) -> int:
    """Map an index outside the clip to one inside."""
    last, num_frames = num_total - 1, 2 * reach + 1
    if padding == "reflection" and last:
        index %= 2 * last
        return min(index, 2 * last - index)
    if padding == "circle":
        wrapped = index + num_frames if index < 0 else index - num_frames
        return wrapped if 0 <= wrapped <= last else index % num_total
    if padding == "reflection_circle":
        above, below = center + reach - index, center - reach - (index - last)
        index = above if index < 0 else below
    return min(max(index, 0), last)


def iter_windows(
    items: Iterable[T], *, num_frames: int, center: int, padding: str
) -> Iterator[list[T]]:
    """Yield the window of every item of a sequence whose length is unknown.

    Args:
        items: One item per frame; each is drawn once and at most ``num_frames`` are
            kept (more if ``center`` is not the middle).
        num_frames: Items in a window; odd.
        center: Index in the window of the item it belongs to. If that is not the
            middle, the window is cut from the smallest symmetric one around it.
        padding: One of ``PADDING_MODES``.

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
