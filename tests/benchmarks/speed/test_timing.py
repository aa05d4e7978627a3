"""The benchmark of stages and nodes."""

import csv

import pytest

from benchmarks.speed import timing


@pytest.mark.slow
def test_timing_runs_side_by_side_and_counts_nodes(tmp_path):
    assert timing.guard(timing.main)(["--systems", "sccs", "kmeans", "--repeats", "2", "--out", str(tmp_path)]) == 0
    text = (tmp_path / "timing.md").read_text()
    assert "RTX 2080 Ti" in text and "| kmeans |" in text
    with open(tmp_path / "timing.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 and all(float(row["features"]) > 0 for row in rows)
