"""SLIC superpixels (Achanta et al. 2012) as a few dense tensor operations per iteration, on the CPU or a GPU.

The image is divided into a grid of cells, one per cluster. A pixel may join the cluster of its own cell or of one of
the eight around it, which matches SLIC's windows of two grid steps. So the distances of an iteration are one batched
product (cells, 9, 3) x (cells, 3, pixels of a cell), the new means another, and there is no loop over pixels.
Distances are scikit-image's: ((y - c_y)^2 + (x - c_x)^2) / S^2 + (g - c_g)^2 / compactness^2, with S the grid
step in pixels. benchmarks/speed/superpixels.py compares both with labels.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor

AROUND = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
FAR = 1e6  # of clusters beyond the border of the grid, in grid steps


def grid_slic(grey: np.ndarray, count: int, compactness: float, iterations: int, device: str = "cpu") -> np.ndarray:
    """Connected regions (H, W) int32, labels 0 .. n - 1, of an image (H, W) with values in [0, 1].

    count: target number of regions. compactness: weight of position against grey value. device: of torch. Pieces below
    a quarter of the mean area join the neighbour with the closest grey value.
    """
    return connected(assigned(grey, count, compactness, iterations, device), grey, grey.size / count / 4)


def assigned(grey: np.ndarray, count: int, compactness: float, iterations: int, device: str = "cpu") -> np.ndarray:
    """Cluster of every pixel (H, W) int64 by k-means; a cluster may still have several pieces."""
    images = torch.from_numpy(np.ascontiguousarray(grey, np.float32))[None].to(device)
    return assigned_batch(images, count, compactness, iterations)[0].cpu().numpy()


def assigned_batch(grey: Tensor, count: int, compactness: float, iterations: int) -> Tensor:
    """The same for several images (B, H, W) float32, on their device: (B, H, W) int64, clusters of each from 0."""
    (B, H, W), device = grey.shape, grey.device
    gh, gw, place, inside, at = _grid(H, W, (H * W / count) ** 0.5, device)
    cells = gh * gw
    shades = grey.reshape(B, -1)[:, place.view(-1)].view(B, cells, 1, -1) / compactness
    points = torch.cat([at.expand(B, -1, -1, -1), shades], 2).view(B * cells, 3, -1)  # (cells, 3, pixels)
    values = torch.cat([points, torch.ones_like(points[:, :1])], 1).view(B, cells, 4, -1)
    values = (values * inside[:, None]).view(B * cells, 4, -1).transpose(1, 2).contiguous()
    sums = values.sum(1)
    centres = (sums[:, :3] / sums[:, 3:]).view(B, gh, gw, 3)
    distance = torch.empty(B * cells, 9, place.shape[1], device=device)
    nearest = torch.empty(B * cells, place.shape[1], device=device)
    member = torch.empty_like(distance)
    for iteration in range(iterations):
        near = torch.full((B, gh + 2, gw + 2, 3), FAR, device=device)
        near[:, 1:-1, 1:-1] = centres
        near = torch.stack([near[:, 1 + dy : 1 + dy + gh, 1 + dx : 1 + dx + gw] for dy, dx in AROUND], 3)
        near = near.view(B * cells, 9, 3)
        # ||p||^2 is the same for all nine
        torch.baddbmm(near.square().sum(2, keepdim=True), near, points, alpha=-2, out=distance)
        torch.minimum(distance[:, 0], distance[:, 1], out=nearest)
        for i in range(2, 9):
            torch.minimum(nearest, distance[:, i], out=nearest)
        if iteration == iterations - 1:
            break
        torch.eq(distance, nearest[:, None], out=member)
        shares = torch.bmm(member, values).view(B, gh, gw, 9, 4)
        sums = torch.zeros(B, gh + 2, gw + 2, 4, device=device)
        for i, (dy, dx) in enumerate(AROUND):
            sums[:, 1 + dy : 1 + dy + gh, 1 + dx : 1 + dx + gw] += shares[:, :, :, i]
        sums = sums[:, 1:-1, 1:-1]
        centres = torch.where(sums[..., 3:] > 0, sums[..., :3] / sums[..., 3:].clamp(min=1), centres)
    cluster = torch.zeros(nearest.shape, dtype=torch.int64, device=device)
    own = torch.arange(cells, device=device).repeat(B)[:, None]
    for i, (dy, dx) in reversed(list(enumerate(AROUND))):  # in a tie, the first cluster
        cluster = torch.where(distance[:, i] == nearest, own + (dy * gw + dx), cluster)
    labels = torch.empty(B, H * W, dtype=torch.int64, device=device)
    labels[:, place[inside]] = cluster.view(B, cells, -1)[:, inside]
    return labels.view(B, H, W)


@functools.lru_cache(maxsize=4)
def _grid(H: int, W: int, step: float, device: torch.device) -> tuple[int, int, Tensor, Tensor, Tensor]:
    """Cells along both axes, and for each cell the indices of its pixels in the image (cells, pixels), which of these
    are not duplicates, and (y, x) in grid steps (cells, 2, pixels)."""
    (gh, ys, in_y), (gw, xs, in_x) = (_cells(length, step) for length in (H, W))
    place = (ys[:, None, :, None] * W + xs[None, :, None, :]).reshape(gh * gw, -1)
    inside = (in_y[:, None, :, None] & in_x[None, :, None, :]).reshape(gh * gw, -1)
    at = np.stack([place // W / step, place % W / step], axis=1).astype(np.float32)
    places, inner, coordinates = (torch.from_numpy(each).to(device) for each in (place, inside, at))
    return gh, gw, places, inner, coordinates


def _cells(length: int, step: float) -> tuple[int, np.ndarray, np.ndarray]:
    """Cells along an axis, the pixels (cells, longest) of each, and which of these are not duplicates."""
    cells = max(1, round(length / step))
    edges = np.arange(cells + 1) * length // cells
    pixels = edges[:-1, None] + np.arange(np.diff(edges).max())
    return cells, np.minimum(pixels, edges[1:, None] - 1), pixels < edges[1:, None]


def connected(labels: np.ndarray, grey: np.ndarray, smallest: float) -> np.ndarray:
    """Regions (H, W) int32, 0 .. n - 1, each connected (4-neighbourhood): the pieces of `labels` (H, W), with those
    below `smallest` px merged into the touching one with the closest mean grey, smallest first."""
    from skimage.measure import label

    pieces = label(labels, background=-1, connectivity=1).astype(np.int64) - 1
    n = int(pieces.max()) + 1
    area: np.ndarray = np.bincount(pieces.ravel(), minlength=n).astype(np.float64)
    total: np.ndarray = np.bincount(pieces.ravel(), grey.ravel(), n)
    owner = np.arange(n)
    i, j = _touching(pieces, n)
    while True:
        small = area[i] < smallest
        # only into larger ones (in a tie, the later), so that no two wait for each other
        small &= (area[j] > area[i]) | ((area[j] == area[i]) & (j > i))
        if not small.any():
            break
        s, t = i[small], j[small]
        order = np.lexsort((np.abs(total[s] / area[s] - total[t] / area[t]), s))
        s, first = np.unique(s[order], return_index=True)
        to = np.arange(n)
        to[s] = t[order][first]
        while (to != to[to]).any():
            to = to[to]
        owner = to[owner]
        area, total = np.bincount(to, area, n), np.bincount(to, total, n)
        i, j = to[i], to[j]
        keys = np.unique((i * n + j)[i != j])
        i, j = keys // n, keys % n
    used = np.bincount(owner, minlength=n) > 0
    return (np.cumsum(used) - 1).astype(np.int32)[owner][pieces]


def _touching(pieces: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (i, j) and (j, i) of pieces (H, W) that share a pixel edge, each once."""
    pairs = []
    for a, b in ((pieces[:, :-1], pieces[:, 1:]), (pieces[:-1], pieces[1:])):
        border = a != b
        pairs += [a[border] * n + b[border], b[border] * n + a[border]]
    keys = np.unique(np.concatenate(pairs))
    return keys // n, keys % n
