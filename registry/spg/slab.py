"""A slab: the superpixel graphs of neighbouring slices, joined by edges between regions that overlap.

Overlapping regions i and j of neighbouring slices are linked with the weight

    a_ij = weight * |R_i & R_j| / sqrt(|R_i| |R_j|) * k(F_i, F_j)

where k is the kernel of the edges within a slice (paper, Eq. 1).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from registry.spg.affinity import AffinityGraph
from registry.spg.dgl_adapter import dgl
from registry.spg.graphs import RegionGraph

Link = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # nodes i of a slice, j of the next, their affinity: (E,) each


def link(part: AffinityGraph, one: RegionGraph, two: RegionGraph, weight: float) -> Link:
    """Edges from the nodes of a slice to those of the next. part: built both graphs; its kernel weights the edges."""
    i, j, share = (each.to(one.device) for each in overlaps(one.regions, two.regions))
    affinity = weight * share * part._kernel((one.feature[i] - two.feature[j]).square().sum(1), part.alpha)
    kept = affinity > 0
    return i[kept], j[kept], affinity[kept]


def joined(graphs: Sequence[RegionGraph], links: Sequence[Link]) -> RegionGraph:
    """One graph over the nodes of neighbouring slices, in order; `regions` (Z, H, W) numbers them consecutively.

    links: from each slice to the next, one fewer than graphs.
    """
    starts = np.cumsum([0, *(graph.n for graph in graphs)]).tolist()
    slab = dgl.batch([graph.graph for graph in graphs], edata=["affinity"])
    for (i, j, affinity), first, second in zip(links, starts, starts[1:]):
        one, two, weight = (each.to(slab.device) for each in (i + first, j + second, affinity))
        slab = dgl.add_edges(slab, torch.cat([one, two]), torch.cat([two, one]), {"affinity": weight.repeat(2)})
    regions = np.stack([graph.regions + start for graph, start in zip(graphs, starts)])
    return RegionGraph(regions, slab, graphs[0].device)


def overlaps(one: np.ndarray, two: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pairs i, j (E,) int64 of regions (H, W) of two slices that share pixels, and |R_i & R_j| / sqrt(|R_i| |R_j|)."""
    width = int(two.max()) + 1
    keys, counts = np.unique(one.ravel().astype(np.int64) * width + two.ravel(), return_counts=True)
    i, j = keys // width, keys % width
    share = counts / np.sqrt(np.bincount(one.ravel())[i] * np.bincount(two.ravel())[j])
    return torch.from_numpy(i), torch.from_numpy(j), torch.from_numpy(share.astype(np.float32))
