"""Compiled loops, with and without a folder to keep them in, and several at once."""

import os
import threading

import numba
import numpy as np
import pytest
import torch

from registry.numeric.compiled import at_once, compiled


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


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("length, size", [(0, None), (1, None), (2, None), (10, None), (10, 1), (10, 4), (3, 100)])
def test_slices_cover_the_range_once(threads, length, size):
    seen = []
    at_once(lambda part: seen.extend(range(length)[part]), length, size)
    assert sorted(seen) == list(range(length))


def test_slices_run_at_once(threads):
    met = threading.Barrier(2, timeout=20)
    at_once(lambda part: met.wait(), 2)


def test_within_a_helper_slices_take_turns(threads):
    """Or helpers that wait for helpers would wait forever."""
    seen = []

    def outer(part):
        at_once(lambda inner: seen.append((part.start, inner.start)), 8, 1)

    at_once(outer, 8 * (os.cpu_count() or 1), 1)
    assert len(seen) == len(set(seen)) == 64 * (os.cpu_count() or 1)


def test_an_error_in_a_slice_is_raised_and_the_next_call_works(threads):
    def fails(part):
        raise ValueError(f"slice {part.start}")

    with pytest.raises(ValueError, match="slice"):
        at_once(fails, 9, 1)
    test_slices_cover_the_range_once(None, 10, 1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_helpers_work_in_a_forked_process(threads):
    at_once(lambda part: None, 2)  # there are helpers before the fork
    child = os.fork()
    if not child:
        met = threading.Barrier(2, timeout=20)
        try:
            at_once(lambda part: met.wait(), 2)
        finally:
            os._exit(met.broken)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
