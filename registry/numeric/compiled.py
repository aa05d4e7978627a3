"""Loops over pixels and edges, compiled by Numba the first time they are called, and kept for later processes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def compiled(function: Callable) -> Callable:
    """The same function as machine code, without the interpreter's lock. It rounds as written. It cannot call another
    compiled function.

    Compiling takes a second or so; Numba keeps the result beside the source or in the user's cache folder
    (NUMBA_CACHE_DIR), and where neither can be written each process compiles for itself. Numba takes half a second to
    import; the first call does it.
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
    """Call `function` with slices of range(length), of `size` each or one for each thread that torch has, several at
    once. NumPy, SciPy and compiled loops let go of the interpreter's lock.
    """
    import torch  # here, so that loops compile without it

    size = size or -(-length // torch.get_num_threads())
    parts = [slice(start, min(start + size, length)) for start in range(0, length, max(size, 1))]
    if len(parts) == 1:
        function(parts[0])
        return
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        list(threads.map(function, parts))
