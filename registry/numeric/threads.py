"""A library's number of threads, for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def single(get: Callable[[], int], put: Callable[[int], object]) -> Iterator[None]:
    """One thread meanwhile. get, put: the library's functions that tell and set the number."""
    threads = get()
    put(1)
    try:
        yield
    finally:
        put(threads)
