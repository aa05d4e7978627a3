"""Mean and standard deviation of bilinearly upsampled features over regions, without the (H, W, q) array.

Bilinear upsampling is linear in the token values V (h, w, q), so the mean over a region is one sparse product
M V. The second moment is quadratic and needs only products of tokens that are corners of one cell: a token with
itself, with its right, lower, lower-right and lower-left neighbour: five sparse products. The weights of both are
sums over the region's pixels of polynomials in the pixel's place (f_y, f_x) inside its cell, so that one pass that
sums f_y^a f_x^b, a, b <= 2, per (region, cell) gives them all.
"""
from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Callable

import numpy as np
import torch
from scipy.sparse import coo_matrix, csr_matrix

from registry.base import FeatureMap, FeatureStack
from registry.compiled import compiled


def _cells(length: int, tokens: int, step: float, offset: float) -> tuple[np.ndarray, np.ndarray]:
    """For each pixel of an axis: the cell's first token (length,) and the place in the cell, 0 <= f <= 1."""
    t = np.clip((np.arange(length) - offset) / step, 0, tokens - 1)
    first = np.minimum(t.astype(np.int64), max(tokens - 2, 0))
    return first, t - first


def upsample(features: FeatureMap | FeatureStack) -> np.ndarray:
    """The features of every pixel, (H, W, q) float32. For tests and per-pixel recipes; pooling does without."""
    if isinstance(features, FeatureStack):
        return np.concatenate([upsample(each) for each in features.maps], axis=2)
    (h, w, _), (H, W) = features.values.shape, features.shape
    (i, fy), (j, fx) = (_cells(n, m, features.step, features.offset) for n, m in ((H, h), (W, w)))
    V = features.values
    fy = fy.astype(np.float32)[:, None, None]
    fx = fx.astype(np.float32)[None, :, None]
    rows = V[i] * (1 - fy) + V[np.minimum(i + 1, h - 1)] * fy  # (H, w, q)
    return rows[:, j] * (1 - fx) + rows[:, np.minimum(j + 1, w - 1)] * fx  # (H, W, q)


def blocks(features: FeatureMap | FeatureStack) -> np.ndarray | None:
    """Channels that each map of a stack gives to the node features (maps,) int64; None for a single map."""
    return np.array([2 * each.q for each in features.maps]) if isinstance(features, FeatureStack) else None


