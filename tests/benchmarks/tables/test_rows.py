"""Rows of the tables: settings of one system."""

import numpy as np
import pytest

from benchmarks import harness
from benchmarks.tables.rows import MAESTER_CUTS, figure5_rows, k_rows, maester_rows


def test_settings_become_rows():
    rows = k_rows(["sccs"], "full")
    assert [row.overrides for row in rows] == [("clusterer.k=6",), ("clusterer.k=7",), (), ("clusterer.k=9",)]
    rows = [row for row in figure5_rows(["sccs"], "full")[:5] if row.overrides]
    nodes = [560 * 560 / float(row.overrides[0].split("=")[1]) for row in rows]
    assert np.allclose(nodes, [2000, 2500, 3500, 4000], rtol=1e-3)


def test_maester_has_the_quick_windows_of_table_1_and_the_published_ones():
    small = harness.QUICK_DATA["phantom"]
    quick, published = maester_rows(["maester"], "quick")
    files = {
        row.label: harness.job(row.system, "phantom", 0, "quick", row.overrides).file for row in (quick, published)
    }
    assert files["maester, central: 16"] == harness.job("maester", "phantom", 0, "quick").file
    assert files["maester, central: 4"] == harness.job("maester", "phantom", 0, "full", small).file


@pytest.mark.parametrize("data", MAESTER_CUTS)
def test_maesters_windows_are_measured_on_one_fov_of_a_large_set(data, monkeypatch, tmp_path):
    """The cut reaches both parts of the set's data, and keeps what else is in their regions."""
    monkeypatch.setenv("SCCS_DATA", str(tmp_path))
    block = harness.job("maester", data, 0, "quick", MAESTER_CUTS[data]).recipe["data"]
    for part in ("train", "test"):
        region = block[part][0]["region"]
        assert region["y"] == region["x"] == [0, block["fov"]] and region["z"]
