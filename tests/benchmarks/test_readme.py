"""Numbers in README.md and docs are those of the committed CSVs, and the check can fail."""

import re
import shutil
from pathlib import Path

import pytest

from benchmarks import readme
from benchmarks.pages import ROOT
from benchmarks.quotes import accuracy
from benchmarks.tables.rows import Row

RESULTS = ROOT / "benchmarks" / "results"


@pytest.fixture
def copy(tmp_path):
    """README.md and docs, to be changed."""
    shutil.copy(ROOT / "README.md", tmp_path)
    shutil.copytree(ROOT / "docs", tmp_path / "docs", ignore=shutil.ignore_patterns("images"))
    return tmp_path


def check(root: Path, results: Path = RESULTS) -> int:
    return readme.guard(readme.main)(["--check", "--root", str(root), "--results", str(results)])


def test_the_pages_say_what_the_results_say():
    assert list(readme.differences(ROOT, RESULTS)) == []


def test_every_quote_stands_in_a_page():
    places = {found[2] for page in readme.pages(ROOT) for found in readme.PLACE.finditer(page.read_text())}
    assert places == set(readme.QUOTES)


def test_another_number_in_a_page_is_told_with_page_and_line(copy, capsys):
    page = copy / "docs" / "results.md"
    text = page.read_text()
    start = text.index("| sccs_plus |", text.index("<!-- numbers: table1 -->"))
    cell = re.compile(r"0\.\d{3}").search(text, start)
    page.write_text(f"{text[: cell.start()]}0.999{text[cell.end() :]}")
    assert check(copy) == 2
    said = capsys.readouterr()
    line = text.count("\n", 0, start) + 1
    assert (
        said.out.startswith(f"docs/results.md:{line}: numbers: table1: has '| sccs_plus | 0.999")
        and said.err.count("\n") == 1
    )
    assert readme.guard(readme.main)(["--root", str(copy)]) == 0
    assert page.read_text() == text and check(copy) == 0


def test_another_number_in_a_csv_is_told_too(copy, tmp_path, capsys):
    results = tmp_path / "results"
    shutil.copytree(RESULTS, results, ignore=shutil.ignore_patterns("*.png", "runs"))
    table = results / "quick" / "training.csv"
    table.write_text(re.sub(r"(?m)^(sccs,\d,[\d.]+),[\d.]+$", r"\1,99.5", table.read_text()))
    assert check(copy, results) == 2
    said = capsys.readouterr().out
    assert re.search(r"docs/speed\.md:\d+: numbers: training: .*99\.5 s", said)
    assert "numbers: table1" not in said


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a\n<!-- numbers: tabel1 -->\n<!-- /numbers -->\n", "README.md:2: numbers: tabel1 is unknown"),
        ("a\nb\n<!-- numbers: table1 -->\n", "README.md:3: numbers: the opening or the closing mark is missing"),
    ],
)
def test_a_wrong_mark_is_one_line(tmp_path, capsys, text, words):
    (tmp_path / "README.md").write_text(text)
    assert check(tmp_path) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1


def test_orders_in_the_text_follow_the_scores(monkeypatch):
    """Systems are sorted into equal, ahead and behind by their difference from `sccs` and the larger deviation."""

    def run(label: str, seed: int, dsc: float) -> dict:
        mean = {"mean": {"dsc": dsc}, "mean_without_rest": {"dsc": dsc}, "classes": {}}
        return {"system": label, "set": "hela", "seed": seed, "classes": [], "test": {"train": mean}}

    scores = {"sccs": (0.50, 0.52), "kmeans": (0.52, 0.53), "maester": (0.40, 0.40), "sccs_plus": (0.70, 0.71)}
    answers = accuracy.Answers(
        [Row(label, label) for label in scores],
        {label: [run(label, seed, dsc) for seed, dsc in enumerate(values)] for label, values in scores.items()},
    )
    monkeypatch.setattr(accuracy, "_quick", lambda results, name: (answers, None))
    text = accuracy.reading(RESULTS).replace("\n", " ")
    assert "`sccs_plus` is first among the systems of 8 clusters without labels (.705), .180 ahead of `kmeans`" in text
    assert "ahead: sccs_plus (.705), kmeans (.525)" in text and "behind: maester (.400)" in text
    assert "Equal within the larger of the two deviations over seeds: none" in text
