"""The benchmark of trainings reports all of them."""

from benchmarks.speed import training


def test_training_reports_both_systems_and_the_mae(read, tmp_path):
    arguments = ["--graphs", "1", "--side", "160", "--iterations", "40", "--repeats", "1", "--steps", "1"]
    assert training.guard(training.main)([*arguments, "--out", str(tmp_path)]) == 0
    assert {row["system"] for row in read("training")} == {"sccs", "sccs_plus", "mae"}
