"""Scores of clusters under a mapping."""

import math

import numpy as np
import pytest

from sccs.evaluation.mappings import fit_mapping
from sccs.evaluation.scores import class_table, consistency, per_image, scores, slice_spread
from sccs.evaluation.tables import confusion
from tests.sccs.evaluation.random_tables import NAMES


@pytest.mark.parametrize("seed", range(8))
def test_scores_agree_with_scikit_learn(seed):
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(seed)
    labels, clusters = rng.integers(0, 4, 500), rng.integers(0, 8, 500)
    mapping = rng.integers(0, 4, 8)
    result = scores(confusion(clusters, labels, 8, range(4)), mapping, NAMES)
    predicted = mapping[clusters]
    for c, name in enumerate(NAMES):
        truth, guess = labels == c, predicted == c
        assert result["classes"][name] == pytest.approx(
            {
                "dsc": metrics.f1_score(truth, guess, zero_division=0),
                "iou": metrics.jaccard_score(truth, guess, zero_division=0),
                "sensitivity": metrics.recall_score(truth, guess, zero_division=0),
                "accuracy": metrics.accuracy_score(truth, guess),
            }
        )
    assert result["mean"]["dsc"] == pytest.approx(metrics.f1_score(labels, predicted, average="macro"))
    organelles = [1, 2, 3]
    assert result["mean_without_rest"]["iou"] == pytest.approx(
        metrics.jaccard_score(labels, predicted, labels=organelles, average="macro")
    )


def test_unassigned_clusters_count_as_rest_where_there_is_one_and_as_missed_elsewhere():
    table = np.array([[10, 0], [0, 6], [4, 0]])
    mapping = np.array([0, 1, -1])
    assert scores(table, mapping, ["unrecognized", "nucleus"])["classes"]["unrecognized"]["dsc"] == 1
    missed = scores(table, mapping, ["cell", "nucleus"])
    assert missed["classes"]["cell"]["sensitivity"] == pytest.approx(10 / 14)
    assert missed["classes"]["nucleus"] == dict.fromkeys(("dsc", "iou", "sensitivity", "accuracy"), 1)
    assert class_table(table, mapping).tolist() == [[10, 0], [0, 6], [4, 0]]


def test_a_class_absent_from_the_truth_is_left_out_of_the_mean():
    table = np.array([[10, 0, 0], [0, 5, 0]])
    predicted = scores(table, np.array([0, 2]), ["a", "b", "c"])
    assert predicted["classes"]["c"]["dsc"] == 0 and math.isnan(predicted["classes"]["c"]["sensitivity"])
    assert predicted["mean"]["dsc"] == pytest.approx((1 + 0) / 2)
    neither = scores(table, np.array([0, 1]), ["a", "b", "c"])
    assert math.isnan(neither["classes"]["c"]["dsc"]) and neither["mean"]["dsc"] == 1


def test_nothing_labelled_gives_nan_everywhere():
    result = scores(np.zeros((3, 2), int), np.zeros(3, int), ["a", "b"])
    assert all(math.isnan(v) for v in [*result["classes"]["a"].values(), *result["mean"].values()])


def test_spread_over_slices_counts_slices_that_hold_the_class():
    tables = [np.array([[5, 0], [0, 5]]), np.array([[5, 5], [0, 5]]), np.array([[5, 0], [0, 0]])]
    spread = slice_spread(tables, np.array([0, 1]), ["a", "b"])
    dsc_b = [1, 2 * 5 / (5 + 10)]
    assert spread["b"] == {"mean": np.mean(dsc_b), "sd": np.std(dsc_b, ddof=1), "n": 2}
    assert spread["a"]["n"] == 3


def test_consistency_is_what_one_mapping_for_all_images_loses():
    same = [np.array([[9, 0], [0, 9]])] * 2
    swapped = [np.array([[9, 0], [0, 9]]), np.array([[0, 9], [9, 0]])]
    assert consistency(same, ["a", "b"]) == {"one_mapping": 1, "per_image": 1, "gap": 0}
    result = consistency(swapped, ["a", "b"])
    assert result["per_image"] == 1 and result["gap"] == 1 - result["one_mapping"] > 0.3


def test_per_image_matches_each_image_with_its_own_labels_and_pools_the_pixels():
    swapped = [np.array([[9, 1], [0, 10]]), np.array([[0, 20], [20, 0]]), np.zeros((2, 2), int)]
    result = per_image(swapped, "hungarian", ["a", "b"])
    assert result["classes"]["a"]["dsc"] == 2 * 29 / (2 * 29 + 1) and result["mean"]["sensitivity"] > 0.98
    joint = scores(sum(swapped), fit_mapping("hungarian", sum(swapped)), ["a", "b"])
    assert joint["mean"]["dsc"] < result["mean"]["dsc"]
    assert per_image([np.zeros((2, 2), int)], "oracle", ["a", "b"]) == {}
