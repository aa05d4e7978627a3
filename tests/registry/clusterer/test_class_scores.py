"""Class scores: the class of the highest score, in the first of k columns."""

import numpy as np
import pytest
import torch

from registry.base import UserError
from registry.clusterer.class_scores import ClassScores


def test_probabilities_are_the_softmax_of_the_scores_and_zero_beyond_the_last_class(make_graph):
    graph = make_graph(n=2)
    Z = torch.tensor([[0.0, np.log(3.0)], [np.log(4.0), 0.0]], dtype=torch.float32)
    P = ClassScores(k=4).predict(graph, Z)
    np.testing.assert_allclose(P.numpy(), [[0.25, 0.75, 0, 0], [0.8, 0.2, 0, 0]], atol=1e-6)


def test_cluster_i_is_class_i(make_graph):
    graph, Z = make_graph(n=5), 3 * torch.eye(5)
    assert ClassScores(k=5).predict(graph, Z).argmax(1).tolist() == [0, 1, 2, 3, 4]


def test_nothing_is_learned_and_no_label_is_asked_for(make_graph):
    part, graph = ClassScores(k=4), make_graph(n=6)
    before = part.predict(graph, torch.ones(6, 3))
    part.fit([graph], [torch.randn(6, 3)])
    assert not part.supervised and part.get_state() == {}
    assert torch.equal(part.predict(graph, torch.ones(6, 3)), before)


def test_more_scores_than_clusters_are_refused(make_graph):
    graph, Z = make_graph(n=6), torch.zeros(6, 4)
    for ask in (lambda part: part.fit([graph], [Z]), lambda part: part.predict(graph, Z)):
        with pytest.raises(UserError, match="^clusterer.k: 3 is less than the 4 scores"):
            ask(ClassScores(k=3))


def test_no_cluster_at_all_is_refused():
    with pytest.raises(UserError, match="^clusterer.k: 0 must be at least 1"):
        ClassScores(k=0)
