"""The only module that imports DGL.

DGL's last wheels (2.1.0) include `dgl.graphbolt`, a data-loading library whose compiled half requires a torch of
early 2024; with a current torch its import fails, and with it `import dgl`. SCCS does not need it, so an empty module
of that name is put into `sys.modules` first. Checked with torch 2.13 and NumPy 2.4: graphs, message passing with
autograd, batch, save and load, GraphConv. Not usable with that wheel: `dgl.sparse`, CUDA graphs.
DGL also imports pandas without declaring it; `setup.cfg` does.

`dgl` is a proxy that imports the package on first use, so that reading a recipe does not wait for it.
"""

from __future__ import annotations

import functools
import os
import sys
import types
import warnings
from typing import Any

import torch

# now, not when DGL is imported, as unpickling a graph imports it directly
os.environ.setdefault("DGLBACKEND", "pytorch")
sys.modules.setdefault("dgl.graphbolt", types.ModuleType("dgl.graphbolt"))


@functools.lru_cache
def _imported() -> types.ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # DGL's own imports of deprecated names
        import dgl
    return dgl


class _Package:
    def __getattr__(self, name: str) -> Any:
        return getattr(_imported(), name)


dgl: Any = _Package()


@functools.lru_cache
def has_kernels(device: torch.device) -> bool:
    """Whether this build of DGL supports the device. The wheels on the public index only support the CPU."""
    try:
        dgl.graph(([0], [0])).to(device)
    except (dgl.DGLError, RuntimeError, KeyError):
        return False
    return True
