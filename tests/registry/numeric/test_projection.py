"""Products of few columns: the same numbers, whatever the kernel is given."""

import pytest
import torch

from registry.numeric.projection import project


@pytest.mark.parametrize("u", [1, 12, 16, 17, 64, 70])
def test_it_is_the_product(u):
    generator = torch.Generator().manual_seed(u)
    X, W = torch.randn(50, 30, generator=generator), torch.randn(30, u, generator=generator)
    Z = project(X, W)
    assert Z.shape == (50, u) and Z.is_contiguous()
    assert torch.allclose(Z, X @ W, atol=1e-5)


def test_gradients_pass():
    X, W = torch.randn(5, 3), torch.randn(3, 2, requires_grad=True)
    project(X, W).sum().backward()
    assert torch.allclose(W.grad, X.sum(0)[:, None].expand(3, 2), atol=1e-6)