def pool(features: FeatureMap | FeatureStack, regions: np.ndarray) -> np.ndarray:
    """Node features F_s: (n_s, 2q) float32, mean then population standard deviation per region; of a stack, those of
    one map after the other.

    regions: (H, W) int, labels 0 .. n_s - 1, none missing. A one-pixel region has standard deviation 0.
    """
    if isinstance(features, FeatureStack):
        return np.concatenate([pool(each, regions) for each in features.maps], axis=1)
    h, w, q = features.values.shape
    if features.step == 1 and features.offset == 0 and regions.shape == (h, w):
        return _pool_pixels(features.values.reshape(h * w, q), regions.ravel())
    V = features.values.astype(np.float64)  # squares are subtracted below
    centre = V.mean(axis=(0, 1))
    V -= centre
    H, W = regions.shape
    (i, fy), (j, fx) = (_cells(n, m, features.step, features.offset) for n, m in ((H, h), (W, w)))
    n = int(regions.max()) + 1

    # sums over the pixels of each (region, cell) of fy^a fx^b
    key = (regions.astype(np.int64) * h + i[:, None]) * w + j[None, :]
    keys, member = np.unique(key.ravel(), return_inverse=True)
    region, cell = keys // (h * w), keys % (h * w)
    area = np.bincount(regions.ravel(), minlength=n)
    moments = _moments(member.reshape(H, W), fy, fx, len(keys)) / area[region]  # (3, 3, pairs)

    def expected(py: dict[int, float], px: dict[int, float]) -> np.ndarray:
        """The share of the region's mean of a product of polynomials in fy and fx, per (region, cell)."""
        return sum(cy * cx * moments[a, b] for a, cy in py.items() for b, cx in px.items())

    up, down = 1, w  # steps to the right and the lower token in the flattened grid
    right = np.where(cell % w < w - 1, up, 0)
    lower = np.where(cell // w < h - 1, down, 0)

    def matrix(parts) -> coo_matrix:
        rows = np.tile(region, len(parts))
        cols = np.concatenate([c for c, _ in parts])
        vals = np.concatenate([v for _, v in parts])
        return coo_matrix((vals, (rows, cols)), shape=(n, h * w)).tocsr()

    lo, hi = {0: 1.0, 1: -1.0}, {1: 1.0}  # 1 - f and f
    lo2, hi2, lohi = {0: 1.0, 1: -2.0, 2: 1.0}, {2: 1.0}, {1: 1.0, 2: -1.0}  # their products
    cross = expected(lohi, lohi)
    first = matrix([(cell, expected(lo, lo)), (cell + right, expected(lo, hi)),
                    (cell + lower, expected(hi, lo)), (cell + lower + right, expected(hi, hi))])
    second = {  # weights of V(token) * V(token moved by rows, columns)
        (0, 0): matrix([(cell, expected(lo2, lo2)), (cell + right, expected(lo2, hi2)),
                        (cell + lower, expected(hi2, lo2)), (cell + lower + right, expected(hi2, hi2))]),
        (0, 1): 2 * matrix([(cell, expected(lo2, lohi)), (cell + lower, expected(hi2, lohi))]),
        (1, 0): 2 * matrix([(cell, expected(lohi, lo2)), (cell + right, expected(lohi, hi2))]),
        (1, 1): 2 * matrix([(cell, cross)]),
        (1, -1): 2 * matrix([(cell + right, cross)]),
    }
    mean, square = np.empty((n, q)), np.empty((n, q))

    def moments_of(channels: slice) -> None:
        part = np.pad(V[:, :, channels], ((0, 1), (1, 1), (0, 0)))  # weights beyond the grid are zero
        tokens = np.ascontiguousarray(part[:h, 1 : w + 1])
        mean[:, channels] = first @ tokens.reshape(h * w, -1)
        product = np.empty_like(tokens)
        total = 0.0
        for (rows, columns), weights in second.items():
            np.multiply(tokens, part[rows : rows + h, 1 + columns : 1 + columns + w], out=product)
            total = total + weights @ product.reshape(h * w, -1)
        square[:, channels] = total

    _by_channels(moments_of, q, 32)
    pooled = np.empty((n, 2 * q), np.float32)
    np.add(mean, centre, out=pooled[:, :q], casting="same_kind")
    square -= np.square(mean, out=mean)
    np.sqrt(np.maximum(square, 0, out=square), out=pooled[:, q:], casting="same_kind")
    return pooled


@compiled
def _moments(member, fy, fx, n):
    """Sums (3, 3, n) over the pixels of each (region, cell) of fy^a fx^b: member (H, W), fy (H,), fx (W,)."""
    sums = np.zeros((n, 3, 3))
    for y in range(len(fy)):
        for x in range(len(fx)):
            down = 1.0
            for a in range(3):
                across = 1.0
                for b in range(3):
                    sums[member[y, x], a, b] += down * across
                    across *= fx[x]
                down *= fy[y]
    return sums.transpose(1, 2, 0).copy()


def _pool_pixels(V: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """The same where every pixel is a token: V (H W, q), regions (H W,)."""
    area = np.bincount(regions)
    membership = csr_matrix((1 / area[regions], (regions, np.arange(len(regions)))), shape=(len(area), len(regions)))
    q, centre = V.shape[1], V.mean(axis=0, dtype=np.float64)
    pooled = np.empty((len(area), 2 * q), np.float32)

    def moments_of(channels: slice) -> None:
        part = np.ascontiguousarray(V[:, channels], np.float64)
        mean = membership @ part
        part -= centre[channels]
        square = membership @ np.square(part, out=part)
        square -= np.square(mean - centre[channels])
        pooled[:, channels] = mean
        pooled[:, channels.start + q : channels.stop + q] = np.sqrt(np.maximum(square, 0))

    _by_channels(moments_of, q, 4)
    return pooled


def _by_channels(function: Callable[[slice], None], q: int, size: int) -> None:
    """Calls `function` with slices of so many of q channels, several at once: NumPy and SciPy let go of the lock, and
    that many channels fit into a processor's cache."""
    channels = [slice(start, min(start + size, q)) for start in range(0, q, size)]
    with ThreadPoolExecutor(torch.get_num_threads()) as pool_of_threads:
        list(pool_of_threads.map(function, channels))
