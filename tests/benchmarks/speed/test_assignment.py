"""The benchmark of assignment counts wrong labels."""

from benchmarks.speed import assignment


def test_assignment_counts_wrong_labels_of_every_method(read, tmp_path):
    arguments = ["--points", "500", "2500", "--dimensions", "12", "--block", "1000", "--repeats", "1"]
    assert assignment.guard(assignment.main)([*arguments, "--out", str(tmp_path)]) == 0
    rows = read("assignment")
    assert {row["method"] for row in rows} == {"assign", "FAISS", "scikit-learn", "torch"}
    lines = [line for line in (tmp_path / "assignment.md").read_text().splitlines() if "| assign |" in line]
    assert len(lines) == 2 and all(line.endswith("| 0 |") for line in lines)
