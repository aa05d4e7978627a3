"""Eq. 2 to 4 against dense NumPy, written out as printed."""

import numpy as np
import pytest
import torch

from registry.spg.losses import clustering, smoothness, spectral


def laplacian(graph) -> np.ndarray:
    A = graph.dense_affinity().double().numpy()
    scale = 1 / np.sqrt(A.sum(1))
    return np.eye(len(A)) - scale[:, None] * A * scale[None]


def unit(Z: np.ndarray) -> np.ndarray:
    return Z / np.linalg.norm(Z, axis=0)


@pytest.fixture
def graph(make_graph):
    return make_graph(n=15)


def test_spectral_loss_as_printed(graph):
    Z = np.random.default_rng(1).normal(size=(15, 4))
    z, L = unit(Z), laplacian(graph)
    expected = sum(z[:, i] @ z[:, j] + 0.5 * (z[:, i] @ L @ z[:, j]) ** 2 for i in range(4) for j in range(4) if i != j)
    assert spectral(graph, torch.tensor(Z).float(), 0.5, "paper").item() == pytest.approx(expected, abs=1e-5)


def test_spectral_loss_squared(graph):
    Z = np.random.default_rng(1).normal(size=(15, 4))
    z, L = unit(Z), laplacian(graph)
    pairs = [(i, j) for i in range(4) for j in range(4) if i != j]
    expected = np.mean([(z[:, i] @ z[:, j]) ** 2 + 2.0 * (z[:, i] @ L @ z[:, j]) ** 2 for i, j in pairs])
    assert spectral(graph, torch.tensor(Z).float(), 2.0).item() == pytest.approx(expected, abs=1e-6)


def test_spectral_loss_of_the_later_code(graph):
    Z = np.random.default_rng(1).normal(size=(15, 4))
    z, L = unit(Z), laplacian(graph)
    off = ~np.eye(4, dtype=bool)
    expected = np.square(z.T @ z - np.eye(4)).mean() + 2.0 * np.abs(z.T @ L @ z)[off].mean()
    assert spectral(graph, torch.tensor(Z).float(), 2.0, "later").item() == pytest.approx(expected, abs=1e-6)


def test_columns_that_vanish_cost_the_diagonal_term(graph):
    Z = torch.zeros(15, 4)
    assert spectral(graph, Z).item() == 1
    _, vectors = np.linalg.eigh(laplacian(graph))
    Z[:, 0] = torch.tensor(vectors[:, 0])
    assert spectral(graph, Z).item() == pytest.approx(3 / 4)


def test_eigenvectors_have_no_spectral_loss(graph):
    _, vectors = np.linalg.eigh(laplacian(graph))
    assert spectral(graph, torch.tensor(vectors[:, :4]).float()).item() == pytest.approx(0, abs=1e-9)
    mixed = vectors[:, :4] @ np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
    assert spectral(graph, torch.tensor(mixed).float()).item() > 1e-4


def test_zero_is_finite_and_has_a_gradient_without_nan(graph):
    Z = torch.zeros(15, 3, requires_grad=True)
    spectral(graph, Z).backward()
    assert torch.isfinite(Z.grad).all()


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_clustering_loss_is_binary_cross_entropy(head):
    rng = np.random.default_rng(2)
    P = rng.dirichlet(np.ones(5), size=15)
    target = rng.integers(0, 5, 15)
    hot = np.eye(5)[target]
    expected = -(hot * np.log(P) + (1 - hot) * np.log(1 - P)).mean()
    logits = {"softmax": np.log(P) + rng.normal(size=(15, 1)), "sigmoid": np.log(P / (1 - P))}[head]
    found = clustering(torch.tensor(logits).float(), torch.tensor(target), head)
    assert found.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
@pytest.mark.parametrize("size", [30.0, 200.0, 1e4])
def test_a_certain_and_wrong_node_is_pulled_to_its_target(head, size):
    logits = torch.tensor([[size, 0.0, -size]], requires_grad=True)
    loss = clustering(logits, torch.tensor([1]), head)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(logits.grad).all()
    wrong, own = logits.grad[0, :2].tolist()
    assert wrong > 0.1 and own < -0.1  # of 1 / k each, at least


def test_a_certain_and_right_node_is_left_alone():
    logits = torch.tensor([[200.0, 0.0, 0.0]], requires_grad=True)
    loss = clustering(logits, torch.tensor([0]))
    loss.backward()
    assert loss.item() == 0 and logits.grad.abs().max() < 1e-6


@pytest.mark.parametrize("softmax", [True, False])
def test_smoothness_loss_over_all_pairs(graph, softmax):
    P = np.random.default_rng(3).random((15, 4))
    P = P / P.sum(1, keepdims=True) if softmax else P
    A = graph.dense_affinity().numpy()
    p = P / np.linalg.norm(P, axis=1, keepdims=True)
    pairs = sum((A[i, j] - 0.1) * (1 - p[i] @ p[j]) for i in range(15) for j in range(15)) / 15**2
    expected = pairs + 0.3 * abs(P.sum() / 15 - 1)
    assert smoothness(graph, torch.tensor(P).float(), 0.1, 0.3).item() == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_every_term_passes_gradcheck(make_graph):
    graph = make_graph(n=6)
    Z = torch.randn(6, 3, requires_grad=True)
    for term in (lambda: spectral(graph, Z), lambda: smoothness(graph, Z.softmax(1))):
        loss = term()
        (gradient,) = torch.autograd.grad(loss, Z)
        step = 1e-3 * torch.randn(6, 3)
        with torch.no_grad():
            Z += step
            up = term()
            Z -= 2 * step
            down = term()
            Z += step
        assert (up - down).item() / 2 == pytest.approx((gradient * step).sum().item(), rel=0.05, abs=1e-6)
