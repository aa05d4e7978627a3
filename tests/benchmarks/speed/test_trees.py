"""The benchmark of trees runs, checks that both kinds agree, and writes what it saw."""

import csv

import numpy as np

from benchmarks.speed import trees


def test_both_kinds_take_turns_and_their_times_are_written(tmp_path):
    code = trees.main(["--labels", "40", "200", "--asked", "300", "--repeats", "2", "--out", str(tmp_path)])
    assert code == 0
    with open(tmp_path / "trees.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2 * 2 * 2 and min(float(row["seconds"]) for row in rows) > 0
    page = (tmp_path / "trees.md").read_text()
    assert page.count("| grow |") == page.count("| ask |") == 2
    assert trees.table([list(row.values()) for row in rows]) in page


def test_trees_that_do_not_agree_are_an_error(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(trees.METHODS, "scikit-learn", lambda X, y, asked: (np.eye(5)[[0] * len(asked)], [1.0, 1.0]))
    assert trees.guard(trees.main)(["--labels", "40", "--asked", "50", "--repeats", "1", "--out", str(tmp_path)]) == 2
    assert "differ" in capsys.readouterr().err and not list(tmp_path.iterdir())
