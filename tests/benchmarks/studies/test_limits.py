"""What limits SCCS+: stages score what they say, the command writes what it saw."""

import csv

import numpy as np
import pytest

from benchmarks.studies import limits, views
from benchmarks.studies.views import View, Views
from registry.spg.graphs import Nodes


def test_blocks_of_features_are_told_apart():
    feature = np.arange(12, dtype=np.float32).reshape(2, 6)
    nodes = Nodes(
        np.array([[0, 1]], np.int32),
        feature,
        np.ones(2, np.float32),
        np.zeros((2, 2), np.float32),
        np.zeros((2, 0), np.int64),
        blocks=np.array([1, 2, 3]),
    )
    picked = limits.only(nodes, (2, 0))
    assert picked.feature.tolist() == [[3, 4, 5, 0], [9, 10, 11, 6]] and picked.blocks.tolist() == [3, 1]


def test_clusters_are_mapped_by_the_half_trained_on_and_scored_on_the_other():
    counts = [np.array([[9, 0], [0, 9]]), np.array([[5, 5], [0, 10]])]
    found = Views(["a", "b"], [View(None, None, each) for each in counts], 1)
    clusters = [np.array([1, 0]), np.array([1, 0])]  # cluster 1 is a, 0 is b
    # of the other half: a 5 of 5 found with 5 of b among them; b 10 of 15, nothing else
    expected = (2 * 5 / (10 + 5) + 2 * 10 / (10 + 15)) / 2
    assert limits.scored(clusters, 2, found, True) == pytest.approx(expected)
    assert limits.scored(clusters, 2, found, False) == pytest.approx((0 + 2 * 5 / (10 + 15)) / 2)


def test_the_command_writes_every_stage(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "DIVISIONS", 1)
    monkeypatch.setattr(views, "PHANTOM_SLICES", 1)
    monkeypatch.setattr(limits, "FEATURES", {"filters": (1,), "all three": (0, 1, 2)})
    assert (
        limits.main(
            [
                "--data",
                "phantom",
                "--steps",
                "2",
                "--seeds",
                "0",
                "1",
                "--out",
                str(tmp_path),
                "--set",
                "data.shapes=[[4,240,240],[4,240,240],[4,240,240]]",
                "data.train_slices=1",
                "data.test_slices=1",
            ]
        )
        == 0
    )
    with open(tmp_path / "limits.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(limits.FEATURES) * len(limits.STAGES) * 2
    assert {row["stage"] for row in rows} == set(limits.STAGES)
    assert all(0 < float(row["dsc"]) < 1 for row in rows)
    text = (tmp_path / "limits.md").read_text()
    assert "phantom (synthetic)" in text and "training places" in text
