"""Scales of columns, on columns whose deviations are known."""

import pytest
import torch

from registry.spg.scaling import graph_scale, scaled, set_scale

X = torch.tensor([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]])  # deviations along the axes: 3 to 1


def test_columns_of_one_graph_get_unit_deviation():
    assert graph_scale(X).tolist() == pytest.approx([(2 / 9) ** 0.5, 2**0.5])


@pytest.mark.parametrize("scale, ratio", [("unit", 1), ("explained", 3), ("span", 3)])
def test_columns_of_a_set_get_unit_deviation_or_that_of_what_they_explain(scale, ratio):
    Z = X * torch.tensor([1e-3, 1e4])  # the same directions, of any length
    Z = scaled(Z, set_scale(Z.T @ Z / len(Z), X.T @ Z / len(Z), scale))
    deviation = Z.square().mean(0).sqrt()
    assert (deviation[0] / deviation[1]).item() == pytest.approx(ratio, rel=1e-5)
    assert deviation.square().mean().item() == pytest.approx(1, rel=1e-5)


def test_columns_of_zeros_stay_finite():
    zero = torch.zeros(2, 2)
    assert torch.isfinite(graph_scale(torch.zeros(3, 2))).all()
    for scale in ("unit", "explained", "span"):
        assert torch.isfinite(set_scale(zero, torch.zeros(4, 2), scale)).all()


def distances(features: torch.Tensor, basis: torch.Tensor) -> torch.Tensor:
    Z = features @ basis
    Z = scaled(Z, set_scale(Z.T @ Z / len(Z), features.T @ Z / len(Z), "span"))
    return torch.cdist(Z, Z)


def test_the_scale_of_a_span_does_not_depend_on_its_basis():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(40, 6, generator=generator) @ torch.diag(torch.tensor([9.0, 4, 2, 1, 1, 0.5]))
    basis, turned = torch.randn(6, 3, generator=generator), torch.randn(3, 3, generator=generator)
    expected = distances(features, basis)
    assert torch.allclose(distances(features, basis @ turned), expected, rtol=1e-3, atol=1e-3)
    # those of the features, projected onto the span
    Q, _ = torch.linalg.qr(features @ basis)
    within = torch.cdist(Q @ (Q.T @ features), Q @ (Q.T @ features))
    assert torch.allclose(within / within.max(), expected / expected.max(), atol=1e-3)


def test_a_column_that_depends_on_others_adds_nothing():
    generator = torch.Generator().manual_seed(1)
    features, basis = torch.randn(30, 5, generator=generator), torch.randn(5, 2, generator=generator)
    twice = torch.cat([basis, basis[:, :1] * 2], 1)
    found, expected = distances(features, twice), distances(features, basis)
    assert torch.isfinite(found).all()
    assert torch.allclose(found / found.max(), expected / expected.max(), atol=1e-2)
