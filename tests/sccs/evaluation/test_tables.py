"""Tables of pixel counts."""

import numpy as np
import pytest

from registry.base import UserError
from sccs.evaluation.tables import by_slice, confusion, rest_position
from tests.sccs.evaluation.random_tables import NAMES


def test_confusion_counts_pixels_and_leaves_out_ignored_and_unknown_codes():
    clusters = np.array([[0, 0, 1], [2, 2, 1]])
    labels = np.array([[7, 3, 3], [255, 9, 7]])
    table = confusion(clusters, labels, 4, classes=[7, 3], ignore=255)
    assert table.tolist() == [[1, 1], [1, 1], [0, 0], [0, 0]]
    assert table.dtype == np.int64


def test_ignore_wins_over_a_class_of_the_same_code():
    assert confusion(np.zeros((1, 2), int), np.array([[0, 1]]), 1, [0, 1], ignore=0).tolist() == [[0, 1]]


def test_confusion_is_additive_over_images():
    rng = np.random.default_rng(0)
    clusters, labels = rng.integers(0, 5, (4, 9, 11)), rng.integers(0, 4, (4, 9, 11)).astype(np.uint8)
    parts = [confusion(c, y, 5, range(4), 3) for c, y in zip(clusters, labels)]
    assert (sum(parts) == confusion(clusters, labels, 5, range(4), 3)).all()


@pytest.mark.parametrize("clusters", [np.full((2, 2), 3), np.full((2, 2), -1), np.zeros((2, 3), int)])
def test_confusion_refuses_clusters_out_of_range_and_other_shapes(clusters):
    with pytest.raises(ValueError, match="outside 0..2|differ in shape"):
        confusion(clusters, np.zeros((2, 2), int), 3, [0])


def test_rest_class_by_name():
    assert rest_position(NAMES) == 0
    assert rest_position(["nucleus", "Background"]) == 1
    assert rest_position(["background", "unrecognized"]) == 1
    assert rest_position(["nucleus", "cytoplasm"]) is None
    assert rest_position(["nucleus", "cytoplasm"], "cytoplasm") == 1
    with pytest.raises(UserError, match="evaluation.rest: 'cell' is not a class; the classes are nucleus, cytoplasm"):
        rest_position(["nucleus", "cytoplasm"], "cell")


def test_tables_by_slice_sum_the_fovs_and_allow_colons_in_volume_names():
    tables = {"c:1:0:0:0": np.eye(2, dtype=int), "c:1:0:0:80": np.eye(2, dtype=int), "c:1:4:0:0": np.eye(2, dtype=int)}
    slices = by_slice(tables)
    assert list(slices) == ["c:1:0", "c:1:4"] and slices["c:1:0"].tolist() == [[2, 0], [0, 2]]
