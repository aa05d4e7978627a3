"""Mean and standard deviation of bilinearly upsampled features over regions, without the (H, W, q) array.

Bilinear upsampling is linear in the token values V (h, w, q), so the mean over a region is a weighted sum of its
tokens. The second moment is quadratic and needs only products of tokens that are corners of one cell: a token with
itself, with its right, lower, lower-right and lower-left neighbour. The weights of both are first summed over the
region's pixels, so that each token is visited once per region.
"""

from __future__ import annotations

import numpy as np

from registry.base import FeatureMap, FeatureStack
from registry.numeric.compiled import at_once, compiled


def cells(length: int, tokens: int, step: float, offset: float) -> tuple[np.ndarray, np.ndarray]:
    """For each pixel of an axis: the cell's first token (length,) and the position in the cell, 0 <= f <= 1."""
    t = np.clip((np.arange(length) - offset) / step, 0, tokens - 1)
    first = np.minimum(t.astype(np.int64), max(tokens - 2, 0))
    return first, t - first


def upsample(features: FeatureMap | FeatureStack) -> np.ndarray:
    """The features of every pixel by bilinear interpolation, (H, W, q) float32. For per-pixel recipes; `pool` does not
    need it.
    """
    if isinstance(features, FeatureStack):
        return np.concatenate([upsample(each) for each in features.maps], axis=2)
    (h, w, _), (H, W) = features.values.shape, features.shape
    (i, fy), (j, fx) = (cells(n, m, features.step, features.offset) for n, m in ((H, h), (W, w)))
    V = features.values
    fy = fy.astype(np.float32)[:, None, None]
    fx = fx.astype(np.float32)[None, :, None]
    rows = V[i] * (1 - fy) + V[np.minimum(i + 1, h - 1)] * fy  # (H, w, q)
    return rows[:, j] * (1 - fx) + rows[:, np.minimum(j + 1, w - 1)] * fx  # (H, W, q)


def blocks(features: FeatureMap | FeatureStack) -> np.ndarray | None:
    """Number of channels that each map of a stack adds to the node features (maps,) int64; None for a single map."""
    return np.array([2 * each.q for each in features.maps]) if isinstance(features, FeatureStack) else None


def pool(features: FeatureMap | FeatureStack, regions: np.ndarray) -> np.ndarray:
    """Node features F_s: (n_s, 2q) float32, mean then population standard deviation per region; for a stack, those of
    all maps in order.

    regions: (H, W) int, labels 0 .. n_s - 1, none missing. A one-pixel region has standard deviation 0.
    """
    if isinstance(features, FeatureStack):
        return np.concatenate([pool(each, regions) for each in features.maps], axis=1)
    h, w, q = features.values.shape
    if features.step == 1 and features.offset == 0 and regions.shape == (h, w):
        return _pool_pixels(features.values, regions)
    values = features.values.reshape(h * w, q)
    centre = values[::16].mean(axis=0)  # squares are subtracted below
    V = np.empty_like(values)
    at_once(lambda part: np.subtract(values[part], centre, out=V[part]), len(V))
    (i, fy), (j, fx) = (
        cells(length, tokens, features.step, features.offset) for length, tokens in zip(regions.shape, (h, w))
    )
    pixels, starts = _by_region(regions.ravel(), int(regions.max()) + 1)
    pooled = np.empty((len(starts) - 1, 2 * q), np.float32)

    def rows(part: slice) -> None:
        _mean_and_deviation(V, centre, (h, w), i, fy, j, fx, pixels, starts[part.start : part.stop + 1], pooled[part])

    at_once(rows, len(pooled))
    return pooled


