"""The benchmark of the student's precisions: all take turns, and the distance from float32 is measured."""

import csv

import numpy as np
from scipy.ndimage import gaussian_filter

from benchmarks.speed import student


def test_precisions_are_timed_and_compared(tmp_path, monkeypatch):
    image = gaussian_filter(np.random.default_rng(0).standard_normal((96, 96)), 2).astype(np.float32)
    monkeypatch.setattr(student, "field_of", lambda data: image / image.std())
    assert student.main(["--data", "phantom", "--repeats", "2", "--out", str(tmp_path)]) == 0
    with open(tmp_path / "student.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["precision"] for row in rows] == ["float32", "bfloat16", "int8"] * 2
    apart = {row["precision"]: float(row["apart"]) for row in rows}
    assert apart["float32"] == 0 < apart["bfloat16"] < 0.1 and 0 <= apart["int8"] < 0.1  # 0 without VNNI and bfloat16
    assert student.table([list(row.values()) for row in rows]) in (tmp_path / "student.md").read_text()


def test_a_field_of_view_has_one_size():
    assert student.field_of("phantom").shape == (student.SIDE, student.SIDE)
