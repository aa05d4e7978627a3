"""Loops over pixels and edges, compiled by Numba on their first call and cached for later processes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def compiled(function: Callable) -> Callable:
    """The function as machine code that releases the GIL. It rounds as written, and cannot call another compiled
    function.

    Compiling takes about a second; Numba caches the result next to the source or in the user's cache folder
    (NUMBA_CACHE_DIR); if neither is writable, each process compiles again. The first call also imports Numba, which
    takes half a second.
    """
    made: list[Callable] = []

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        if not made:
            from numba import njit

            try:
                made.append(njit(cache=True, nogil=True)(function))
            except RuntimeError:  # Numba found no folder to keep it in
                made.append(njit(nogil=True)(function))
        return made[0](*args)

    return call


def at_once(function: Callable[[slice], None], length: int, size: int | None = None) -> None:
    """Call `function` concurrently with slices of range(length), of `size` each or one per torch thread. NumPy, SciPy
    and compiled loops release the GIL.
    """
    import torch  # here, so that loops compile without it

    size = size or -(-length // torch.get_num_threads())
    parts = [slice(start, min(start + size, length)) for start in range(0, length, max(size, 1))]
    if len(parts) == 1:
        function(parts[0])
        return
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        list(threads.map(function, parts))
