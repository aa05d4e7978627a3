"""Compiled loops: the same results, with and without a folder to keep them in."""

import numba
import numpy as np

from registry.numeric.compiled import compiled


def total(values):
    result = 0.0
    for value in values:
        result += value
    return result


def test_result_is_that_of_the_plain_function():
    values = np.random.default_rng(0).standard_normal(1000)
    fast = compiled(total)
    assert fast(values) == total(values) and fast.__name__ == "total"


def test_without_a_folder_it_is_compiled_all_the_same(monkeypatch):
    def njit(cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function 'total': no locator available for file")
        return numba.jit(nopython=True, **options)

    monkeypatch.setattr(numba, "njit", njit)
    assert compiled(total)(np.arange(5.0)) == 10
