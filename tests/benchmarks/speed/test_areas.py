"""The benchmark of openings by area runs, checks that all methods agree, and writes what it saw."""

import csv

import numpy as np

from benchmarks.speed import areas


def test_methods_agree_and_their_times_are_written(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    monkeypatch.setattr(areas, "levels_of", lambda data: rng.integers(0, 256, (40, 50)).astype(np.uint8))
    code = areas.main(["--data", "phantom", "--areas", "5", "40", "--repeats", "2", "--out", str(tmp_path)])
    assert code == 0 and "phantom (synthetic)" in (tmp_path / "areas.md").read_text()
    with open(tmp_path / "areas.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6 and {row["method"] for row in rows} == set(areas.METHODS)
    assert min(float(row["seconds"]) for row in rows) > 0


def test_other_numbers_are_an_error(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(areas, "levels_of", lambda data: np.eye(8, dtype=np.uint8))
    monkeypatch.setitem(
        areas.METHODS, "registry.numeric.areas", lambda levels, sizes: areas.one_tree(levels, sizes) + 1
    )
    assert areas.guard(areas.main)(["--data", "phantom", "--areas", "5", "--repeats", "1", "--out", str(tmp_path)]) == 2
    assert "differ" in capsys.readouterr().err and not list(tmp_path.iterdir())
