"""Limits a library to one thread for the length of a block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def single(get: Callable[[], int], put: Callable[[int], object]) -> Iterator[None]:
    """Use one thread within the block. get, put: the library's functions that read and set the number of threads."""
    threads = get()
    put(1)
    try:
        yield
    finally:
        put(threads)