@compiled
def _by_region(regions: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The pixels (H W,) sorted by region, in image order, and the start of each of n (n + 1,): regions (H W,)."""
    starts = np.zeros(n + 1, np.int64)
    for region in regions:
        starts[region + 1] += 1
    for region in range(n):
        starts[region + 1] += starts[region]
    pixels, place = np.empty(len(regions), np.int32), starts.copy()
    for p in range(len(regions)):
        pixels[place[regions[p]]] = p
        place[regions[p]] += 1
    return pixels, starts


@compiled
def _mean_and_deviation(
    V: np.ndarray,
    centre: np.ndarray,
    grid: tuple[int, int],
    i: np.ndarray,
    fy: np.ndarray,
    j: np.ndarray,
    fx: np.ndarray,
    pixels: np.ndarray,
    starts: np.ndarray,
    pooled: np.ndarray,
) -> None:
    """Rows of `pooled` (n, 2q) from tokens V (h w, q) less their `centre` (q,).

    The pixels of row r are pixels[starts[r] : starts[r + 1]]; i, fy of each image row and j, fx of each column: cell
    and place in the cell.
    """
    (h, w), W, q, last = grid, len(j), V.shape[1], len(V) - 1
    mean, square = np.empty(q), np.empty(q)
    slot, tokens, weights = np.full(h * w, -1), np.empty(h * w, np.int64), np.empty((h * w, 6))
    corner = np.empty(4, np.int64)
    for r in range(len(pooled)):
        found, cell = 0, -1
        for p in pixels[starts[r] : starts[r + 1]]:
            y, x = p // W, p % W
            if i[y] * w + j[x] != cell:
                cell = i[y] * w + j[x]
                right, down = 1 if j[x] < w - 1 else 0, w if i[y] < h - 1 else 0
                for c, token in enumerate((cell, cell + right, cell + down, cell + right + down)):
                    if slot[token] < 0:
                        slot[token], tokens[found], weights[found] = found, token, 0
                        found += 1
                    corner[c] = slot[token]
            a, b, c, d = (1 - fy[y]) * (1 - fx[x]), (1 - fy[y]) * fx[x], fy[y] * (1 - fx[x]), fy[y] * fx[x]
            # weights of a token: its own, of its square, of twice the product with its right, lower, lower-right and
            # lower-left neighbour
            at = weights[corner[0]]
            at[0] += a
            at[1] += a * a
            at[2] += a * b
            at[3] += a * c
            at[4] += a * d
            at = weights[corner[1]]
            at[0] += b
            at[1] += b * b
            at[3] += b * d
            at[5] += b * c
            at = weights[corner[2]]
            at[0] += c
            at[1] += c * c
            at[2] += c * d
            at = weights[corner[3]]
            at[0] += d
            at[1] += d * d
        mean[:] = 0
        square[:] = 0
        for t in range(found):
            token, at = tokens[t], weights[t]
            slot[token] = -1
            own, right, lower = V[token], V[min(token + 1, last)], V[min(token + w, last)]
            opposite, left = V[min(token + w + 1, last)], V[min(token + w - 1, last)]
            first, same, to_right, to_lower, across, to_left = at[0], at[1], at[2], at[3], at[4], at[5]
            for k in range(q):
                beside = to_right * right[k] + to_lower * lower[k] + across * opposite[k] + to_left * left[k]
                mean[k] += first * own[k]
                square[k] += own[k] * (same * own[k] + 2 * beside)
        area = starts[r + 1] - starts[r]
        for k in range(q):
            own_mean = mean[k] / area
            pooled[r, k] = own_mean + centre[k]
            pooled[r, q + k] = np.sqrt(max(square[k] / area - own_mean * own_mean, 0.0))


def _pool_pixels(V: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """The same if every pixel is a token: V (H, W, q), regions (H, W)."""
    planes = V.transpose(2, 0, 1)
    if planes.strides[2] != planes.itemsize:  # channels beside one another
        planes = np.ascontiguousarray(planes)
    area = np.bincount(regions.ravel())
    pooled = np.empty((len(area), 2, len(planes)), np.float32)
    centre = planes[:, ::16, ::16].mean(axis=(1, 2), dtype=np.float64)  # squares are subtracted

    def moments_of(channels: slice) -> None:
        _moments_of_pixels(planes[channels], centre[channels], regions, area, pooled[:, :, channels])

    at_once(moments_of, len(planes))
    return pooled.reshape(len(area), -1)


@compiled
def _moments_of_pixels(
    planes: np.ndarray, centre: np.ndarray, regions: np.ndarray, area: np.ndarray, pooled: np.ndarray
) -> None:
    """Fill `pooled` (n, 2, q) with mean and deviation of planes (q, H, W) over the pixels of each region: regions
    (H, W); area (n,), px; centre (q,), near which the values lie. Takes channels in pairs, whose sums do not wait for
    each other; if q is odd, the last one twice."""
    q, H, W = planes.shape
    sums = np.empty((4, len(area)))  # of the two channels and of their squares
    for k in range(0, q, 2):
        pair = k, min(k + 1, q - 1)
        near, close = centre[pair[0]], centre[pair[1]]
        sums[:] = 0
        for y in range(H):
            values, others, labels = planes[pair[0], y], planes[pair[1], y], regions[y]
            x = 0
            while x < W:  # adjacent pixels of one region, whose sums stay in registers
                region = labels[x]
                a, b, aa, bb = sums[0, region], sums[1, region], sums[2, region], sums[3, region]
                while x < W and labels[x] == region:
                    apart, away = np.float64(values[x]) - near, np.float64(others[x]) - close
                    a += apart
                    b += away
                    aa += apart * apart
                    bb += away * away
                    x += 1
                sums[0, region], sums[1, region], sums[2, region], sums[3, region] = a, b, aa, bb
        for c in range(2):
            channel = pair[c]
            for r in range(len(area)):
                mean = sums[c, r] / area[r]
                pooled[r, 0, channel] = mean + centre[channel]
                pooled[r, 1, channel] = np.sqrt(max(sums[2 + c, r] / area[r] - mean * mean, 0.0))
