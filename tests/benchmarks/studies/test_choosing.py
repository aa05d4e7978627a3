"""Pictures of docs/choosing.md: a panel for each setting, scored on a slice that was not trained on."""

import csv

import numpy as np
from PIL import Image

from benchmarks.studies import choosing
from sccs.data.phantom import CLASSES, make_phantom


def test_a_picture_and_scores_for_each_setting(tmp_path, monkeypatch):
    settings = {"k": {"k = 3": (["clusterer.k=3"], 16.0), "16 nm, coarse": ([], 24.0)}}
    monkeypatch.setattr(choosing, "SETTINGS", settings)
    monkeypatch.setattr(choosing, "SHOWN", np.s_[40:200, 40:200])
    monkeypatch.setattr(choosing, "Z", 2)
    monkeypatch.setattr(choosing, "make_phantom", lambda seed: make_phantom(seed=seed, shapes=[(4, 240, 240)] * 4))
    assert choosing.main(["--only", "k", "--pictures", str(tmp_path), "--out", str(tmp_path)]) == 0
    with Image.open(tmp_path / "choosing_k.jpg") as picture:
        width, height = picture.size
        assert width > height > 300 and np.asarray(picture).std() > 20
    with open(tmp_path / "choosing.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == 2 * ["mean", *CLASSES.values()]
    assert all(0 <= float(row["dsc"]) <= 1 for row in rows) and float(rows[0]["dsc"]) > 0.1
