"""The benchmark of neighbours: both precisions take turns, and the share of the same neighbours is measured."""

import csv

from benchmarks.speed import neighbours


def test_both_precisions_are_timed_and_compared(tmp_path, monkeypatch):
    shapes = ["data.shapes=[[4,240,240],[4,240,240]]", "data.train_slices=1", "data.test_slices=1"]
    small = neighbours.views_of("phantom", shapes, "sccs_fast")
    monkeypatch.setattr(neighbours, "views_of", lambda *_: small)
    assert (
        neighbours.main(["--data", "phantom", "--systems", "sccs_fast", "--repeats", "2", "--out", str(tmp_path)]) == 0
    )
    with open(tmp_path / "neighbours.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["precision"] for row in rows] == ["float32", "int8"] * 2
    same = {row["precision"]: float(row["same"]) for row in rows}
    assert same["float32"] == 1 and 0.9 < same["int8"] < 1
    assert min(float(row["seconds"]) for row in rows) > 0
    page = (tmp_path / "neighbours.md").read_text()
    assert neighbours.table([list(row.values()) for row in rows]) in page
