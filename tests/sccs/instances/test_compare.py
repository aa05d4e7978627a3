"""Scores of labels against scikit-learn's, scikit-image's, and matching by brute force."""

import csv
from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy import ndimage
from scipy.optimize import linear_sum_assignment
from skimage.metrics import variation_of_information
from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score

from sccs.cli import main
from sccs.instances import compare
from sccs.instances.compare import class_scores, instance_scores
from tests.sccs.instances.maps import blobs


def damaged(labels, seed=0):
    """The labels, shifted, some dropped, some put together."""
    out = np.roll(labels, 1, axis=2).copy()
    out[out % 5 == 1] = 0
    out[out % 7 == 2] = 3
    return out


@pytest.fixture
def objects():
    reference = ndimage.label(blobs((20, 60, 60), 3) > 0)[0].astype(np.uint32) * 3
    reference = np.where(np.arange(60) % 15 == 14, 0, reference + np.arange(60) // 15 * 300 * (reference > 0))
    return damaged(reference), reference


def test_classes_equal_scikit_learn(monkeypatch):
    monkeypatch.setattr(compare, "SLAB", 700)  # several slabs, of several rows
    rng = np.random.default_rng(0)
    reference = rng.choice([0, 1, 2, 255], (6, 20, 30)).astype(np.uint8)
    found = np.where(rng.random(reference.shape) < 0.3, rng.choice([0, 1, 3]), reference).astype(np.uint8)
    scores = class_scores(found, reference)
    kept = reference != 255
    truth, guess = reference[kept], found[kept]
    for code in (0, 1, 2):
        values = scores[code]
        for name, right in (
            ("dice", f1_score), ("iou", jaccard_score), ("precision", precision_score), ("recall", recall_score),
        ):  # fmt: skip
            assert values[name] == pytest.approx(right(truth == code, guess == code)), name


def test_objects_equal_matching_by_brute_force(objects, monkeypatch):
    monkeypatch.setattr(compare, "SLAB", 9000)
    found, reference = objects
    scores = instance_scores(found, reference)
    ours, theirs = (np.unique(each[each > 0]) for each in objects)
    iou = np.zeros((len(ours), len(theirs)))
    for i, a in enumerate(ours):
        for j, b in enumerate(theirs):
            iou[i, j] = ((found == a) & (reference == b)).sum() / ((found == a) | (reference == b)).sum()
    assert (scores["found"], scores["reference"]) == iou.shape and len(ours) > 10
    for threshold in (0.5, 0.6, 0.7, 0.8, 0.9):
        good = np.where(iou > threshold, iou, 0)
        rows, columns = linear_sum_assignment(-good)
        hits = (good[rows, columns] > 0).sum()
        values = scores["at"][threshold]
        assert values["precision"] == pytest.approx(hits / len(ours))
        assert values["recall"] == pytest.approx(hits / len(theirs))
        assert values["f1"] == pytest.approx(2 * hits / (len(ours) + len(theirs)))
        if threshold == 0.5:
            false = (len(ours) - hits) / 2 + (len(theirs) - hits) / 2
            assert hits > 1 and scores["panoptic_quality"] == pytest.approx(good[rows, columns].sum() / (hits + false))
    product = scores["segmentation_quality"] * scores["recognition_quality"]
    assert scores["panoptic_quality"] == pytest.approx(product)


def test_variation_of_information_equals_scikit_image(objects):
    found, reference = objects
    kept = reference > 0
    merge, split = variation_of_information(found[kept], reference[kept])  # H(reference | found), H(found | reference)
    scores = instance_scores(found, reference)
    assert scores["split"] == pytest.approx(split) and scores["merge"] == pytest.approx(merge)
    assert split > 0.1 and merge > 0.1 and split != pytest.approx(merge)


def test_the_same_labels_are_perfect_and_none_are_nothing(objects):
    _, reference = objects
    scores = instance_scores(reference * 2, reference)
    assert scores["panoptic_quality"] == scores["at"][0.9]["f1"] == scores["dice"] == 1
    assert scores["split"] == scores["merge"] == 0
    none = instance_scores(np.zeros_like(reference), reference)
    assert none["at"][0.5]["recall"] == 0 and np.isnan(none["at"][0.5]["precision"]) and none["panoptic_quality"] == 0


def test_two_halves_are_not_both_found():
    whole, halves = np.ones((1, 4, 4), int), np.ones((1, 4, 4), int)
    halves[:, 2:] = 2
    assert instance_scores(halves, whole)["at"][0.5]["precision"] == 0


def test_the_command(tmp_path, monkeypatch, capsys, objects):
    monkeypatch.chdir(tmp_path)
    for name, labels in zip(("a.tif", "b.tif"), objects):
        tifffile.imwrite(name, labels, metadata={"axes": "ZYX"})
    assert main(["compare-labels", "a.tif", "b.tif", "--instances", "--csv", "s.csv"]) == 0
    rows = dict(csv.reader(Path("s.csv").read_text().splitlines()))
    assert float(rows["f1 at IoU > 0.5"]) == pytest.approx(instance_scores(*objects)["at"][0.5]["f1"])
    assert "panoptic quality" in capsys.readouterr().out
    tifffile.imwrite("c.tif", blobs(), metadata={"axes": "ZYX"})
    assert main(["compare-labels", "c.tif", "c.tif", "--csv", "-"]) == 0
    assert "label_1,1.0,1.0,1.0,1.0" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["a.tif", "a.tif"], "class codes are 0 to 255; give --instances to compare objects"),
        (["a.tif", "c.tif", "--instances"], "has shape (20, 60, 60)"),
        (["f.tif", "f.tif"], "values are float32, not labels"),
        (["c.tif", "c.tif", "--csv", "c.tif"], "is A"),
        (["c.tif", "missing.tif"], "no such file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input(tmp_path, monkeypatch, fails, objects, arguments, words):
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("a.tif", objects[0] * 100, metadata={"axes": "ZYX"})
    tifffile.imwrite("c.tif", blobs(), metadata={"axes": "ZYX"})
    tifffile.imwrite("f.tif", blobs().astype(np.float32), metadata={"axes": "ZYX"})
    fails(["compare-labels", *arguments], words)


@pytest.mark.parametrize("dtype", [np.int8, np.int16])
@pytest.mark.parametrize("options", [[], ["--instances"]])
def test_negative_labels_are_refused(tmp_path, fails, dtype, options):
    labels = blobs((4, 20, 20), 3)
    tifffile.imwrite(tmp_path / "a.tif", labels, photometric="minisblack")
    tifffile.imwrite(tmp_path / "b.tif", labels.astype(dtype) - dtype(1), photometric="minisblack")
    fails(
        ["compare-labels", tmp_path / "b.tif", tmp_path / "a.tif", *options],
        "b.tif: contains -1: labels must be 0 (no object) or more",
    )


def test_a_table_takes_the_place_of_no_image(tmp_path, fails):
    tifffile.imwrite(tmp_path / "a.tif", blobs((4, 20, 20), 3), photometric="minisblack")
    tifffile.imwrite(tmp_path / "other.tif", blobs((4, 20, 20), 1), photometric="minisblack")
    before = (tmp_path / "other.tif").read_bytes()
    fails(
        ["compare-labels", tmp_path / "a.tif", tmp_path / "a.tif", "--csv", tmp_path / "other.tif"],
        "is not a text file",
    )
    assert (tmp_path / "other.tif").read_bytes() == before
