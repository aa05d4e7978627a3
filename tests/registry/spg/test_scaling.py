"""Scales of columns, on columns whose deviations are known."""

import pytest
import torch

from registry.spg.scaling import graph_scale, set_scale

X = torch.tensor([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]])  # deviations along the axes: 3 to 1


def test_columns_of_one_graph_get_unit_deviation():
    assert graph_scale(X).tolist() == pytest.approx([(2 / 9) ** 0.5, 2**0.5])


@pytest.mark.parametrize("scale, ratio", [("unit", 1), ("explained", 3)])
def test_columns_of_a_set_get_unit_deviation_or_that_of_what_they_explain(scale, ratio):
    Z = X * torch.tensor([1e-3, 1e4])  # the same directions, of any length
    Z = Z * set_scale(Z.square().mean(0), X.T @ Z / len(Z), scale)
    deviation = Z.square().mean(0).sqrt()
    assert (deviation[0] / deviation[1]).item() == pytest.approx(ratio, rel=1e-5)
    assert deviation.square().mean().item() == pytest.approx(1, rel=1e-5)


def test_columns_of_zeros_stay_finite():
    zero = torch.zeros(2)
    assert torch.isfinite(graph_scale(torch.zeros(3, 2))).all()
    for scale in ("unit", "explained"):
        assert torch.isfinite(set_scale(zero, torch.zeros(4, 2), scale)).all()
