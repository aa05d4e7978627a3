"""The benchmark of overlaps: what it times is what `sccs segment` computes, in both ways."""

import numpy as np
import pytest

from benchmarks.speed import overlaps
from sccs.data.volumes import Dataset, Volume
from sccs.inference.blocks import overlapping, separate
from sccs.inference.labels import segment_slices
from sccs.pipeline import Pipeline
from tests.sccs.quickest import RECIPE


@pytest.fixture(scope="module")
def model() -> Pipeline:
    noise = np.random.default_rng(0).normal(size=(1, 160, 160)).astype(np.float32)
    return Pipeline.from_recipe(RECIPE).fit(Dataset("noise", [Volume("a", noise, fov=160)], [], {}))


def test_labels_are_those_of_a_segmentation(model):
    volume = Volume("v", np.random.default_rng(1).normal(size=(1, 300, 200)).astype(np.float32), fov=160)
    image = volume.read_window(0, slice(0, 300), slice(0, 200))
    for fields in (overlapping(image.shape, 160), separate(image.shape, 160)):
        expected = next(segment_slices(model, volume, fields))
        assert np.array_equal(overlaps.labelled(model, image, fields), expected)


def test_both_ways_take_turns(model, monkeypatch, tmp_path, read):
    monkeypatch.setattr(overlaps, "trained", lambda system: model)
    monkeypatch.setattr(overlaps, "SIDE", 160)
    assert overlaps.main(["--systems", "sccs", "--sides", "300", "--repeats", "2", "--out", str(tmp_path)]) == 0
    rows = read("overlaps")
    assert [row["way"] for row in rows] == ["stitched", "separate"] * 2
    assert float(rows[0]["px seen"]) > 1 == float(rows[1]["px seen"])
    assert all(float(row["seconds"]) > 0 for row in rows)


def test_ratio_is_of_medians():
    times = {"stitched": ("3", "9", "2"), "separate": ("2", "2", "5")}
    rows = [["sccs", "1000", way, "4", "1.2", "0", each] for way, found in times.items() for each in found]
    assert overlaps.table(rows).endswith("| 1.50 |")
