"""The studies of `sccs` and of DGL's convolutions: training images only, what was seen is written."""

import csv

import pytest

from benchmarks.studies import convolutions, study_sccs, views
from sccs.system.exits import guard


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """A phantom of two training FOVs in the place of the real sets, with filters, and short trainings."""
    shapes = ["data.shapes=[[4,240,240],[4,240,240],[4,240,240]]", "data.train_slices=1", "data.test_slices=1"]
    monkeypatch.setattr(views, "PHANTOM_SLICES", 1)
    monkeypatch.setattr(study_sccs, "FEATURES", ("features=filters", *shapes))
    monkeypatch.setattr(convolutions, "FEATURES", ("features=filters", *shapes))


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_choices_are_scored_on_halves_that_the_mapping_has_not_seen(tmp_path):
    names = list(study_sccs._rows(None))
    wanted = [0, names.index("head from three quarters on"), names.index("kmeans, no embedding")]
    asked = ["--data", "phantom", "--variants", *map(str, wanted), "--seeds", "0", "1", "--out", str(tmp_path)]
    assert study_sccs.main(asked) == 0
    rows = read(tmp_path / "table.csv")
    assert {row["choice"] for row in rows} == {names[i] for i in wanted}
    dsc = [float(row["value"]) for row in rows if row["measure"] == "dsc"]
    assert len(dsc) == 6 and 0 < min(dsc) <= max(dsc) <= 1
    taught = {row["choice"]: float(row["value"]) for row in rows if row["measure"] == "agreement"}
    assert taught[names[0]] > 0.9  # the head follows its teacher
    assert "kmeans, no embedding | 0." in (tmp_path / "table.md").read_text()


def test_a_number_that_is_no_variant_is_refused(capsys):
    assert guard(study_sccs.main)(["--variants", "99"]) == 2
    assert "--variants: numbers from 0 to" in capsys.readouterr().err


def test_convolutions_are_compared_by_score_loss_and_time(tmp_path, monkeypatch):
    monkeypatch.setattr(convolutions, "OPTIONS", {"GraphConv": {}, "TAGConv": {"k": 2}})
    monkeypatch.setattr(convolutions, "REAL", ("phantom",))
    monkeypatch.setattr(convolutions, "TIMED", 3)
    asked = ["--data", "phantom", "--iterations", "40", "--seeds", "0", "--out", str(tmp_path)]
    assert convolutions.main(asked) == 0
    rows = read(tmp_path / "convolutions.csv")
    assert {row["embedder"] for row in rows} == {*convolutions.systems()} >= {"TAGConv", "GraphConv"}
    assert {row["measure"] for row in rows} == {"dsc", "spe", "seconds"}
    assert all(float(row["value"]) > 0 for row in rows)
