"""A cluster's gallery: crops around its typical superpixels, its grey value, its place in a slice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from sccs.report.overlays import enlarge, grey, outlines
from sccs.report.views import SliceView
from sccs.system.colours import rgb

CROP = 72  # px, side of a crop in a cluster's gallery


class Crop(NamedTuple):
    """A crop of a slice: picture (2 side, 2 side, 3) uint8, and the slice."""

    picture: np.ndarray
    view: SliceView


def cluster_crops(
    views: Sequence[SliceView], cluster: int, colour: str, count: int = 8, side: int = CROP
) -> list[Crop]:
    """Up to `count` crops of `side` px around typical superpixels of a cluster, which is outlined.

    Typical means near the cluster's mean in the slice's spectral coordinates. Slices take turns, and centres are at
    least one crop apart, so that the crops cover more than one corner of one image.
    """
    queues = [_typical(view, cluster, side, count) for view in views]
    picked: list[Crop] = []
    for turn in range(count):
        for view, queue in zip(views, queues):
            if turn < len(queue) and len(picked) < count:
                picked.append(Crop(_crop(view, cluster, queue[turn], side, colour), view))
    return picked


def _typical(view: SliceView, cluster: int, side: int, count: int) -> list[tuple[int, int]]:
    """Centres (y, x) px of a cluster's typical superpixels, best first."""
    n = len(view.clusters)
    inside = view.regions >= 0
    ids = view.regions[inside]
    area = np.maximum(np.bincount(ids, minlength=n), 1)
    y, x = (np.bincount(ids, where, minlength=n) / area for where in np.nonzero(inside))
    members = np.flatnonzero((view.clusters == cluster) & (np.bincount(ids, minlength=n) > 0))
    coordinates = np.nan_to_num(view.bases[members].astype(np.float64))
    coordinates /= view.bases.std(axis=0) + 1e-12
    distance = np.linalg.norm(coordinates - coordinates.mean(axis=0), axis=1) if len(members) else np.zeros(0)
    centres: list[tuple[int, int]] = []
    for member in members[np.argsort(distance, kind="stable")]:
        here = (int(y[member]), int(x[member]))
        if all(max(abs(here[0] - a), abs(here[1] - b)) >= side for a, b in centres):
            centres.append(here)
            if len(centres) == count:
                break
    return centres


def _crop(view: SliceView, cluster: int, centre: tuple[int, int], side: int, colour: str) -> np.ndarray:
    corner = [int(np.clip(c - side // 2, 0, max(size - side, 0))) for c, size in zip(centre, view.image.shape)]
    place = tuple(slice(c, c + side) for c in corner)
    return framed(view.image[place], view.cluster_image()[place] == cluster, side, colour)


def framed(image: np.ndarray, mask: np.ndarray, side: int, colour: str) -> np.ndarray:
    """A crop (H, W) and a mask to outline, bool (H, W), at most `side` px -> (2 side, 2 side, 3) uint8."""
    out, mask = enlarge(grey(image), 2), enlarge(mask.astype(np.int8), 2)
    edge = outlines(mask)
    edge[1:] |= edge[:-1]
    out[edge] = rgb(colour)
    frame = np.full((2 * side, 2 * side, 3), 255, dtype=np.uint8)  # the image may be smaller than the crop
    frame[: out.shape[0], : out.shape[1]] = out
    return frame


def cluster_grey(views: Sequence[SliceView], cluster: int) -> float | None:
    """Mean grey of a cluster's pixels in standard deviations from the volume's mean; None for an empty cluster.

    Views of unstandardised uint8 images count as `to_grey` draws them.
    """
    pixels = np.concatenate([view.image[view.cluster_image() == cluster] for view in views] or [np.zeros(0)])
    return 6 * float(pixels.mean()) / 255 - 3 if pixels.size else None


def thumbnails(view: SliceView, nodes: Sequence[int], side: int = 32) -> np.ndarray:
    """Grey surroundings of superpixels, (n, side, side, 3) uint8; edge pixels repeat beyond the image."""
    half = side // 2
    image = np.pad(grey(view.image), ((half, half), (half, half), (0, 0)), mode="edge")
    places = ndimage.center_of_mass(np.ones(view.regions.shape), view.regions, list(nodes))
    out = np.empty((len(places), side, side, 3), np.uint8)
    for each, (y, x) in zip(out, places):
        each[:] = image[int(y) : int(y) + side, int(x) : int(x) + side]
    return out


def most_alike(views: Sequence[SliceView], k: int) -> list[int | None]:
    """For each cluster the most similar one; None for a cluster that no view contains, or a single cluster.

    Its mean spectral coordinates are the nearest, in standard deviations within clusters, over the bases stored in all
    views.
    """
    columns = sorted(set.intersection(*(set(view.columns.tolist()) for view in views))) if views else []
    kept = [view.bases[:, np.searchsorted(view.columns, columns)].astype(np.float64) for view in views]
    points = np.nan_to_num(np.concatenate(kept)) if kept else np.zeros((0, 0))
    clusters = np.concatenate([np.zeros(0, int), *(view.clusters for view in views)])
    there = np.flatnonzero(np.bincount(clusters, minlength=k))
    found: list[int | None] = [None] * k
    if len(there) < 2 or not columns:
        return found
    mean = np.stack([points[clusters == c].mean(0) for c in there])
    spread = np.stack([points[clusters == c].var(0) for c in there])
    apart = ((mean[:, None] - mean) ** 2 / (spread[:, None] + spread + 1e-12)).sum(-1)
    np.fill_diagonal(apart, np.inf)
    for cluster, near in zip(there, apart.argmin(1)):
        found[cluster] = int(there[near])
    return found


def cluster_place(view: SliceView, cluster: int, colour: str) -> np.ndarray:
    """Where a cluster is: its pixels in colour, all others paler."""
    out = (0.5 * grey(view.image) + 110).astype(np.uint8)
    here = view.cluster_image() == cluster
    out[here] = (0.35 * grey(view.image)[here] + 0.65 * np.array(rgb(colour))).astype(np.uint8)
    return out
