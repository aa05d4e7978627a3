"""The studies of the student: every system with each kind of features, and the settings around the recipe's."""

import csv

import numpy as np
import pytest

from benchmarks.studies import students, views


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """A phantom of two training FOVs in the place of the real sets, with filters in the place of MAE and student."""
    shapes = ["data.shapes=[[4,240,240],[4,240,240],[4,240,240]]", "data.train_slices=1", "data.test_slices=1"]
    seen = views.views_of
    monkeypatch.setattr(views, "PHANTOM_SLICES", 1)
    monkeypatch.setattr(students, "REAL", ("phantom",))
    monkeypatch.setattr(students, "SYSTEMS", ("kmeans", "sccs_plus"))
    monkeypatch.setattr(students, "MAE", "intensity")
    monkeypatch.setattr(students, "views_of", lambda data, overrides: seen(data, [*overrides, *shapes]))


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_systems_are_scored_with_teacher_and_student(tmp_path):
    asked = ["--data", "phantom", "--seeds", "0", "1", "--out", str(tmp_path)]
    assert students.main(asked) == 0
    found = rows(tmp_path / "students.csv")
    kinds = [*students.KINDS, students.HALVED]
    assert {(row["system"], row["features"]) for row in found} == {(s, k) for s in students.SYSTEMS for k in kinds}
    assert all(0 < float(row["dsc"]) <= 1 for row in found)
    means = students.read(tmp_path / "students.csv")
    assert means["kmeans", "MAE"].shape == (2,) and (means["kmeans", "MAE"] != means["kmeans", "student"]).any()
    lost = np.mean(means["sccs_plus", "MAE"] - means["sccs_plus", "student"])
    line = next(line for line in (tmp_path / "students.md").read_text().splitlines() if "sccs_plus | student |" in line)
    assert f"{lost:.3f} ±" in line


@pytest.mark.parametrize("option, name", [("--around", "around"), ("--hops", "hops")])
def test_settings_are_tried_in_all_combinations(tmp_path, monkeypatch, option, name):
    settings = {"graph.pixels_per_superpixel": (100,), "embedder.hops": (2, 4), "clusterer.k": (4, 8)}
    monkeypatch.setattr(students, name.upper(), settings)
    assert students.main(["--data", "phantom", "--seeds", "0", option, "--out", str(tmp_path)]) == 0
    found = rows(tmp_path / f"{name}.csv")
    assert len(found) == 2 * 2 * len(students.KINDS) and all(0 < float(row["dsc"]) <= 1 for row in found)
    assert {(row["embedder.hops"], row["clusterer.k"]) for row in found} == {(h, k) for h in "24" for k in "48"}
