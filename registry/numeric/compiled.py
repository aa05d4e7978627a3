"""Loops over pixels and edges, compiled by Numba on their first call and cached for later processes."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from typing import Any


def compiled(function: Callable) -> Callable:
    """The function as machine code that releases the GIL. It rounds as written, divides by zero as NumPy does, and
    cannot call another compiled function.

    Compiling takes about a second; Numba caches the result next to the source or in the user's cache folder
    (NUMBA_CACHE_DIR); if neither is writable, each process compiles again. The first call also imports Numba, which
    takes half a second.
    """
    made: list[Callable] = []

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        if not made:
            from numba import njit

            make = partial(njit, nogil=True, error_model="numpy")  # loops that divide can use vector instructions
            try:
                made.append(make(cache=True)(function))
            except RuntimeError:  # Numba found no folder to keep it in
                made.append(make()(function))
        return made[0](*args)

    return call


def at_once(function: Callable[[slice], None], length: int, size: int | None = None) -> None:
    """Call `function` concurrently with slices of range(length), of `size` each or one per torch thread. NumPy, SciPy
    and compiled loops release the GIL. Helper threads are kept for the next call; inside a helper thread, slices run
    one after the other.
    """
    import torch  # here, so that loops compile without it

    count = 1 if getattr(_this, "helps", False) else torch.get_num_threads()
    size = max(size or -(-length // count), 1)
    parts = iter([slice(start, min(start + size, length)) for start in range(0, length, size)])

    def work() -> None:
        for part in parts:
            function(part)

    helpers = [_helpers().submit(work) for _ in range(min(count, -(-length // size)) - 1)]
    try:
        work()
    finally:
        wait(helper for helper in helpers if not helper.cancel())
    for helper in helpers:
        if not helper.cancelled():
            helper.result()


_this = threading.local()


@functools.lru_cache
def _helpers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count(), initializer=lambda: setattr(_this, "helps", True))


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_helpers.cache_clear)  # threads do not survive a fork
