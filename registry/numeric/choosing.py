"""Which of many points to look at next: a few diverse ones, including rare kinds."""

from __future__ import annotations

import numpy as np

from registry.base import UserError
from registry.numeric.kmeans import kmeans

CANDIDATES = 10  # per chosen point, among the most doubtful
RANDOM = 0.5  # share of the points chosen by chance once there are doubts (benchmarks/results/teaching/suggesting.md)


def spread(points: np.ndarray, kinds: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Up to n of the points (N, d), in ascending order; used without prior knowledge.

    kinds: (N,) int, such as clusters. k-means divides every kind into the same number of cells, or into as many as it
    has points, so that rare kinds get more than their share; the point nearest to each centre is taken. If n does not
    divide evenly, chance decides which kinds get one cell more. If there are fewer points to choose than kinds,
    `largest_apart` chooses the kinds.
    """
    _, at, count = np.unique(kinds, return_inverse=True, return_counts=True)
    if 0 < n < len(count):
        left = np.flatnonzero(np.isin(at, largest_apart(points, at, count, n)))
        return left[spread(points[left], at[left], n, seed)]
    cells, order = np.zeros(len(count), np.int64), np.random.default_rng(seed).permutation(len(count))
    while (missing := min(n, len(points)) - cells.sum()) > 0:
        cells[order[cells[order] < count[order]][:missing]] += 1
    members = [np.flatnonzero(at == kind) for kind in np.flatnonzero(cells)]
    found = [own[nearest_to_centres(points[own], m, seed)] for own, m in zip(members, cells[cells > 0])]
    return np.sort(np.concatenate([np.zeros(0, np.int64), *found]))


def largest_apart(points: np.ndarray, at: np.ndarray, count: np.ndarray, n: int) -> np.ndarray:
    """n of the kinds, given the kind of each point (N,) and the number of points of each kind: first the largest, then
    each time the one whose size times the squared distance of its mean from the nearest chosen mean is greatest.

    As k-means++ chooses its first centres (Arthur and Vassilvitskii 2007), but by the greatest weight, not by chance.
    """
    means = np.stack([points[at == kind].mean(0) for kind in range(len(count))])
    chosen, far = [int(np.argmax(count))], np.full(len(count), np.inf)
    while len(chosen) < n:
        far = np.minimum(far, np.square(means - means[chosen[-1]]).sum(1))
        chosen.append(int(np.argmax(far * count)))
    return np.array(chosen)


def mixed(points: np.ndarray, P: np.ndarray, doubt: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Up to n of the points, in ascending order: a share `RANDOM` by chance, all others as `doubtful` chooses them.

    Doubtful points lie between classes and say little about their bulk, whose points outnumber them.
    """
    first = doubtful(points, P, doubt, n - int(RANDOM * n), seed)
    others = np.random.default_rng(seed).permutation(np.setdiff1d(np.arange(len(points)), first))
    return np.sort(np.concatenate([first, others[: n - len(first)]]))


def doubtful(points: np.ndarray, P: np.ndarray, doubt: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Up to n of the points (N, d) whose classes are most in doubt, given probabilities P (N, C) and doubt (N,).

    Doubt counts more for rare classes. The points that count most are divided into n cells, and the first of each cell
    is taken.
    """
    share = P.mean(0)
    worth = doubt * (P / np.sqrt(np.maximum(share, 1e-3))).sum(1)
    first = np.sort(np.argsort(-worth, kind="stable")[: CANDIDATES * n])
    if len(first) <= n:
        return first
    try:
        _, cells, _ = kmeans(points[first].astype(np.float32), n, seed, n_init=1)
    except UserError:  # fewer distinct points than cells
        return first[np.argsort(-worth[first], kind="stable")[:n]]
    order = np.lexsort((-worth[first], cells))
    return first[order[np.unique(cells[order], return_index=True)[1]]]


def nearest_to_centres(points: np.ndarray, n: int, seed: int, weights: np.ndarray | None = None) -> np.ndarray:
    """The points (N, d) nearest to the centres of n cells of k-means, each once, in ascending order."""
    n = min(n, len(np.unique(points, axis=0)))
    if not n:
        return np.zeros(0, np.int64)
    centres, cells, _ = kmeans(points.astype(np.float32), n, seed, n_init=1, weights=weights)
    distance = np.square(points - centres[cells]).sum(1)
    order = np.lexsort((distance, cells))
    return np.sort(order[np.unique(cells[order], return_index=True)[1]])
