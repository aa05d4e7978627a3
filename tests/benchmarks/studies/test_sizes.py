"""The study of students' sizes: each is taught, scored and timed, and one that is there is not taught again."""

import csv

import pytest

from benchmarks.studies import sizes, study_sccs, views


@pytest.mark.slow
def test_students_of_two_widths_are_taught_scored_and_timed(tmp_path, monkeypatch):
    shapes = ["data.shapes=[[4,240,240],[4,240,240],[4,240,240]]", "data.train_slices=1", "data.test_slices=1"]
    seen = views.views_of
    monkeypatch.setattr(views, "PHANTOM_SLICES", 1)
    monkeypatch.setattr(sizes, "REAL", ("phantom",))
    monkeypatch.setattr(sizes, "ROUNDS", 2)
    monkeypatch.setattr(study_sccs, "views_of", lambda data, overrides: seen(data, [*overrides, *shapes]))
    asked = ["--widths", "4", "8", "--data", "phantom", "--seeds", "0", "1", "--steps", "4", "--out", str(tmp_path)]
    small = ["pretrain.data=[{name: phantom, shapes: [[4,240,660],[4,240,660]]}]", "pretrain.batch=4"]
    small += ["pretrain.crops=8", "pretrain.passes=1"]
    runs = ["--runs", str(tmp_path / "runs")]
    assert sizes.main([*asked, *runs, "--set", *small]) == 0
    with open(tmp_path / "sizes.csv", newline="") as file:
        found = list(csv.DictReader(file))
    for width in ("4", "8"):
        of = [row for row in found if row["width"] == width]
        assert {row["what"] for row in of} == {"steps", "error", "seconds", *sizes.SYSTEMS}
        assert [float(row["value"]) for row in of if row["what"] == "steps"] == [4]
        assert all(0 < float(row["value"]) <= 1 for row in of if row["what"] in sizes.SYSTEMS)
    made = (tmp_path / "runs" / "4" / "model" / "student.safetensors").stat().st_mtime_ns
    assert sizes.main([*asked, *runs]) == 0  # without --set: nothing is taught
    assert (tmp_path / "runs" / "4" / "model" / "student.safetensors").stat().st_mtime_ns == made
    assert "| 4 | " in (tmp_path / "sizes.md").read_text()
