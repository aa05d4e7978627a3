"""Linear probe: logistic regression on the majority class of labelled nodes."""

import numpy as np
import pytest
import torch

from registry.base import UserError
from registry.clusterer.linear_probe import LinearProbe


def groups(n: int = 60, classes: int = 3, spread: float = 0.3) -> tuple[torch.Tensor, np.ndarray]:
    """Z (n, 4) in as many groups as classes, far from the origin and of unlike scales, and the group of each node."""
    rng = np.random.default_rng(0)
    group = np.arange(n) % classes
    Z = 5 * np.eye(classes, 4)[group] + spread * rng.normal(size=(n, 4))
    return torch.from_numpy(100 + Z * [1, 100, 1, 0.01]).float(), group


def pixels(group: np.ndarray, classes: int = 3, count: int = 7) -> np.ndarray:
    return count * np.eye(classes, dtype=np.int64)[group]


def fitted(make_graph, Z, labels, **arguments) -> LinearProbe:
    part = LinearProbe(**arguments)
    part.fit([make_graph(n=len(Z))], [Z], [labels])
    return part


@pytest.mark.parametrize("classes", [2, 3])
def test_cluster_i_is_class_i_and_the_columns_beyond_are_never_taken(make_graph, classes):
    Z, group = groups(classes=classes)
    P = fitted(make_graph, Z, pixels(group, classes), k=8).predict(None, Z)
    assert np.array_equal(P.argmax(1).numpy(), group)
    assert not P[:, classes:].any()


def test_it_is_scikit_learns_regression_on_standardised_coordinates(make_graph):
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    Z, group = groups(spread=4)
    X = StandardScaler().fit_transform(Z.double().numpy())
    expected = LogisticRegression(max_iter=1000).fit(X, group).predict_proba(X)
    P = fitted(make_graph, Z, pixels(group), k=3).predict(None, Z)
    np.testing.assert_allclose(P.numpy(), expected, atol=2e-3)


def test_a_node_counts_as_the_class_of_most_of_its_pixels_and_by_their_number(make_graph):
    Z = torch.zeros(10, 1)  # nothing to go by but how often the classes occur
    labels = np.tile([[1, 9, 0]], (10, 1))
    labels[:3] = [80, 9, 0]
    P = fitted(make_graph, Z, labels, k=3).predict(None, Z[:1])
    share = 3 * 80 / (3 * 80 + 7 * 9)
    np.testing.assert_allclose(P.numpy(), [[share, 1 - share, 0]], atol=1e-3)


def test_nodes_without_a_label_play_no_part(make_graph):
    Z, group = groups()
    labels = pixels(group)
    labels[30:] = 0
    strange = Z.clone()
    strange[30:] = 1e4
    one, other = (fitted(make_graph, z, labels, k=3).predict(None, Z) for z in (Z, strange))
    assert torch.equal(one, other)


def test_a_class_that_no_training_node_shows_is_never_predicted(make_graph):
    Z, group = groups(classes=2)
    P = fitted(make_graph, Z, pixels(2 * group), k=3).predict(None, Z)
    assert np.array_equal(P.argmax(1).numpy(), 2 * group) and not P[:, 1].any()


def test_a_single_class_is_what_everything_is(make_graph):
    Z, group = groups()
    P = fitted(make_graph, Z, pixels(np.ones_like(group)), k=3).predict(None, Z)
    assert P.tolist() == [[0, 1, 0]] * len(Z)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"k": 0}, "clusterer.k: 0 must be"),
        ({"iterations": 0}, "clusterer.iterations: 0 must be"),
        ({"C": 0.0}, "clusterer.C: 0.0 must be"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(UserError, match=f"^{message}"):
        LinearProbe(**arguments)


def test_more_classes_than_clusters_and_no_labels_at_all_are_refused(make_graph):
    Z, group = groups()
    with pytest.raises(UserError, match="^clusterer.k: 2 is less than the data's 3 classes"):
        fitted(make_graph, Z, pixels(group), k=2)
    with pytest.raises(UserError, match="^data.train: linear_probe needs labels, but no training node has any"):
        fitted(make_graph, Z, 0 * pixels(group), k=3)
