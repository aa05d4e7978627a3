"""The phantom's calibration: a line for each recipe and phantom, the paper's numbers beside them."""

import csv

import numpy as np

from benchmarks.studies import phantom

TINY = ["data.shapes=[[4,160,160],[4,160,160]]", "data.test_slices=1"]


def test_recipes_are_measured_by_phantom_and_seed(tmp_path, monkeypatch):
    monkeypatch.setattr(phantom, "SYSTEMS", ("intensity_kmeans", "raw_kmeans"))
    arguments = ["--phantoms", "3", "4", "--seeds", "0", "--out", str(tmp_path), "--set", *TINY]
    assert phantom.main(arguments) == 0
    with open(tmp_path / "calibration.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["system"], row["phantom"]) for row in rows} == {
        (system, seed) for system in ("area", "intensity_kmeans", "raw_kmeans") for seed in "34"
    }
    assert {row["class"] for row in rows} == {*phantom.PAPER, phantom.FIRST}
    for seed in "34":
        areas = [float(row["dsc"]) for row in rows if row["system"] == "area" and row["phantom"] == seed]
        assert np.isclose(sum(areas), 1, atol=1e-4)
    page = (tmp_path / "calibration.md").read_text()
    assert "| paper, k-means on BetaSeg | - | 0.858 | 0.803 | 0.571 | 0.679 | - |" in page and "commit " in page


def test_of_one_test_slice_the_first_slice_is_the_whole():
    found = phantom.measure("intensity_kmeans", 3, 0, TINY)
    assert np.isclose(found["nucleus"], found[phantom.FIRST]) and 0 < found["nucleus"] < 1
