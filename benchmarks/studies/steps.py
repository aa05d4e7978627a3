"""The steps of the SCCS+ recipe, and the alternatives of the leads: nodes, affinities, coordinates, clusters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from scipy.ndimage import gaussian_filter, gaussian_gradient_magnitude, median_filter

from benchmarks.studies.views import View
from registry.base import FeatureMap
from registry.clusterer.mlp_global import mixture
from registry.numeric.kmeans import cluster_sums, kmeans
from registry.numeric.nearest import assign
from registry.spg.affinity import squared_lengths
from registry.spg.graphs import Nodes, RegionGraph
from registry.spg.pooling import pool

K, U, HOPS = 8, 12, 6  # of the recipe
SIGMAS = (1, 2, 4, 8, 16)  # px, those of `filters`
MOST_SPECTRAL = 6000  # nodes of which a spectral teacher solves the eigenproblem

Arrays = list[np.ndarray]  # one for each FOV
Teacher = Callable[[Arrays, int, int], Arrays]  # (Z, seen, seed) -> clusters (n_s,) of all FOVs


def principal(X: list[torch.Tensor], seen: int) -> Arrays:
    """Coordinates (n_s, u) of all FOVs: features (n_s, d) along the principal directions of the first `seen`."""
    A = torch.cat(X[:seen])
    mean = A.mean(0)
    W = torch.linalg.eigh(((A - mean).T @ (A - mean)).double())[1].flip(1)[:, :U].float()
    return [((x - mean) @ W).numpy() for x in X]


def by_kmeans(Z: Arrays, seen: int, seed: int) -> Arrays:
    """Clusters (n_s,) of all FOVs by the means of the first `seen`."""
    means = kmeans(np.concatenate(Z[:seen]), K, seed)[0]
    return [assign(z, means)[0] for z in Z]


def by_mixture(spherical: bool) -> Teacher:
    """Clusters by the most likely Gaussian of a mixture with equal shares."""

    def teach(Z: Arrays, seen: int, seed: int) -> Arrays:
        points = np.concatenate(Z[:seen])
        m, v, share = mixture(points, kmeans(points, K, seed)[1], K, True, spherical)
        bias = np.log(share) - 0.5 * (m**2 / v + np.log(v)).sum(1)
        return [(z @ (m / v).T - z**2 @ (0.5 / v).T + bias).argmax(1) for z in Z]

    return teach


def on_the_sphere(Z: Arrays, seen: int, seed: int) -> Arrays:
    """k-means of coordinates scaled to length 1."""
    return by_kmeans([z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12) for z in Z], seen, seed)


def by_spectral(Z: Arrays, seen: int, seed: int, neighbours: int = 60, voters: int = 15) -> Arrays:
    """Normalised cut of one graph of all training nodes, its kernel self-tuned; others by a vote of the nearest."""
    from scipy.sparse import csr_matrix, diags
    from scipy.sparse.linalg import eigsh
    from scipy.spatial import cKDTree

    points = np.concatenate(Z[:seen])
    if len(points) > MOST_SPECTRAL:
        points = points[np.random.default_rng(seed).choice(len(points), MOST_SPECTRAL, replace=False)]
    tree = cKDTree(points)
    distance, nearest = (found[:, 1:] for found in tree.query(points, neighbours + 1))
    width = distance[:, neighbours // 2]
    weight = np.exp(-(distance**2) / np.maximum(width[:, None] * width[nearest], 1e-12))
    ends = np.repeat(np.arange(len(points)), neighbours), nearest.ravel()
    A = csr_matrix((weight.ravel(), ends), (len(points), len(points)))
    A = (A + A.T) / 2
    scale = 1 / np.sqrt(np.asarray(A.sum(1)).ravel())
    start = np.random.default_rng(seed).standard_normal(len(points))
    V = eigsh(diags(scale) @ A @ diags(scale), k=K, which="LA", v0=start)[1]
    labels = kmeans((V / np.linalg.norm(V, axis=1, keepdims=True)).astype(np.float32), K, seed)[1]
    return [np.eye(K, dtype=int)[labels[tree.query(z, voters)[1]]].sum(1).argmax(1) for z in Z]


def discriminant(X: list[torch.Tensor], seen: int, shrink: float = 0.1, rounds: int = 10) -> Arrays:
    """Discriminative k-means (Ye et al. 2007): k - 1 directions that separate the current clusters."""
    A = torch.cat(X[:seen]).double()
    mean = A.mean(0)
    A = A - mean
    total = A.T @ A / len(A)
    L = torch.linalg.cholesky(total + shrink * total.trace() / len(total) * torch.eye(len(total)))
    Z = principal(X, seen)
    labels = kmeans(np.concatenate(Z[:seen]), K, 0)[1]
    for _ in range(rounds):
        member = torch.nn.functional.one_hot(torch.from_numpy(labels), K).double()
        M = (member.T @ A) / member.sum(0).clamp(min=1).sqrt()[:, None]  # M^T M: scatter between clusters
        half = torch.linalg.solve_triangular(L, M.T, upper=False)
        W = torch.linalg.solve_triangular(L.T, torch.linalg.eigh(half @ half.T)[1].flip(1)[:, : K - 1], upper=True)
        Z = [((x.double() - mean) @ W).float().numpy() for x in X]
        points = np.concatenate(Z[:seen])
        for _ in range(rounds):  # Lloyd, from the clusters so far
            sums, count = cluster_sums(points, labels, K)
            labels = assign(points, sums / np.maximum(count, 1)[:, None])[0]
    return Z


def noise_whitened(X: list[torch.Tensor], seen: int, graphs: Sequence[RegionGraph], shrink: float = 10) -> Arrays:
    """Minimum noise fraction (Green et al. 1988): principal directions after whitening the differences along edges."""
    width = X[0].shape[1]
    noise = torch.zeros(width, width, dtype=torch.float64)
    for graph in graphs[:seen]:
        D = graph.feature[graph.src] - graph.feature[graph.dst]
        noise += (D.T @ (D * graph.affinity[:, None])).double()
    noise += shrink * noise.trace() / width * torch.eye(width)
    values, vectors = torch.linalg.eigh(noise / noise.trace())
    whitening = (vectors * values.rsqrt() @ vectors.T).float()
    return principal([x @ whitening for x in X], seen)


def consensus(Z: Sequence[Arrays], seen: int, seed: int) -> Arrays:
    """k-means of the clusters that several coordinates give a node, each as a point of {0, 1}^k."""
    eye = np.eye(K, dtype=np.float32)
    parts = [by_kmeans(each, seen, seed) for each in Z]
    joint = [torch.from_numpy(np.concatenate([eye[part[i]] for part in parts], 1)) for i in range(len(parts[0]))]
    return by_kmeans(principal(joint, seen), seen, seed)


def by_borders(strength: float) -> Callable[[RegionGraph, View], torch.Tensor]:
    """Affinity of touching regions times exp(-strength b / median b), b the mean gradient along their border."""

    def weigh(graph: RegionGraph, view: View) -> torch.Tensor:
        n, R = graph.n, graph.regions.astype(np.int64)
        steep = gaussian_gradient_magnitude(view.image, 1.0)
        keys, values = [], []
        for first, second in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
            border = R[first] != R[second]
            a, b = R[first][border], R[second][border]
            keys.append(np.minimum(a, b) * n + np.maximum(a, b))
            values.append((steep[first] + steep[second])[border] / 2)
        pairs, member = np.unique(np.concatenate(keys), return_inverse=True)
        mean = np.bincount(member, np.concatenate(values)) / np.bincount(member)
        factor = np.exp(strength * (1 - mean / max(np.median(mean), 1e-6))).astype(np.float32)
        src, dst = graph.src.numpy(), graph.dst.numpy()
        edge = np.minimum(src, dst) * n + np.maximum(src, dst)
        place = np.searchsorted(pairs, edge).clip(max=len(pairs) - 1)
        return graph.affinity * torch.from_numpy(np.where(pairs[place] == edge, factor[place], 1).astype(np.float32))

    return weigh


def self_tuned(graph: RegionGraph, view: View) -> torch.Tensor:
    """exp(-d^2 / (s_i s_j)), s_i^2 the median squared length of the edges of i (after Zelnik-Manor & Perona 2004)."""
    d2, src = squared_lengths(graph.feature, graph.src, graph.dst), graph.src
    order = torch.argsort(d2)
    order = order[torch.argsort(src[order], stable=True)]
    loops = src == graph.dst
    order = order[~loops[order]]
    count = torch.bincount(src[~loops], minlength=graph.n)
    middle = (count.cumsum(0) - count + (count - 1).clamp(min=0) // 2).clamp(max=max(len(order) - 1, 0))
    width = torch.where(count > 0, d2[order][middle] if len(order) else torch.ones(graph.n), torch.ones(graph.n))
    return torch.exp(-d2 / (width[src] * width[graph.dst]).sqrt().clamp(min=1e-9))


def equal_weights(graph: RegionGraph, view: View) -> torch.Tensor:
    """1 for every edge."""
    return torch.ones_like(graph.affinity)


def more_filters(responses: Callable[[np.ndarray], list[np.ndarray]]) -> Callable[[View], Nodes]:
    """Nodes with further channels in the map of the classical filters."""

    def nodes(view: View) -> Nodes:
        assert view.nodes.blocks is not None
        values = np.stack(responses(view.image), axis=2).astype(np.float32)
        more = pool(FeatureMap(values=values, step=1.0, offset=0.0, shape=view.image.shape), view.nodes.regions)
        blocks = view.nodes.blocks + np.array([0, more.shape[1]])
        return replace(view.nodes, feature=np.concatenate([view.nodes.feature, more], axis=1), blocks=blocks)

    return nodes


def _eigenvalues(yy: np.ndarray, xx: np.ndarray, yx: np.ndarray) -> list[np.ndarray]:
    half, mean = np.sqrt(((yy - xx) / 2) ** 2 + yx**2), (yy + xx) / 2
    return [mean + half, mean - half]


def hessian(image: np.ndarray) -> list[np.ndarray]:
    """Eigenvalues (H, W) of the Hessian at each scale, larger first."""
    orders = (2, 0), (0, 2), (1, 1)
    return [
        value
        for s in SIGMAS
        for value in _eigenvalues(*(gaussian_filter(image, s, order=order) * s**2 for order in orders))
    ]


def structure(image: np.ndarray) -> list[np.ndarray]:
    """Roots of the eigenvalues (H, W) of the structure tensor at each scale, larger first."""
    found = []
    for s in SIGMAS:
        dy, dx = (gaussian_filter(image, max(s / 2, 0.7), order=order) * s for order in ((1, 0), (0, 1)))
        tensor = (gaussian_filter(product, s) for product in (dy * dy, dx * dx, dy * dx))
        found += [np.sqrt(np.maximum(value, 0)) for value in _eigenvalues(*tensor)]
    return found


def medians(image: np.ndarray) -> list[np.ndarray]:
    """Local medians (H, W) of 3 x 3 and 7 x 7 px of the smoothed image."""
    return [median_filter(gaussian_filter(image, 1), side) for side in (3, 7)]
