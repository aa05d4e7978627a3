"""The study of halos: trained once, segmented with each halo; the table's means and shares."""

import csv

from benchmarks.studies import halos


def test_each_halo_is_scored_on_the_training_slices(tmp_path, monkeypatch):
    monkeypatch.setitem(halos.CHANGED, "phantom", ["data.shapes=[[4,260,260],[4,240,240]]", "data.fov=160"])
    arguments = ["--data", "phantom", "--systems", "intensity_kmeans", "--halo", "11", "0", "--seeds", "0", "1"]
    assert halos.main([*arguments, "--out", str(tmp_path)]) == 0
    with open(tmp_path / "halos.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["seed"], row["halo"]) for row in rows] == [("0", "11"), ("0", "0"), ("1", "11"), ("1", "0")]
    for row in rows:
        assert 0.1 < float(row["dsc"]) < 1
        assert (row["pixels"] == "1.000", float(row["changed"]) > 0) == (row["halo"] == "0", row["halo"] == "0")


def test_the_table_has_means_over_seeds_and_changes_against_the_first_halo():
    numbers = [("0", "40", "0.4", "0"), ("0", "20", "0.5", "0.01"), ("1", "40", "0.6", "0"), ("1", "20", "0.7", "0.03")]
    rows = [["hela", "sccs", seed, halo, "1", dsc, changed] for seed, halo, dsc, changed in numbers]
    heads, _, line = halos.table(rows).splitlines()
    assert "halo of 40 px | halo of 20 px (pixels changed)" in heads
    assert "hela | `sccs` | 0.500 ± " in line and "| 0.600 ± " in line and "(2.0 %)" in line
