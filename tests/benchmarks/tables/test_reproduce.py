"""The comparison of committed tables with today's code: equal numbers, changed ones, and what cannot be compared."""

import csv
import re

import pytest

from benchmarks.tables.__main__ import main as make
from benchmarks.tables.reproduce import main as reproduce
from benchmarks.tables.reproduce import page as page_of
from benchmarks.tables.reproduce import read_comparisons
from sccs.system.exits import guard

SMALL = ["--set", "data.shapes=[[4,240,240],[4,240,240]]", "data.train_slices=1", "data.test_slices=1"]
COMMON = ["--data", "phantom", "--seeds", "0"]


@pytest.fixture(scope="module")
def committed(tmp_path_factory):
    out = tmp_path_factory.mktemp("committed")
    systems = ["--systems", "raw_kmeans", "intensity_kmeans"]
    assert guard(make)(["table1", *COMMON, *systems, "--out", str(out), *SMALL]) == 0
    return out


def compare(committed, out, *options):
    assert (
        guard(reproduce)(["table1", *COMMON, "--committed", str(committed), "--out", str(out), *SMALL, *options]) == 0
    )
    with open(out / "reproduce.csv", newline="") as file:
        return (out / "reproduce.md").read_text(), {line["row"]: line for line in csv.DictReader(file)}


def test_the_same_code_gives_the_same_numbers(committed, tmp_path):
    page, rows = compare(committed, tmp_path)
    assert set(rows) == {"raw_kmeans", "intensity_kmeans"}
    for row in rows.values():
        assert row["different"] == "0" and int(row["numbers"]) > 30 and row["dsc"] == row["committed_dsc"]
    assert "| `table1` | 2 | 2 | 0.0000 | 0.0000 |" in page and "Runs that differ" not in page
    assert len(list((tmp_path / "runs").glob("*.json"))) == 2, "the runs are made, not read from the committed folder"


def test_numbers_that_changed_are_told_and_times_are_not(committed, tmp_path):
    lines = (committed / "table1.csv").read_text().splitlines()
    changed = []
    for line in lines:
        head, value = line.rsplit(",", 1)
        if line.startswith("raw_kmeans") and ",clean,train,mean,dsc," in line:
            line = f"{head},{float(value) + 0.25:.6g}"
        elif head.endswith("_seconds"):
            line = f"{head},12345"
        changed.append(line)
    old = tmp_path / "old"
    old.mkdir()
    (old / "table1.csv").write_text("\n".join(changed) + "\n")
    page, rows = compare(old, tmp_path)
    assert rows["intensity_kmeans"]["different"] == "0"
    assert rows["raw_kmeans"]["different"] == "1" and float(rows["raw_kmeans"]["largest"]) == pytest.approx(0.25)
    assert page.endswith(page_of(read_comparisons(tmp_path / "reproduce.csv")) + "\n")
    assert "| `table1` | 2 | 1 | 0.2500 | 0.2500 |" in page
    assert re.search(r"\| table1 \| raw_kmeans \| phantom \(synthetic\) \| 0 \| 1 of \d+ \|", page)


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["table9"], "no table 'table9'; use any of table1"),
        (["figure5"], "has no figure5.csv; make it: python -m benchmarks.tables figure5"),
        (["table1", "--seeds", "7"], "none of the tables has a run of phantom with seed 7"),
    ],
)
def test_what_cannot_be_compared_is_told(arguments, said, committed, tmp_path, capsys):
    command = [*arguments, "--data", "phantom", "--committed", str(committed), "--out", str(tmp_path), *SMALL]
    assert guard(reproduce)(command) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "reproduce.md").exists()


def test_a_folder_without_tables_is_told(tmp_path, capsys):
    assert guard(reproduce)(["--committed", str(tmp_path), "--out", str(tmp_path)]) == 2
    assert "has no table; give the folder of the committed ones with --committed" in capsys.readouterr().err
