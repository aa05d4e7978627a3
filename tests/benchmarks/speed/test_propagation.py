"""Products of the benchmark: graphs as dense as they say, every way timed at every density."""

import re

import pytest

from benchmarks.speed import propagation


@pytest.mark.parametrize("density", [0.01, 0.3])
def test_a_graph_is_about_as_dense_as_asked(density):
    n = 400
    graph = propagation.random_graph(n, density)
    assert graph.density == pytest.approx(density + 1 / n, rel=0.1)


def test_every_way_is_timed_at_every_density(capsys):
    assert propagation.main(["--nodes", "80", "--channels", "4", "--repeats", "2"]) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert first.startswith("80 nodes, ") and len(lines) == len(propagation.DENSITIES)
    for line in lines:
        assert re.findall(r"(dense|csr|dgl) [0-9.]+", line) == list(propagation.MODES)
