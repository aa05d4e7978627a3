"""The benchmark of scaling: every method is timed, solvers agree, memory is that of the method."""

import numpy as np
import pytest

from benchmarks.speed import scaling


def test_scaling_times_every_method_and_finds_the_exponent(read, tmp_path):
    arguments = ["--nodes", "100", "225", "400", "--repeats", "1", "--no-memory", "--out", str(tmp_path)]
    assert scaling.guard(scaling.main)(arguments) == 0
    rows = read("scaling")
    assert {row["method"] for row in rows} == set(scaling.METHODS)
    assert {row["nodes"] for row in rows} == {"100", "225", "400"}
    assert (tmp_path / "scaling.png").stat().st_size > 0
    assert scaling.growth([10, 100, 1000], [1, 10**1.5, 1000]) == pytest.approx(1.5)


def test_memory_of_a_dense_solver_grows_with_the_square_of_the_nodes():
    small, large = (scaling.memory("eigh", scaling.made_graph(n)) for n in (400, 1600))
    assert 0 <= small < 40 and large > 2 * 1600**2 * 8 / 2**20


def test_solvers_of_scaling_find_the_same_eigenvalues():
    graph = scaling.made_graph(400)
    found = [how.solve(how.build(scaling.fresh(graph)))[0] for how in map(scaling.method, ("eigsh", "lobpcg", "eigh"))]
    for values in found:
        assert np.sort(values) == pytest.approx(np.sort(found[-1]), abs=1e-6)
