"""Connected pieces of clusters as tensor operations on several images at once: `registry.spg.slic_grid.connected`
without leaving the device. Labels are equal (tests/registry/spg/test_pieces.py)."""

from __future__ import annotations

import torch
from torch import Tensor


def pieces(labels: Tensor) -> Tensor:
    """The 4-connected pieces (B, H, W) int64 of labels (B, H, W), numbered in order of appearance, row by row.

    Every pixel points to an earlier pixel of its piece, or itself. In each round, its target adopts the earliest target
    among the pixel's neighbours, and pointers are followed twice, so that the number of rounds grows with the logarithm
    of a piece's length.
    """
    across, down = labels[:, :, 1:] == labels[:, :, :-1], labels[:, 1:] == labels[:, :-1]
    own = torch.arange(labels.numel(), device=labels.device)
    first = own
    while True:
        before = first.view(labels.shape)
        least = before.clone()
        for axis, same in ((2, across), (1, down)):
            length = labels.shape[axis] - 1
            for here, there in ((0, 1), (1, 0)):
                mine, other = least.narrow(axis, here, length), before.narrow(axis, there, length)
                mine.copy_(torch.where(same, torch.minimum(mine, other), mine))
        new = torch.minimum(first.scatter_reduce(0, first, least.view(-1), "amin"), least.view(-1))
        new = new[new]
        new = new[new]
        if torch.equal(new, first):
            return ((first == own).cumsum(0) - 1)[first].view(labels.shape)
        first = new


def connected_batch(labels: Tensor, grey: Tensor, smallest: float) -> Tensor:
    """Regions (B, H, W) int64, numbered consecutively: for each image those of `connected`. grey: (B, H, W) float32."""
    piece = pieces(labels)
    n = int(piece.max()) + 1
    flat, owner = piece.view(-1), torch.arange(n, device=labels.device)
    area = torch.bincount(flat, minlength=n).double()
    total = torch.bincount(flat, grey.reshape(-1).double(), minlength=n)
    i, j = touching(piece, n, both=True)
    while True:
        small = area[i] < smallest
        # only into larger ones (in a tie, the later), so that no two wait for each other
        small &= (area[j] > area[i]) | ((area[j] == area[i]) & (j > i))
        s, t = i[small], j[small]
        if not len(s):
            break
        order = (total[s] / area[s] - total[t] / area[t]).abs().argsort(stable=True)
        order = order[s[order].argsort(stable=True)]
        s, t = s[order], t[order]
        best = torch.ones_like(s, dtype=torch.bool)
        best[1:] = s[1:] != s[:-1]
        to = torch.arange(n, device=labels.device)
        to[s[best]] = t[best]
        while not torch.equal(to, to[to]):
            to = to[to]
        owner = to[owner]
        area, total = (torch.bincount(to, each, minlength=n) for each in (area, total))
        i, j = to[i], to[j]
        keys = torch.unique((i * n + j)[i != j])
        i, j = keys // n, keys % n
    used = torch.bincount(owner, minlength=n) > 0
    return ((used.cumsum(0) - 1)[owner])[piece]


def touching(regions: Tensor, n: int, both: bool = False) -> Tensor:
    """Pairs i < j (2, m) int64 of n regions that share a pixel edge: regions (B, H, W), numbered consecutively. both:
    also j, i."""
    keys = []
    for a, b in ((regions[:, :, :-1], regions[:, :, 1:]), (regions[:, :-1], regions[:, 1:])):
        border = a != b
        p, q = a[border], b[border]
        keys += [p * n + q, q * n + p] if both else [torch.minimum(p, q) * n + torch.maximum(p, q)]
    unique = torch.unique(torch.cat(keys))
    return torch.stack([unique // n, unique % n])
