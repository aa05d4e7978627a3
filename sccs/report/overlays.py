"""Pictures of a slice as RGB arrays (H, W, 3) uint8: superpixels, spectral bases, clusters, classes, errors."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import numpy as np

from sccs.evaluation.tables import rest_position
from sccs.report.views import SHOWN_BASES, SliceView
from sccs.system.colours import PALE, REST, WRONG, cluster_colours, colourise, rgb, to_grey

OUTLINE = "#ffd24a"

WIDEST_BASIS = 600  # px of one basis in a mosaic


def grey(image: np.ndarray) -> np.ndarray:
    """(H, W) -> (H, W, 3) uint8 (see `to_grey`)."""
    return np.repeat(to_grey(image)[..., None], 3, axis=2)


def outlines(regions: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels whose right or lower neighbour belongs to another region; one pixel thin."""
    edge = np.zeros(regions.shape, dtype=bool)
    edge[:, :-1] |= regions[:, :-1] != regions[:, 1:]
    edge[:-1] |= regions[:-1] != regions[1:]
    return edge


def superpixel_overlay(view: SliceView, inset: bool = True) -> np.ndarray:
    """Thin superpixel outlines on the image, with an inset that magnifies the most structured spot threefold."""
    out = _outlined(view.image, view.regions, alpha=0.5)
    side = min(view.image.shape) // 7
    if not inset or side < 16:
        return out
    y, x = _busiest(view.image, side)
    place = (slice(y, y + side), slice(x, x + side))
    zoomed = _outlined(enlarge(view.image[place], 3), enlarge(view.regions[place], 3), alpha=0.9)
    _frame(out, y, x, side, side)
    out[-len(zoomed) :, -len(zoomed) :] = zoomed
    _frame(out, len(out) - len(zoomed), out.shape[1] - len(zoomed), len(zoomed), len(zoomed), width=2)
    return out


def _outlined(image: np.ndarray, regions: np.ndarray, alpha: float) -> np.ndarray:
    out = grey(image).astype(np.float32)
    edge = outlines(regions)
    out[edge] = (1 - alpha) * out[edge] + alpha * np.array(rgb(OUTLINE), dtype=np.float32)
    return out.astype(np.uint8)


def _busiest(image: np.ndarray, side: int) -> tuple[int, int]:
    """Corner of the (side, side) window of greatest contrast, clear of the inset in the lower right corner."""
    H, W = image.shape
    best, corner = -1.0, (0, 0)
    for y in range(0, H - side + 1, side):
        for x in range(0, W - side + 1, side):
            contrast = float(image[y : y + side, x : x + side].std())
            if contrast > best and not (y + side > H - 3 * side and x + side > W - 3 * side):
                best, corner = contrast, (y, x)
    return corner


def enlarge(image: np.ndarray, times: int) -> np.ndarray:
    """Repeat every pixel of an image (H, W[, 3]) `times` times along both axes."""
    return image.repeat(times, axis=0).repeat(times, axis=1)


def _frame(out: np.ndarray, y: int, x: int, height: int, width_px: int, width: int = 1) -> None:
    """Draw a white rectangle in place."""
    for far in range(width):
        out[y + far, x : x + width_px] = out[y + height - 1 - far, x : x + width_px] = 255
        out[y : y + height, x + far] = out[y : y + height, x + width_px - 1 - far] = 255


def basis_map(view: SliceView, column: int, alpha: float = 0.72) -> np.ndarray:
    """Heat map of one spectral basis over the image (Figure 2). `column` counts the stored ones, 0..len(columns)-1."""
    # per superpixel, then painted: floats per pixel would take several times as long
    tint = np.append(_heat(np.nan_to_num(view.bases[:, column]), view.areas), [_heat_colours()[128]], axis=0)
    tint = np.rint(256 * alpha * tint).astype(np.uint16)
    below = np.arange(256) * round(256 * (1 - alpha))
    return ((tint[view.regions] + below.astype(np.uint16)[to_grey(view.image)][..., None]) >> 8).astype(np.uint8)


def _heat(values: np.ndarray, areas: np.ndarray) -> np.ndarray:
    """Colours (n, 3) in 0..255 of superpixels with `values` (n,) and `areas` (n,) in pixels: blue at the 2nd percentile
    of the pixels or lower, red at the 98th or higher."""
    low = high = 0.0
    if areas.any():
        order = np.argsort(values, kind="stable")
        reached = np.cumsum(areas[order])
        low, high = values[order[np.searchsorted(reached, reached[-1] * np.array([0.02, 0.98]))]].tolist()
    scaled = np.clip((values - low) / (high - low), 0, 1) if high > low else np.full(len(values), 0.5)
    return _heat_colours()[np.minimum(256 * scaled, 255).astype(np.uint8)]


