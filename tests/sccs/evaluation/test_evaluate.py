"""What metrics.json holds."""

import json

import numpy as np

from sccs.evaluation.evaluate import evaluate
from sccs.evaluation.mappings import fit_mapping
from sccs.evaluation.scores import json_safe, scores
from tests.sccs.evaluation.random_tables import NAMES, random_table


def fovs(seed, volume, k=8, n=3):
    rng = np.random.default_rng(seed)
    return {f"{volume}:{z}:{y}:0": random_table(rng, k) for z in range(n) for y in (0, 80)}


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
    assert metrics["mapping"]["train"] == [NAMES[c] for c in mapping]
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
