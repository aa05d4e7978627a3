import itertools
import json
import math

import numpy as np
import pytest

from registry.base import UserError
from sccs.evaluation import scores as evaluation
from sccs.evaluation.scores import (
    by_slice,
    class_table,
    confusion,
    consistency,
    evaluate,
    fit_mapping,
    json_safe,
    mapping_array,
    per_image,
    rest_position,
    scores,
    slice_spread,
)  # fmt: skip

NAMES = ["unrecognized", "nucleus", "granules", "mitochondria"]


def random_table(rng, k=6, C=4):
    """Skewed like real ones: some clusters nearly pure, some classes rare."""
    return (rng.gamma(0.3, 1, (k, C)) * rng.gamma(0.5, 1, C) * 1e4).astype(np.int64)


def mean_dsc(table, mapping):
    return scores(table, mapping, [f"c{c}" for c in range(table.shape[1])])["mean"]["dsc"]


# ---------------------------------------------------------------------------------------------------------- tables
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


# -------------------------------------------------------------------------------------------------------- mappings
@pytest.mark.parametrize("seed", range(20))
def test_train_mapping_equals_brute_force(seed):
    rng = np.random.default_rng(seed)
    table = random_table(rng, k=int(rng.integers(1, 7)), C=int(rng.integers(2, 5)))
    every = itertools.product(range(table.shape[1]), repeat=table.shape[0])
    best = max((mean_dsc(table, np.array(m)) for m in every), default=math.nan)
    assert mean_dsc(table, fit_mapping("train", table)) == pytest.approx(best, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("seed", range(10))
def test_the_search_for_many_clusters_finds_the_exact_optimum(seed):
    table = random_table(np.random.default_rng(seed), k=9) + 1
    found, exact = evaluation._best_by_search(table), evaluation._best_exact(table)
    assert mean_dsc(table, found) == pytest.approx(mean_dsc(table, exact), abs=1e-12)


def test_no_rule_beats_train_on_the_table_it_was_fitted_on():
    rng = np.random.default_rng(1)
    for k in (8, 14):
        table = random_table(rng, k)
        best = mean_dsc(table, fit_mapping("train", table))
        for rule in ("hungarian", "greedy", "majority"):
            assert mean_dsc(table, fit_mapping(rule, table, rest=0)) <= best + 1e-12


def test_majority_takes_the_most_frequent_class():
    assert fit_mapping("majority", np.array([[5, 4], [0, 1], [3, 3]])).tolist() == [0, 1, 0]


HUNGARIAN = np.array([[90, 0, 0], [0, 50, 0], [0, 40, 5], [0, 0, 10]])


def test_hungarian_is_one_to_one_and_left_over_clusters_go_to_rest_or_by_majority():
    assert fit_mapping("hungarian", HUNGARIAN, rest=0).tolist() == [0, 1, 0, 2]
    assert fit_mapping("hungarian", HUNGARIAN).tolist() == [0, 1, 1, 2]


def test_hungarian_does_not_pair_what_has_no_pixel_in_common():
    assert fit_mapping("hungarian", np.array([[50, 9], [50, 0]])).tolist() == [1, 0]
    assert fit_mapping("hungarian", np.array([[50, 0, 0], [40, 9, 0], [30, 0, 0]]), rest=0).tolist() == [0, 1, 0]


GREEDY = np.array(  # columns: rest, nucleus, granules; Dice of the rows in the comments
    [
        [800, 0, 0],  # the rest's own
        [50, 300, 0],  # nucleus' own
        [20, 100, 0],  # nucleus .38, rest .04: added
        [900, 100, 0],  # nucleus .13, but rest .63: stays without class
        [0, 0, 40],  # granules' own
        [5, 4, 1],  # nothing above .1: stays without class
    ]
)


def test_greedy_adds_clusters_that_overlap_the_class_and_not_the_rest():
    mapping = fit_mapping("greedy", GREEDY, rest=0)
    assert mapping.tolist() == [0, 1, 1, 0, 2, 0]
    dice = evaluation.dice_table(GREEDY)
    assert dice[2, 1] > 0.1 > dice[2, 0] and dice[3, 1] > 0.1 and dice[3, 0] > 0.3


def test_greedy_drops_pairs_below_a_tenth_and_without_a_rest_class_leaves_them_unassigned():
    faint = np.array([[1000, 0, 0], [0, 1000, 0], [30, 40, 2]])
    assert evaluation.dice_table(faint)[2].max() < 0.1
    assert fit_mapping("greedy", faint).tolist() == [0, 1, -1]
    assert fit_mapping("greedy", faint, rest=0).tolist() == [0, 1, 0]


@pytest.mark.parametrize("rule", ["train", "hungarian", "greedy", "majority", "oracle"])
def test_every_rule_copes_with_degenerate_tables(rule):
    assert fit_mapping(rule, np.zeros((3, 2), int)).tolist() == [0, 0, 0]
    assert fit_mapping(rule, np.zeros((3, 2), int), rest=1).tolist() == [1, 1, 1]
    assert fit_mapping(rule, np.array([[0, 5], [0, 0]]), rest=0).tolist() == [1, 0]  # unseen cluster: rest
    assert fit_mapping(rule, np.array([[0, 5], [0, 0]])).tolist() == [1, 1]  # or the most frequent class
    assert fit_mapping(rule, np.array([[3, 0, 9]])).shape == (1,)  # fewer clusters than classes


@pytest.mark.parametrize("rule", ["train", "hungarian", "greedy", "majority"])
def test_classes_absent_from_the_table_are_given_to_no_cluster(rule):
    table = random_table(np.random.default_rng(3), 8) + 1
    table[:, 2] = 0
    assert 2 not in fit_mapping(rule, table, rest=0)


def test_ties_are_broken_the_same_way_every_time():
    table = np.full((8, 4), 10)
    for rule in ("train", "hungarian", "greedy", "majority"):
        assert (fit_mapping(rule, table) == fit_mapping(rule, table.copy())).all()


def test_an_unknown_rule_is_named_with_the_list():
    with pytest.raises(ValueError, match="best.*train, oracle, hungarian, greedy, majority"):
        fit_mapping("best", np.ones((2, 2), int))


def test_rest_class_by_name():
    assert rest_position(NAMES) == 0
    assert rest_position(["nucleus", "Background"]) == 1
    assert rest_position(["background", "unrecognized"]) == 1
    assert rest_position(["nucleus", "cytoplasm"]) is None
    assert rest_position(["nucleus", "cytoplasm"], "cytoplasm") == 1
    with pytest.raises(UserError, match="evaluation.rest: 'cell' is no class; the classes are nucleus, cytoplasm"):
        rest_position(["nucleus", "cytoplasm"], "cell")


# ---------------------------------------------------------------------------------------------------------- scores
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


# ------------------------------------------------------------------------------------------------------ whole runs
def fovs(seed, volume, k=8, n=3):
    rng = np.random.default_rng(seed)
    return {f"{volume}:{z}:{y}:0": random_table(rng, k) for z in range(n) for y in (0, 80)}


def test_tables_by_slice_sum_the_fovs_and_allow_colons_in_volume_names():
    tables = {"c:1:0:0:0": np.eye(2, dtype=int), "c:1:0:0:80": np.eye(2, dtype=int), "c:1:4:0:0": np.eye(2, dtype=int)}
    slices = by_slice(tables)
    assert list(slices) == ["c:1:0", "c:1:4"] and slices["c:1:0"].tolist() == [[2, 0], [0, 2]]


def test_evaluate_reports_all_mappings_side_by_side_and_is_plain_json():
    train, test = fovs(0, "a"), fovs(1, "b")
    metrics = evaluate(train, test, NAMES, k=8, named=np.array([0, 1, 2, 3, -1, -1, -1, -1]))
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics
    assert list(metrics["test"]) == ["train", "hungarian", "greedy", "majority", "oracle", "named"]
    assert "oracle" not in metrics["train"] and metrics["headline"] == "train" and metrics["rest"] == "unrecognized"
    test_table, train_table = sum(test.values()), sum(train.values())
    mapping = fit_mapping("train", train_table)
    assert metrics["test"]["train"] == json_safe(scores(test_table, mapping, NAMES))
    assert metrics["test"]["oracle"]["mean"]["dsc"] >= metrics["test"]["train"]["mean"]["dsc"]
    assert (mapping_array(metrics["mapping"]["train"], NAMES) == mapping).all()
    assert metrics["mapping"]["named"][4] is None
    assert metrics["per_slice"]["train"]["nucleus"]["n"] == 3


def test_the_mapping_is_fitted_on_training_labels_only():
    train, test = fovs(0, "a"), fovs(1, "b")
    shuffled = {key: table[:, [1, 2, 3, 0]] for key, table in test.items()}
    one, other = (evaluate(train, part, NAMES, k=8)["mapping"] for part in (test, shuffled))
    assert all(one[rule] == other[rule] for rule in ("train", "hungarian", "greedy", "majority"))
    assert one["oracle"] != other["oracle"]


def test_a_recipe_chooses_mappings_and_the_headline():
    metrics = evaluate(fovs(0, "a"), fovs(1, "b"), NAMES, k=8, mappings=["greedy", "train"], headline="greedy")
    assert list(metrics["test"]) == ["greedy", "train"] and metrics["headline"] == "greedy"
    unlabelled = evaluate({}, fovs(1, "b"), NAMES, k=8, mappings=["train"])
    assert list(unlabelled["test"]) == ["oracle"]  # better an upper bound that says so than nothing


def test_without_training_labels_only_oracle_and_named_are_reported_and_it_is_said():
    metrics = evaluate({}, fovs(1, "b"), NAMES, k=8)
    assert list(metrics["test"]) == ["oracle"] and metrics["train"] == {} and metrics["headline"] == "oracle"
    assert "no labels in the training volumes" in metrics["notes"][0]
    named = evaluate({}, fovs(1, "b"), NAMES, k=8, named=np.zeros(8, int))
    assert list(named["test"]) == ["oracle", "named"] and named["headline"] == "named"


def test_without_any_labels_clusters_are_still_counted():
    metrics = evaluate({}, {}, [], k=4, train_pixels=[9000, 998, 2, 0], test_pixels=[1, 1, 1, 1])
    assert metrics["test"] == {} and metrics["headline"] is None
    assert len(metrics["notes"]) == 1 and "sccs name" in metrics["notes"][0]
    assert metrics["clusters_used"] == {"train": 2, "test": 4}  # from a thousandth of the pixels
    assert metrics["clusters_any"] == {"train": 3, "test": 4}
    assert metrics["cluster_share"]["test"] == [0.25] * 4


def test_a_class_that_training_never_shows_is_noted():
    train = {key: table * [1, 1, 0, 1] for key, table in fovs(0, "a").items()}
    assert "granules" in evaluate(train, fovs(1, "b"), NAMES, k=8)["notes"][0]
