"""Which points to look at next."""

import numpy as np

from registry.numeric.choosing import CANDIDATES, doubtful, largest_apart, mixed, spread


def far_apart(counts: list[int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, 2) of kinds that lie far from one another, and the kinds."""
    kinds = np.repeat(np.arange(len(counts)), counts)
    return np.random.default_rng(seed).normal(size=(len(kinds), 2)) + 100 * kinds[:, None], kinds


def test_every_kind_has_as_many_points_as_any_other_or_all_that_it_has():
    points, kinds = far_apart([200, 2, 40])
    chosen = spread(points, kinds, 12, 0)
    assert np.bincount(kinds[chosen]).tolist() == [5, 2, 5] and len(np.unique(chosen)) == 12
    assert sorted(np.bincount(kinds[spread(points, kinds, 4, 0)])) == [1, 1, 2]
    assert len(np.unique(kinds[spread(points, kinds, 2, 0)])) == 2
    assert (spread(points, kinds, 12, 0) == chosen).all() and (spread(points, kinds, 12, 1) != chosen).any()


def test_fewer_points_than_kinds_are_of_large_kinds_far_from_one_another():
    points = np.array([[0.0], [1.0], [2.0], [30.0], [31.0]])[np.repeat(np.arange(5), [50, 40, 10, 20, 3])]
    kinds = np.repeat([7, 3, 9, 1, 5], [50, 40, 10, 20, 3])
    _, at, count = np.unique(kinds, return_inverse=True, return_counts=True)
    # the largest; then 20 points at 30 (3 at 31 and 40 at 1 weigh less); then 40 at 1, against 10 at 2 and 3 at 31
    assert np.unique(kinds)[largest_apart(points, at, count, 3)].tolist() == [7, 1, 3]
    assert sorted(kinds[spread(points, kinds, 3, 0)]) == [1, 3, 7]
    assert sorted(kinds[spread(points, kinds, 1, 0)]) == [7] and len(spread(points, kinds, 0, 0)) == 0
    everything = np.unique(kinds)[largest_apart(points, at, count, 5)]
    assert sorted(everything) == [1, 3, 5, 7, 9]


def test_of_few_points_all_are_chosen_and_of_equal_ones_one():
    points, kinds = far_apart([3, 1])
    assert spread(points, kinds, 9, 0).tolist() == [0, 1, 2, 3]
    assert spread(points[:0], kinds[:0], 9, 0).tolist() == []
    assert spread(np.ones((5, 2)), np.zeros(5, int), 3, 0).tolist() == [0]


def test_a_kind_is_seen_in_all_of_its_parts():
    points = np.repeat(np.arange(4.0), 25)[:, None] * 10 + np.random.default_rng(0).normal(size=(100, 1))
    assert np.unique(spread(points, np.zeros(100, int), 4, 0) // 25).tolist() == [0, 1, 2, 3]


def test_doubt_about_a_rare_class_comes_first_and_from_different_places():
    points, places = far_apart([50, 50, 50])
    P = np.tile([0.98, 0.01, 0.01], (150, 1))
    P[places == 1] = [0.5, 0.5, 0]
    P[places == 2] = [0.5, 0, 0.5]
    P[60:100] = [0.98, 0.01, 0.01]  # class 1 is the rarer one of the two
    doubt = np.where(P[:, 0] == 0.5, 1.0, 0.02)
    assert doubtful(points, P, doubt, 1, 0)[0] in range(50, 60)
    chosen = doubtful(points, P, doubt, 2, 0)
    assert sorted(places[chosen]) == [1, 2] and CANDIDATES * 2 < 60


def test_half_of_the_points_are_in_doubt_and_half_are_chosen_by_chance():
    points, places = far_apart([50, 1000])
    P = np.where(places[:, None] == 0, [0.5, 0.5], [0.98, 0.02])
    doubt = np.where(places == 0, 1.0, 0.04)
    chosen = mixed(points, P, doubt, 5, 0)
    assert len(np.unique(chosen)) == 5 and (np.sort(chosen) == chosen).all()
    assert set(doubtful(points, P, doubt, 3, 0)) <= set(chosen) and (places[chosen] == 1).sum() >= 1
    assert (mixed(points, P, doubt, 5, 0) == chosen).all() and (mixed(points, P, doubt, 5, 1) != chosen).any()
    assert mixed(points, P, doubt, 1, 0).tolist() == doubtful(points, P, doubt, 1, 0).tolist()
    assert len(mixed(points[:4], P[:4], doubt[:4], 9, 0)) == 4
