"""What scripts write: numbers over seeds and rounds, tables, a page with its CSV and what both are of."""

import re

import pytest

from benchmarks.pages import Origin, commit, markdown, mean_sd, median_range, named, publish, typed


def test_numbers_over_seeds_and_rounds():
    assert mean_sd([0.5, 0.6, None]) == "0.550 ± 0.071" and mean_sd([0.5]) == "0.500"
    assert mean_sd([]) == mean_sd([None, float("nan")]) == "-"
    assert median_range([0.3, 0.1, 0.2], digits=1) == "0.2 (0.1 to 0.3)"


def test_a_column_without_values_is_left_out():
    assert markdown(["set", "paper", "dsc"], [["vnc", "-", "0.5"], ["hela", "-", "-"]]) == (
        "| set | dsc |\n|---|---|\n| vnc | 0.5 |\n| hela | - |"
    )


def test_a_page_its_csv_and_what_they_are_of(tmp_path):
    text = markdown(["set", "dsc"], [[named("phantom"), "0.5"]])
    origin = Origin("python -m page", ["1 CPU core"], ["abc1234", "def5678+"], [0, 1])
    path = publish(tmp_path, "page", "Title", origin, text, ["set", "dsc"], [["phantom", 0.5]])
    said = "`python -m page`; seeds 0, 1; 1 CPU core; commit abc1234, def5678+"
    assert path.read_text() == f"# Title\n\n{said}. | set | dsc |\n|---|---|\n| phantom (synthetic) | 0.5 |\n"
    assert (tmp_path / "page.csv").read_text() == "set,dsc\nphantom,0.5\n"
    assert str(Origin.read(tmp_path / "page.csv")) == said


@pytest.mark.parametrize("folders", [["--out", "/a/b", "--folder", "/c"], ["--out=/a/b"], []])
def test_a_command_is_told_with_its_arguments_but_no_folder_of_this_machine(folders, monkeypatch):
    monkeypatch.setattr("sys.argv", ["page.py", *folders, "--seeds", "0", "1"])
    assert typed("python -m page", None) == "python -m page --seeds 0 1"
    assert typed("python -m page", ["--seeds", "2", *folders]) == "python -m page --seeds 2"
    assert typed("python -m page", []) == "python -m page"


def test_the_commit_is_that_of_the_checkout():
    assert re.fullmatch(r"[0-9a-f]{7,}\+?|unknown", commit())
    assert commit() in str(Origin.here("python -m page"))
