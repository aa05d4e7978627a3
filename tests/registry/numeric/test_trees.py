"""Trees as arrays say what scikit-learn's say, and a stranger's arrays lead nowhere."""

import numpy as np
import pytest
import torch
from sklearn.ensemble import ExtraTreesClassifier

from registry.numeric.trees import Trees


def points(n: int = 80, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    X = np.random.default_rng(seed).normal(size=(n, 5)).astype(np.float32)
    return X, (X[:, 0] > 0) + 2 * (X[:, 1] > 0.5)


def test_shares_are_those_of_scikit_learn():
    X, y = points()
    y = np.where(y == 1, 4, y)  # class 1 is not there
    weight = np.random.default_rng(1).uniform(0.5, 2, len(X))
    ours = Trees.grow(X, y, 5, weight, trees=7, leaf=2, seed=3)
    theirs = ExtraTreesClassifier(7, min_samples_leaf=2, random_state=3).fit(X, y, weight)
    asked, _ = points(300, seed=9)
    np.testing.assert_allclose(ours.predict(asked)[:, [0, 2, 3, 4]], theirs.predict_proba(asked), atol=1e-6)
    assert (ours.predict(asked)[:, 1] == 0).all()


def test_a_point_on_a_threshold_goes_where_scikit_learn_sends_it():
    X, y = points()
    trees = Trees.grow(X, y, 4, np.ones(len(X)), trees=5, leaf=1, seed=0)
    theirs = ExtraTreesClassifier(5, random_state=0).fit(X, y)
    inner = trees.feature >= 0
    asked = np.repeat(X[:1], inner.sum(), 0)
    asked[np.arange(len(asked)), trees.feature[inner]] = trees.threshold[inner]
    np.testing.assert_allclose(trees.predict(asked), theirs.predict_proba(asked), atol=1e-6)


def test_each_point_takes_its_own_way_to_the_same_bits_whatever_the_number_of_threads():
    X, y = points(400)
    trees = Trees.grow(X, y, 4, np.ones(len(X)), trees=3, leaf=1, seed=0)
    asked, _ = points(2100, seed=9)  # more than are asked at a time
    total = np.zeros((len(asked), 4), np.float32)
    for root in trees.roots:
        at = np.full(len(asked), root)
        while (inner := trees.feature[at] >= 0).any():
            low = asked[np.arange(len(asked)), trees.feature[at]] <= trees.threshold[at]
            at = np.where(inner, np.where(low, trees.left[at], trees.right[at]), at)
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
