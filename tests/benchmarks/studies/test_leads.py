"""The leads for SCCS+: the command scores training images only, and writes what it saw."""

import csv

from benchmarks.studies import leads, views
from sccs.system.exits import guard

SMALL = ["data.shapes=[[4,240,240],[4,240,240]]", "data.train_slices=1", "data.test_slices=1", "features=filters"]


def test_the_command_scores_training_images_and_writes_what_it_saw(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(views, "PHANTOM_SLICES", 2)
    names = list(leads.LEADS)
    wanted = [0, names.index("edges weighed by borders"), names.index("kernel half as wide")]
    code = leads.main(
        [
            "--data",
            "phantom",
            "--leads",
            *map(str, wanted),
            "--seeds",
            "0",
            "1",
            "--out",
            str(tmp_path),
            "--set",
            *SMALL,
        ]
    )
    assert code == 0
    with open(tmp_path / "leads.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["lead"] for row in rows} == {names[i] for i in wanted}
    assert {row["measure"] for row in rows} == {"training", "further", "gap"}
    values = [float(row["value"]) for row in rows if row["measure"] != "gap"]
    assert 0 < min(values) <= max(values) <= 1
    text = (tmp_path / "leads.md").read_text()
    assert "phantom (synthetic)" in text and "± " in text


def test_a_number_that_is_no_lead_is_refused(capsys):
    assert guard(leads.main)(["--leads", "99"]) == 2
    assert "--leads: numbers from 0 to" in capsys.readouterr().err


def test_the_other_half_can_be_scored(tmp_path):
    assert (
        leads.main(
            [
                "--data",
                "phantom",
                "--leads",
                "0",
                "--halves",
                "--seeds",
                "0",
                "--out",
                str(tmp_path),
                "--set",
                *SMALL,
                "data.shapes=[[4,240,240],[4,240,240],[4,240,240]]",
            ]
        )
        == 0
    )
    with open(tmp_path / "halves.csv", newline="") as file:
        rows = {row["measure"]: float(row["value"]) for row in csv.DictReader(file)}
    assert 0 < rows["further"] < 1 and 0 < rows["training"] < 1
    assert "the other half" in (tmp_path / "halves.md").read_text()
