"""Draws of labels, names of clusters, and what the table says of them."""

from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.tables import few_labels as few
from benchmarks.tables import labelled

TRUTH = np.array([0] * 20 + [1] * 5 + [-1] * 3 + [2] * 12)


def test_draws_have_so_many_of_each_class_and_hold_the_smaller_ones():
    small, large = labelled.drawn(TRUTH, 3, seed=1), labelled.drawn(TRUTH, 10, seed=1)
    assert np.bincount(small[small >= 0]).tolist() == [3, 3, 3]
    assert np.bincount(large[large >= 0]).tolist() == [10, 5, 10]  # there are five of class 1
    known = small >= 0
    assert (large[known] == TRUTH[known]).all() and (small[known] == TRUTH[known]).all()
    assert (labelled.drawn(TRUTH, 3, seed=2) != small).any()


def test_labels_drawn_anywhere_are_as_many_as_asked_for():
    labels = few.anywhere(TRUTH, 9, seed=0)
    assert (labels >= 0).sum() == 9 and (labels[labels >= 0] == TRUTH[labels >= 0]).all()


@pytest.fixture
def clustered():
    """A set of one image: three clusters on a line, the last one between the others but nearer to the second."""
    clusters = np.repeat([0, 1, 2], 4)
    counts = np.zeros((12, 2), int)
    counts[:4, 0], counts[4:, 1] = 5, 5
    view = SimpleNamespace(clusters=clusters, Z=np.repeat([[0.0], [10.0], [7.0]], 4, 0), counts=counts)
    return labelled.Set([view], [view], ["rest", "nucleus"], 3, None)


def test_a_cluster_without_labels_takes_the_name_of_the_nearest_one(clustered):
    labels = np.full(12, -1)
    labels[[0, 1, 5]] = [0, 0, 1]
    assert labelled.from_labels(clustered, labels).tolist() == [0, 1, -1]
    assert labelled.by_names(clustered, np.array([0, 1, -1])) == 1
    assert labelled.by_names(clustered, np.array([0, 1, 0])) < 0.8


def test_galleries_name_a_cluster_by_what_most_of_its_typical_superpixels_are(clustered):
    assert labelled.from_galleries(clustered).tolist() == [0, 1, 1]


def test_means_are_of_draws_that_have_all_real_sets(tmp_path):
    found = {("head", "platelet", 0, 3): 0.2, ("head", "hela", 0, 3): 0.4, ("head", "platelet", 1, 3): 0.6}
    found["head", "phantom", 0, 3] = 1.0  # synthetic: no part of the mean
    assert few.over_real(found, "head", 3) == pytest.approx([0.3])
    assert "| head | 0.300 |" in few.by_budget(found)
