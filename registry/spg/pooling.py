"""Mean and standard deviation of bilinearly upsampled features over regions, without the (H, W, q) array.

Bilinear upsampling is linear in the token values V (h, w, q), so the mean over a region is one sparse product
M V. The second moment is quadratic and needs only products of tokens that are corners of one cell: a token with
itself, with its right, lower, lower-right and lower-left neighbour: five sparse products. The weights of both are
sums over the region's pixels of polynomials in the pixel's place (f_y, f_x) inside its cell, so that one pass that
sums f_y^a f_x^b, a, b <= 2, per (region, cell) gives them all.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix

from registry.base import FeatureMap, FeatureStack
from registry.numeric.compiled import at_once, compiled


def _cells(length: int, tokens: int, step: float, offset: float) -> tuple[np.ndarray, np.ndarray]:
    """For each pixel of an axis: the cell's first token (length,) and the place in the cell, 0 <= f <= 1."""
    t = np.clip((np.arange(length) - offset) / step, 0, tokens - 1)
    first = np.minimum(t.astype(np.int64), max(tokens - 2, 0))
    return first, t - first


def upsample(features: FeatureMap | FeatureStack) -> np.ndarray:
    """The features of every pixel by bilinear interpolation, (H, W, q) float32. For per-pixel recipes; `pool` does
    without.
    """
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
    V = features.values.astype(np.float64).reshape(h * w, q)  # squares are subtracted below
    centre = V.reshape(h, w, q).mean(axis=(0, 1))
    V -= centre
    first, second = _token_weights(features, regions)
    weights = [first, *second.values()]
    starts = np.stack([each.indptr for each in weights]).astype(np.int64)
    starts += np.concatenate([[0], np.cumsum(starts[:, -1])[:-1]])[:, None]
    columns = np.concatenate([each.indices for each in weights])
    values = np.concatenate([each.data for each in weights])
    partners = np.array([rows * w + columns for rows, columns in second])
    pooled = np.empty((starts.shape[1] - 1, 2 * q), np.float32)

    def rows(part: slice) -> None:
        _mean_and_deviation(V, centre, starts[:, part.start : part.stop + 1], columns, values, partners, pooled[part])

    at_once(rows, len(pooled))
    return pooled


def _token_weights(features: FeatureMap, regions: np.ndarray) -> tuple[csr_matrix, dict[tuple[int, int], csr_matrix]]:
    """Weights (n_s, h w) that give a region's mean: of tokens V, and of products of V with the token that lies so many
    (rows, columns) further on, which give the mean of the square."""
    (h, w, _), (H, W) = features.values.shape, regions.shape
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

    def matrix(*entries: tuple[np.ndarray, np.ndarray]) -> csr_matrix:
        """From (tokens, weights) of each (region, cell)."""
        tokens, weights = (np.concatenate(part) for part in zip(*entries))
        return coo_matrix((weights, (np.tile(region, len(entries)), tokens)), shape=(n, h * w)).tocsr()

    right = cell + np.where(cell % w < w - 1, 1, 0)  # the corners of a cell, in the flattened grid
    lower = cell + np.where(cell // w < h - 1, w, 0)
    opposite = lower + (right - cell)
    lo, hi = {0: 1.0, 1: -1.0}, {1: 1.0}  # 1 - f and f
    lo2, hi2, lohi = {0: 1.0, 1: -2.0, 2: 1.0}, {2: 1.0}, {1: 1.0, 2: -1.0}  # their products
    cross = expected(lohi, lohi)

    def corners(low: dict[int, float], high: dict[int, float]) -> csr_matrix:
        return matrix(
            (cell, expected(low, low)),
            (right, expected(low, high)),
            (lower, expected(high, low)),
            (opposite, expected(high, high)),
        )

    return corners(lo, hi), {
        (0, 0): corners(lo2, hi2),
        (0, 1): 2 * matrix((cell, expected(lo2, lohi)), (lower, expected(hi2, lohi))),
        (1, 0): 2 * matrix((cell, expected(lohi, lo2)), (right, expected(lohi, hi2))),
        (1, 1): 2 * matrix((cell, cross)),
        (1, -1): 2 * matrix((right, cross)),
    }


@compiled
def _mean_and_deviation(
    V: np.ndarray,
    centre: np.ndarray,
    starts: np.ndarray,
    columns: np.ndarray,
    values: np.ndarray,
    partners: np.ndarray,
    pooled: np.ndarray,
) -> None:
    """Rows of `pooled` (n, 2q) from tokens V (h w, q) less their `centre` (q,).

    Row r of weight matrix m has the entries starts[m, r] to starts[m, r + 1] of columns and values: of tokens for
    m = 0, then of products with the token `partners[m - 1]` further on (beyond the grid weights are zero, whatever is
    there).
    """
    n, q = pooled.shape[0], V.shape[1]
    mean, square, total = np.empty(q), np.empty(q), np.empty(q)
    for r in range(n):
        mean[:] = 0
        square[:] = 0
        for e in range(starts[0, r], starts[0, r + 1]):
            weight, token = values[e], V[columns[e]]
            for c in range(q):
                mean[c] += weight * token[c]
        for m in range(len(partners)):
            total[:] = 0
            for e in range(starts[m + 1, r], starts[m + 1, r + 1]):
                other = min(max(columns[e] + partners[m], 0), len(V) - 1)
                weight, token, partner = values[e], V[columns[e]], V[other]
                for c in range(q):
                    total[c] += weight * (token[c] * partner[c])
            for c in range(q):
                square[c] += total[c]
        for c in range(q):
            pooled[r, c] = mean[c] + centre[c]
            pooled[r, q + c] = np.sqrt(max(square[c] - mean[c] * mean[c], 0.0))


@compiled
def _moments(member: np.ndarray, fy: np.ndarray, fx: np.ndarray, n: int) -> np.ndarray:
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

    at_once(moments_of, q, 4)  # so many channels fit into a processor's cache
    return pooled
