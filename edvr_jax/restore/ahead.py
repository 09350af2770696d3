"""Work ahead of the consumer: one item in a thread of its own."""

from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
_END = object()


def ahead(items: Iterable[T]) -> Generator[T, None, None]:
    """Draw each item in another thread while the one before is used.

    Args:
        items: Drawn in one thread, in order; its exceptions are raised here. If it is
            a generator, it is closed with this one.

    Yields:
        The items.
    """
    iterator = iter(items)
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool:
        try:
            future = pool.submit(next, iterator, _END)
            while (item := future.result()) is not _END:
                future = pool.submit(next, iterator, _END)
                yield item  # type: ignore[misc]
                del item  # large, and the next one takes its time
        finally:
            if isinstance(iterator, Generator):
                pool.submit(iterator.close).result()
