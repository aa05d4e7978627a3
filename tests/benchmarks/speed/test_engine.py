"""This checkout beside another: here itself, so that both sides must be run and compared."""

import sys

import pytest

from benchmarks.pages import ROOT
from benchmarks.speed import engine


@pytest.mark.slow
def test_both_checkouts_take_turns(read, tmp_path):
    arguments = ["--base", str(ROOT), "--base-python", sys.executable, "--rounds", "1", "--iterations", "20"]
    small = ["--fovs", "1", "--graphs", "1", "--side", "160", "--out", str(tmp_path)]
    assert engine.guard(engine.main)([*arguments, *small]) == 0
    rows = read("engine")
    assert {row["checkout"] for row in rows} == {"base", "here"} and len(rows) == 2 * 6
    assert {row["what"] for row in rows} == {*engine.LIMITS, *engine.COMMANDS}
    assert all(float(row["seconds"]) > 0 for row in rows)


def test_what_is_slower_than_its_limit_is_said():
    turns = [{"here": {"training": 1.3, "sccs list": 2.0}, "base": {"training": 1.0, "sccs list": 1.0}}]
    training, listing = engine.table(turns, "abc1234", "def5678").splitlines()[-2:]
    assert training.endswith("| 1.300 (1.300 to 1.300) | 1.2 | no |") and listing.endswith("| - | - |")
    turns[0]["here"]["training"] = 1.2
    assert engine.table(turns, "abc1234", "def5678").splitlines()[-2].endswith("| 1.2 | yes |")


def test_a_folder_that_is_no_checkout_is_one_line(tmp_path, capsys):
    assert engine.guard(engine.main)(["--base", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "--base" in error and error.count("\n") == 1
