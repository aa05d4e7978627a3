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


def test_the_embedding_is_compared_alone_and_with_its_operator(tmp_path):
    """Against the quickest solver and against double precision; the quickest may be another with the operator."""
    lines = ["lgc,0,0.1,0.1", "eigsh,0,0.1,2.0", "eigsh float32,0,3.0,1.0"]
    heads = "nodes,edges,entries,method,round,operator seconds,embedding seconds,MiB"
    rows = [line.split(",") for line in lines]
    body = [f"100,knn+adjacent,9,{method},{turn},{build},{solve},0" for method, turn, build, solve in rows]
    (tmp_path / "scaling.csv").write_text("\n".join([heads, *body]) + "\n")
    graphs = scaling.read(tmp_path / "scaling.csv")
    found = scaling.times_as_fast(graphs[100, "knn+adjacent"], "lgc")
    assert found == pytest.approx([10, 2.1 / 0.2, 20, 2.1 / 0.2])
    said = scaling.in_words(graphs, (100,))
    assert "10.0 times as fast as the quickest solver and 20.0 times" in said and "10.5 and 10.5 times" in said
