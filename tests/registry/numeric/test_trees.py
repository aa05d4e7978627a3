"""Trees as arrays agree with scikit-learn's, and invalid arrays are rejected."""

import numpy as np
import pytest
import torch
from sklearn.ensemble import ExtraTreesClassifier

from registry.numeric.trees import Trees


def points(n: int = 80, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    X = np.random.default_rng(seed).normal(size=(n, 5)).astype(np.float32)
    return X, (X[:, 0] > 0) + 2 * (X[:, 1] > 0.5)


@pytest.mark.parametrize("leaf", [1, 3])
def test_many_trees_agree_with_scikit_learn(leaf):
    X, y = points(200)
    y = np.where(y == 1, 4, y)  # class 1 is not there
    weight = np.random.default_rng(1).uniform(0.5, 2, len(X))
    ours = Trees.grow(X, y, 5, weight, trees=2000, leaf=leaf, seed=3)
    theirs = ExtraTreesClassifier(2000, min_samples_leaf=leaf, random_state=3).fit(X, y, weight)
    asked, _ = points(300, seed=9)
    apart = ours.predict(asked)[:, [0, 2, 3, 4]] - theirs.predict_proba(asked)
    assert np.abs(apart).max() < 0.06 and abs(apart.mean(0)).max() < 0.005
    assert (ours.predict(asked)[:, 1] == 0).all()
    ours = Trees.grow(X, y, 5, np.ones(len(X)), trees=1000, leaf=leaf, seed=3)
    theirs = ExtraTreesClassifier(1000, min_samples_leaf=leaf, random_state=3).fit(X, y)
    assert abs(len(ours.feature) / sum(tree.tree_.node_count for tree in theirs.estimators_) - 1) < 0.03


def leaves(trees, X):
    """The leaf (trees, n) of each point in each tree."""
    at = np.repeat(trees.roots[:, None], len(X), 1)
    while (inner := trees.feature[at] >= 0).any():
        low = X[np.arange(len(X)), trees.feature[at]] <= trees.threshold[at]
        at = np.where(inner, np.where(low, trees.left[at], trees.right[at]), at)
    return at


@pytest.mark.parametrize("leaf", [1, 4])
def test_leaves_hold_enough_points_and_their_weighted_shares(leaf):
    X, y = points()
    X[10:20] = X[9]  # points that nothing can part
    weight = np.random.default_rng(1).uniform(0.5, 2, len(X))
    trees = Trees.grow(X, y, 4, weight, trees=20, leaf=leaf, seed=0)
    for found in leaves(trees, X):
        numbers, at, count = np.unique(found, return_inverse=True, return_counts=True)
        assert count.min() >= leaf and len(set(found[9:20])) == 1
        shares = np.zeros((len(numbers), 4))
        np.add.at(shares, (at, y), weight)
        np.testing.assert_allclose(trees.value[numbers], shares / shares.sum(1, keepdims=True), atol=1e-6)
        if leaf == 1:
            single = np.setdiff1d(np.arange(len(X)), np.arange(9, 20))
            assert (trees.value[found].argmax(1) == y)[single].all()


def test_the_seed_alone_decides_not_the_number_of_threads():
    X, y = points()
    before = torch.get_num_threads()
    try:
        grown = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            grown.append(Trees.grow(X, y, 4, np.ones(len(X)), trees=9, leaf=1, seed=5).get_state())
    finally:
        torch.set_num_threads(before)
    assert all((each[name] == grown[0][name]).all() for each in grown for name in grown[0])
    other = Trees.grow(X, y, 4, np.ones(len(X)), trees=9, leaf=1, seed=6)
    assert other.threshold[0] != grown[0]["threshold"][0]


@pytest.mark.parametrize("X", [np.zeros((3, 5)), np.zeros((1, 5)), np.array([[0.0], [0.0], [1.0]])])
def test_points_that_are_few_or_equal(X):
    X = X.astype(np.float32)
    trees = Trees.grow(X, np.arange(len(X)), 3, np.ones(len(X)), trees=4, leaf=1, seed=0)
    assert np.isfinite(trees.predict(X)).all()
    np.testing.assert_allclose(trees.predict(X).sum(1), 1, atol=1e-6)
    Trees.from_state(trees.get_state(), 3, X.shape[1])


def test_each_point_takes_its_own_way_to_the_same_bits_whatever_the_number_of_threads():
    X, y = points(400)
    trees = Trees.grow(X, y, 4, np.ones(len(X)), trees=3, leaf=1, seed=0)
    asked, _ = points(2100, seed=9)  # more than are asked at a time
    total = np.zeros((len(asked), 4), np.float32)
    for at in leaves(trees, asked):
        total += trees.value[at]
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            assert (trees.predict(asked) == total / np.float32(3)).all()
    finally:
        torch.set_num_threads(before)


def test_arrays_come_back_as_the_same_trees():
    X, y = points()
    trees = Trees.grow(X, y, 4, np.ones(len(X)), trees=3, leaf=1, seed=0)
    again = Trees.from_state(trees.get_state(), 4, 5)
    assert (again.predict(X) == trees.predict(X)).all() and trees.predict(X[:0]).shape == (0, 4)


@pytest.mark.parametrize("what", ["loop", "beyond", "root", "coordinate", "kind", "shape", "missing"])
def test_arrays_that_lead_astray_are_refused(what):
    X, y = points()
    state = {k: v.copy() for k, v in Trees.grow(X, y, 4, np.ones(len(X)), trees=3, leaf=1, seed=0).get_state().items()}
    at = int(np.flatnonzero(state["feature"] >= 0)[1])
    if what == "loop":
        state["left"][at] = 0
    elif what == "beyond":
        state["right"][at] = len(state["right"])
    elif what == "root":
        state["roots"][0] = -1
    elif what == "coordinate":
        state["feature"][at] = 5
    elif what == "kind":
        state["left"] = state["left"].astype(np.int64)
    elif what == "shape":
        state["value"] = state["value"][:, :3]
    else:
        del state["left"]
    with pytest.raises(ValueError, match="trees|left"):
        Trees.from_state(state, 4, 5)
