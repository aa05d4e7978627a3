"""A look over DGL's shoulder."""

import pytest

from registry.spg.dgl_adapter import dgl


def watched_kernels(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The compiled kernels of DGL that run from now on, by name: sparse-dense products, and those edge by edge."""
    ran: list[str] = []
    sparse = dgl.backend.pytorch.sparse
    for name in ("_gspmm", "_gsddmm"):
        kernel = getattr(sparse, name)

        def spy(*args, kernel=kernel, name=name):
            ran.append(name)
            return kernel(*args)

        monkeypatch.setattr(sparse, name, spy)
    return ran
