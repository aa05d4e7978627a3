"""Rules that give clusters a class."""

import itertools
import math

import numpy as np
import pytest

from sccs.evaluation.mappings import _best_by_search, _best_exact, fit_mapping
from sccs.evaluation.scores import scores
from sccs.evaluation.tables import dice_table
from tests.sccs.evaluation.random_tables import random_table


def mean_dsc(table, mapping):
    return scores(table, mapping, [f"c{c}" for c in range(table.shape[1])])["mean"]["dsc"]


HUNGARIAN = np.array([[90, 0, 0], [0, 50, 0], [0, 40, 5], [0, 0, 10]])


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
    found, exact = _best_by_search(table), _best_exact(table)
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


def test_hungarian_is_one_to_one_and_left_over_clusters_go_to_rest_or_by_majority():
    assert fit_mapping("hungarian", HUNGARIAN, rest=0).tolist() == [0, 1, 0, 2]
    assert fit_mapping("hungarian", HUNGARIAN).tolist() == [0, 1, 1, 2]


def test_hungarian_does_not_pair_what_has_no_pixel_in_common():
    assert fit_mapping("hungarian", np.array([[50, 9], [50, 0]])).tolist() == [1, 0]
    assert fit_mapping("hungarian", np.array([[50, 0, 0], [40, 9, 0], [30, 0, 0]]), rest=0).tolist() == [0, 1, 0]


def test_greedy_adds_clusters_that_overlap_the_class_and_not_the_rest():
    mapping = fit_mapping("greedy", GREEDY, rest=0)
    assert mapping.tolist() == [0, 1, 1, 0, 2, 0]
    dice = dice_table(GREEDY)
    assert dice[2, 1] > 0.1 > dice[2, 0] and dice[3, 1] > 0.1 and dice[3, 0] > 0.3


def test_greedy_drops_pairs_below_a_tenth_and_without_a_rest_class_leaves_them_unassigned():
    faint = np.array([[1000, 0, 0], [0, 1000, 0], [30, 40, 2]])
    assert dice_table(faint)[2].max() < 0.1
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
