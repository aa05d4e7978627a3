"""Labels of fields of view and of whole slices, by a trained model."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from sccs.data.planes import Plane, restored, turn_back
from sccs.data.pyramid import EMPTY
from sccs.data.volumes import PLANE_AT_ONCE, Volume
from sccs.inference import depth as slabs
from sccs.inference.blocks import Plan, Span
from sccs.inference.source import Mask, open_mask, open_volume
from sccs.inference.stitch import stitched
from sccs.model.model import Model


def label_fov(
    model: Model,
    volume: Volume,
    mask: Mask | None,
    table: np.ndarray,
    z: int,
    y: Span,
    x: Span,
    image: np.ndarray | None = None,
) -> np.ndarray:
    """Labels (h, w) uint8 of all that one FOV sees of slice z of the region; `image`: its pixels, if they are there.

    `EMPTY` where the mask is 0, and throughout where nothing is to be written at the FOV's centre: it is outside of
    the mask or of one grey value.
    """
    inside = None if mask is None else mask(z, slice(y.low, y.high), slice(x.low, x.high))
    empty = np.full((y.high - y.low, x.high - x.low), EMPTY, np.uint8)
    if inside is not None and not inside[y.core, x.core].any():
        return empty
    if image is None:
        image = volume.read_window(volume.origin[0] + z, slice(y.low, y.high), slice(x.low, x.high))
    core = image[y.core, x.core]
    if core.min() == core.max():
        return empty
    labels = table[model.segment_fov(np.ascontiguousarray(image)).clusters]
    return labels if inside is None else np.where(inside, labels, empty)


def segmented_planes(
    model: Model, volume: Volume, mask: Mask | None, table: np.ndarray, plan: Plan
) -> Iterator[np.ndarray]:
    """Labels (Y, X) of every slice, one after the other: what the blocks of `sccs.inference.block_job` hold."""
    whole = plan.shape[1] * plan.shape[2] <= PLANE_AT_ONCE
    for z in range(plan.shape[0]):
        fovs = {}
        for i, y in enumerate(plan.y):
            if i == 0 or not whole:  # else the slice is in memory
                rows = slice(0, plan.shape[1]) if whole else slice(y.low, y.high)
                image, top = volume.read_window(volume.origin[0] + z, rows, slice(0, plan.shape[2])), rows.start
            for j, x in enumerate(plan.x):
                view = image[y.low - top : y.high - top, x.low : x.high]
                fovs[i, j] = label_fov(model, volume, mask, table, z, y, x, view)[None]

        def read(i: int, j: int, rows: slice, columns: slice) -> np.ndarray:
            top, left = plan.y[i].low, plan.x[j].low
            return fovs[i, j][:, rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]

        plane = np.empty(plan.shape[1:], np.uint8)
        for i, j in fovs:
            y, x = plan.y[i], plan.x[j]
            plane[y.start : y.stop, x.start : x.stop] = stitched(i, j, plan.y, plan.x, plan.halo, read, EMPTY)[0]
        yield plane


def slice_labels(
    model: Model,
    settings: Mapping[str, Any],
    plane: Plane,
    depth: float | None,
    table: np.ndarray,
    watch: Callable[[Iterable[np.ndarray], int], Iterable[np.ndarray]] = lambda planes, total: planes,
) -> Iterator[np.ndarray]:
    """Labels (Y, X) of the region's slices, by planes of another axis or with edges between slices.

    As with blocks, `EMPTY` where the mask is 0 and in FOVs of one grey value. A few planes are in memory; labels of
    other planes than xy are gathered in a temporary file. watch(planes, total) passes planes on and shows the progress.
    """
    volume, mask = open_volume(settings, model.min_side, plane=plane), open_mask(settings, plane)
    everything = slice(0, volume.shape[1]), slice(0, volume.shape[2])

    @functools.lru_cache(maxsize=2 * slabs.REACH + 2)  # those that depth looks ahead to
    def inside(z: int) -> np.ndarray:
        if mask is None:
            return np.ones(volume.shape[1:], bool)
        return mask(z - volume.origin[0], *everything)

    clusters = plane_clusters(model, volume, inside)
    if depth is not None:
        clusters = slabs.segment_slices(model, volume, depth, inside=inside)
    codes = np.full(256, EMPTY, np.uint8)
    codes[: len(table)] = table
    labels = (
        np.where(inside(z), codes[found], EMPTY)
        for z, found in zip(volume.z_slices, watch(clusters, len(volume.z_slices)))
    )
    return restored(labels, turn_back(volume.shape, plane), plane)


def plane_clusters(model: Model, volume: Volume, inside: Callable[[int], np.ndarray]) -> Iterator[np.ndarray]:
    """Clusters (H, W) uint8 of every plane; `EMPTY` in FOVs that have no place inside, or one grey value."""
    fovs = volume.fovs()
    for z in volume.z_slices:
        plane = np.full(volume.shape[1:], EMPTY, np.uint8)
        for tile, fov in zip(volume.tiles, fovs):
            if inside(z)[tile.window].any() and fov.image.min() < fov.image.max():
                plane[tile.window] = model.segment_fov(fov.image).clusters
        yield plane
