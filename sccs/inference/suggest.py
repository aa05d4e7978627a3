"""Which superpixels to label next: those whose class would help a model most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from registry.numeric.choosing import mixed, spread
from registry.spg.graphs import RegionGraph
from registry.spg.principal import Coordinates
from sccs.data.planes import turn_back
from sccs.data.volumes import Volume, evenly
from sccs.inference.blocks import Span
from sccs.inference.labels import fields_of, of_one_grey, views
from sccs.model.model import Model
from sccs.model.teacher import doubt

MOST_SLICES = 8  # slices to examine, spread over the volumes
MOST_FOVS = 32  # FOVs of these slices, also spread
SIDE = 72  # px of a picture


@dataclass(frozen=True)
class Suggestion:
    """A pixel (z, y, x) of the file, inside a superpixel; doubt: 0 to 1, None if nothing was taught yet.

    image, mask: its surroundings in the plane, standardised, at most (SIDE, SIDE), and the superpixel in it.
    """

    volume: str
    z: int
    y: int
    x: int
    doubt: float | None
    image: np.ndarray = field(compare=False, repr=False)
    mask: np.ndarray = field(compare=False, repr=False)


@torch.no_grad()
def suggestions(model: Model, volumes: Sequence[Volume], n: int) -> list[Suggestion]:
    """The n superpixels of the volumes most worth labelling, most doubtful first.

    `telling` chooses them. Excludes labelled superpixels, and those written by another field of view.
    """
    found, graphs, assignments = [], [], []
    for volume, z, graph, y, x, assignment, image in _looked_at(model, volumes):
        found.append((volume, z, graph, y, x, image))
        graphs.append(graph)
        assignments.append(assignment)
    if not graphs:
        return []
    taught, seed = model.taught, model.recipe.seed
    coordinates = taught.teacher.head.coordinates_ if taught else Coordinates().fit(graphs)
    each = [coordinates.of(graph) for graph in graphs]
    inside = np.concatenate([_written(graph, volume, z, y, x) for volume, z, graph, y, x, _ in found])
    points, kinds = np.concatenate(each), np.concatenate(assignments)
    doubts = None
    if taught is None:
        left = np.flatnonzero(inside)
        chosen = left[telling(coordinates, points[left], kinds[left], None, n, seed)]
    else:
        heads = [taught.teacher.head.settle(g, p, taught.teacher.head.judge(p)) for g, p in zip(graphs, each)]
        P = taught.blended(np.concatenate(heads), kinds)
        doubts = doubt(P)
        known = {point.tobytes() for point in taught.teacher.head.points_}
        left = np.flatnonzero(inside & [point.tobytes() not in known for point in points])
        chosen = left[telling(coordinates, points[left], kinds[left], P[left], n, seed)]
        chosen = chosen[np.argsort(-doubts[chosen], kind="stable")]
    starts = np.cumsum([0] + [graph.n for graph in graphs])
    which = np.searchsorted(starts, chosen, side="right") - 1
    made = []
    for node, at in zip(chosen, which):
        volume, z, graph, y, x, image = found[at]
        own = int(node - starts[at])
        row, column = _pixel(graph, own)
        around = _around(image.shape, (row, column))
        _, top, left_ = volume.origin
        place = turn_back((z, top + y.low + row, left_ + x.low + column), volume.plane)
        said = None if doubts is None else float(doubts[node])
        there = int(place[0]), int(place[1]), int(place[2])
        made.append(Suggestion(volume.name, *there, said, image[around], graph.regions[around] == own))
    return made


def telling(
    coordinates: Coordinates, points: np.ndarray, kinds: np.ndarray, P: np.ndarray | None, n: int, seed: int
) -> np.ndarray:
    """Up to n nodes whose labels would help most, given their coordinates `points` and clusters `kinds` (N,).

    P: (N, C) probabilities of the taught classes: half of the nodes are the most doubtful ones, rare classes before
    frequent ones, spread over appearances; the other half is chosen by chance. None, if nothing was taught: equally
    many of each cluster, spread over appearances; with fewer nodes than clusters, of large clusters far apart.
    """
    soft = points * np.sqrt(coordinates.deviation_).ravel()
    if P is None:
        return spread(soft, kinds, n, seed)
    return mixed(soft[:, -coordinates.u :], P, doubt(P), n, seed)


def _looked_at(model: Model, volumes: Sequence[Volume]):  # type: ignore[no-untyped-def]  # yields seven values
    """(volume, z, graph, y, x, clusters (n_s,), image) of FOVs, spread over the volumes."""
    places = []
    for volume in volumes:
        fields = fields_of(model, volume)
        for z in evenly(volume.z_slices, max(1, MOST_SLICES // len(volumes))):
            places += [(volume, z, fields, place) for place, _, _ in fields]
    kept = {(id(volume), z, place) for volume, z, _, place in evenly(places, MOST_FOVS)}
    for volume, z, fields in {(id(v), z): (v, z, f) for v, z, f, _ in places}.values():
        if not any((id(volume), z, place) in kept for place, _, _ in fields):
            continue
        for place, y, x, image in views(volume, z, fields):
            if (id(volume), z, place) in kept and not of_one_grey(image, y, x):
                graph = model.build(np.ascontiguousarray(image))
                yield volume, z, graph, y, x, model.assign(graph, model.embedder.embed(graph)), image


def _written(graph: RegionGraph, volume: Volume, z: int, y: Span, x: Span) -> np.ndarray:
    """(n_s,) bool: the nodes whose centre the FOV writes, within the volume's mask."""
    at = graph.centroid.cpu().numpy()
    inside = np.ones(graph.n, bool)
    for axis, span in enumerate((y, x)):
        inside &= (at[:, axis] >= span.start - span.low) & (at[:, axis] < span.stop - span.low)
    if volume.mask is not None:
        tissue = volume.mask(z - volume.origin[0], slice(y.low, y.high), slice(x.low, x.high))
        inside &= tissue[tuple(at.astype(int).T)]
    return inside


def _pixel(graph: RegionGraph, node: int) -> tuple[int, int]:
    """The pixel of a node nearest to its centre, which may lie outside a bent region."""
    pixels = np.argwhere(graph.regions == node)
    middle = graph.centroid[node].cpu().numpy()
    row, column = pixels[np.square(pixels - middle).sum(1).argmin()]
    return int(row), int(column)


def _around(shape: Sequence[int], at: Sequence[int]) -> tuple[slice, ...]:
    """The window of `SIDE` px around a pixel, shifted to lie inside the image."""
    starts = [min(max(a - SIDE // 2, 0), max(side - SIDE, 0)) for a, side in zip(at, shape)]
    return tuple(slice(start, start + SIDE) for start in starts)