@functools.cache
def _heat_colours() -> np.ndarray:
    from matplotlib import colormaps

    return 255 * colormaps["Spectral_r"](np.arange(256))[:, :3].astype(np.float32)


def basis_mosaic(Z: np.ndarray, regions: np.ndarray, columns: int = 4) -> np.ndarray:
    """The bases of highest variance side by side as one RGB image, each of at most `WIDEST_BASIS` px; Z (n, u), regions
    (H, W), -1: no superpixel."""
    step = -(-max(regions.shape) // WIDEST_BASIS)
    Z, regions = np.nan_to_num(np.asarray(Z, dtype=np.float64)), regions[::step, ::step]
    shown = np.sort(np.argsort(-Z.var(axis=0), kind="stable")[:SHOWN_BASES])
    areas = np.bincount(regions[regions >= 0], minlength=len(Z))
    tints = (np.append(_heat(Z[:, column], areas), [_heat_colours()[128]], axis=0) for column in shown)
    tiles = [tint.astype(np.uint8)[regions] for tint in tints]
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % columns)
    return np.concatenate([np.concatenate(tiles[i : i + columns], 1) for i in range(0, len(tiles), columns)])


def cluster_overlay(view: SliceView, k: int, alpha: float = 0.6) -> np.ndarray:
    """The k clusters in their colours over the image."""
    return colourise(view.cluster_image(), cluster_colours(k), view.image, alpha)


def class_overlay(view: SliceView, positions: np.ndarray, colours: Mapping[str, str], alpha: float = 0.6) -> np.ndarray:
    """positions: (H, W) from `class_image` or `truth_image`; colours: name -> hex, in the same order."""
    return colourise(positions, list(colours.values()), view.image, alpha)


def unsynchronised_overlay(view: SliceView, alpha: float = 0.6) -> np.ndarray | None:
    """k-means of each FOV alone (Figure 4c): a structure may change colour from FOV to FOV."""
    if view.kmeans_raw is None:
        return None
    k = int(max(view.kmeans_raw.max(), view.clusters.max())) + 1
    out = colourise(view.paint(view.kmeans_raw.astype(np.int32)), cluster_colours(k), view.image, alpha)
    if len(view.tiles) > 1:
        for y, x, height, width in view.tiles:
            _frame(out, y, x, min(height, len(out) - y), min(width, out.shape[1] - x))
    return out


def as_scored(predicted: np.ndarray, classes: Sequence[str], rest: str | None = None) -> np.ndarray:
    """Class positions (H, W) as scored: pixels without a class, or of an unlabelled class, become the rest class.

    `classes` are the labelled classes, which come first among the positions. Without a rest class nothing changes.
    """
    position = rest_position(classes, rest)
    if position is None:
        return predicted
    return np.where((predicted < 0) | (predicted >= len(classes)), position, predicted)


def error_colours(colours: Mapping[str, str]) -> dict[str, str]:
    """True class -> the colour of its wrong pixels: its own; wrong pixels of a rest class are false alarms, in red."""
    return {name: WRONG if name.strip().lower() in REST else colour for name, colour in colours.items()}


def error_map(view: SliceView, truth: np.ndarray, predicted: np.ndarray, colours: Mapping[str, str]) -> np.ndarray:
    """Wrong pixels in the colour of their true class (`error_colours`), right ones as a pale image.

    truth, predicted: (H, W) class positions; truth -1 is not scored and stays white.
    """
    out = (0.35 * grey(view.image) + 0.65 * np.array(rgb(PALE))).astype(np.uint8)
    for position, colour in enumerate(error_colours(colours).values()):
        out[(truth == position) & (predicted != position)] = rgb(colour)
    out[truth < 0] = 255
    return out


def doubt_map(view: SliceView) -> np.ndarray:
    """(H, W, 3) uint8: how unsure a taught run is of each superpixel, black where it is sure."""
    assert view.doubt is not None  # checked by the caller
    shade = np.rint(255 * view.paint(view.doubt.astype(np.float64), outside=0).clip(0, 1)).astype(np.uint8)
    return np.repeat(shade[..., None], 3, axis=2)
