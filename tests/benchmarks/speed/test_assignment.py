"""The benchmark of assignment counts wrong labels.

`assign` rounds as FAISS does: that none is wrong is true of these points, and promised of none that lie between two
centroids.
"""

import numpy as np

from benchmarks.speed import assignment


def test_assignment_counts_wrong_labels_of_every_method(read, tmp_path, monkeypatch):
    given = assignment.methods
    first = {"the first": lambda x: np.zeros(len(x), np.int64)}
    monkeypatch.setattr(assignment, "methods", lambda *args: {**given(*args), **first})
    arguments = ["--points", "500", "2500", "--dimensions", "12", "--block", "1000", "--repeats", "1"]
    assert assignment.guard(assignment.main)([*arguments, "--out", str(tmp_path)]) == 0
    rows = read("assignment")
    assert {row["method"] for row in rows} == {"assign", "FAISS", "scikit-learn", "torch", "the first"}
    lines = [line.split(" | ") for line in (tmp_path / "assignment.md").read_text().splitlines()]
    wrong = {
        line[2]: int(line[-1].strip(" |"))
        for line in lines
        if len(line) == 6 and line[2] in {"assign", "FAISS", "the first"}
    }
    assert wrong["assign"] == wrong["FAISS"] == 0 and 800 < wrong["the first"] < 950
