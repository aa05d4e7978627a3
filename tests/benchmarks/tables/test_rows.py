"""Rows of the tables: settings of one system."""

import numpy as np

from benchmarks.tables.rows import figure5_rows, k_rows


def test_settings_become_rows():
    rows = k_rows(["sccs"], "full")
    assert [row.overrides for row in rows] == [("clusterer.k=6",), ("clusterer.k=7",), (), ("clusterer.k=9",)]
    rows = [row for row in figure5_rows(["sccs"], "full")[:5] if row.overrides]
    nodes = [560 * 560 / float(row.overrides[0].split("=")[1]) for row in rows]
    assert np.allclose(nodes, [2000, 2500, 3500, 4000], rtol=1e-3)
