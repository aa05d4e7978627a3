"""The benchmark of superpixels: its measures, and its table."""

import numpy as np

from benchmarks.speed import superpixels


def test_superpixels_are_held_against_labels(read, tmp_path, monkeypatch):
    small = ["data.shapes=[[4,160,160],[4,160,160]]", "data.train_slices=1", "data.test_slices=1"]
    monkeypatch.setitem(superpixels.QUICK_DATA, "phantom", small)
    arguments = ["--data", "phantom", "--repeats", "1", "--out", str(tmp_path)]
    assert superpixels.guard(superpixels.main)(arguments) == 0
    rows = read("superpixels")
    assert {row["SLIC"] for row in rows} == {superpixels.ITSELF, *superpixels.METHODS}
    own, ours = (
        [row for row in rows if row["SLIC"] == name] for name in (superpixels.ITSELF, "its labels, 10 iterations")
    )
    assert [row["boundary recall"] for row in own] == [row["boundary recall"] for row in ours]
    assert all(0 < float(row["boundary recall"]) <= 1 for row in rows)


def test_quality_of_perfect_and_of_useless_superpixels():
    labels = np.zeros((20, 20), np.int64)
    labels[:, 10:] = 1
    everywhere = np.ones(labels.shape, bool)
    assert superpixels.quality(labels, labels, everywhere) == (2, 1.0, 0.0, 1.0)
    assert superpixels.quality(np.zeros_like(labels), labels, everywhere) == (1, 0.0, 1.0, 0.5)
