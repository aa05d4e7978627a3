"""Depth: segmentation with edges between the superpixel graphs of neighbouring slices.

A model is trained, and by default applied, slice by slice. Here the graphs of a slice and its neighbours are joined
(registry.spg.slab): the trained embedding, which is linear in the graph, then propagates along z as it does in the
plane, and the head clusters the nodes of the middle slice. There is no retraining and no eigensolver, and a slice
depends only on its neighbours' images, not on the order of segmentation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from registry.base import UserError
from registry.spg.affinity import AffinityGraph
from registry.spg.graphs import RegionGraph
from registry.spg.slab import Link, joined, link
from sccs.data.mask import Inside
from sccs.data.pyramid import EMPTY
from sccs.data.volumes import Volume
from sccs.inference.blocks import Fields, Place
from sccs.inference.labels import Shown, Slice, fields_of, masked, of_one_grey, views
from sccs.model.model import Model, Segmented

REACH = 2  # slices on either side
MOST_WEIGHT = 1e6  # beyond this, float32 sums lose the edges within slices


def check_depth(model: Model, weight: float) -> None:
    """Raises UserError for models whose embedding ignores edges, and for invalid weights."""
    if not 0 < weight <= MOST_WEIGHT:
        raise UserError(
            f"--depth: the weight of edges between slices must be above 0 and at most {MOST_WEIGHT:g}, not {weight:g}"
        )
    if not isinstance(model.graph, AffinityGraph):
        raise UserError(
            f"--depth: graph {model.name_of('graph')!r} has no kernel for edges between slices; leave --depth out"
        )
    if model.name_of("embedder") == "identity":
        raise UserError("--depth: embedder 'identity' ignores edges, so --depth has no effect; leave it out")


@torch.no_grad()
def segment_slices(
    model: Model,
    volume: Volume,
    weight: float,
    reach: int = REACH,
    fields: Fields | None = None,
    mask: Inside | None = None,
    shown: Shown | None = None,
) -> Iterator[np.ndarray]:
    """Labels (Y, X) uint8 of every used slice of a volume, as `sccs.inference.labels.segment_slices`, with depth.

    For a taught model, what is `shown` depends only on the slice's graph; depth changes the clusters underneath.

    Slices are neighbours if they are so in the file; up to `reach` on either side are joined, field of view by field of
    view. The graphs of 2 reach + 1 slices are in memory. Raises UserError as `check_depth` does.
    """
    check_depth(model, weight)
    builder = model.graph
    assert isinstance(builder, AffinityGraph)
    fields, mask = fields or fields_of(model, volume), mask or volume.mask
    # by position of the slice, then by FOV
    graphs: dict[int, dict[Place, RegionGraph]] = {}
    links: dict[int, dict[Place, Link]] = {}  # to the next slice
    written: dict[int, set[Place]] = {}  # FOVs that touch the mask and, as far as read, are not constant
    for position in range(len(volume.z_slices)):
        near = neighbourhood(volume.z_slices, position, reach)
        for kept in (graphs, links, written):
            for passed in [old for old in kept if old < near.start]:
                del kept[passed]
        for other in near:
            if other in graphs:
                continue
            around = neighbourhood(volume.z_slices, other, reach)
            for each in around:
                if each not in written:
                    written[each] = _with_places(volume, each, fields, mask)
            graphs[other] = {}
            for place, y, x, image in views(volume, volume.z_slices[other], fields):
                if of_one_grey(image, y, x):
                    written[other].discard(place)
                if any(place in written[each] for each in around):
                    graphs[other][place] = model.build(np.ascontiguousarray(image), keep=False)
            if other > near.start:
                one, two = graphs[other - 1], graphs[other]
                links[other - 1] = {
                    place: link(builder, one[place], two[place], weight) for place in one if place in two
                }
        found = Slice(fields)
        for place, y, x in fields:
            found.labels[place] = np.full((y.high - y.low, x.high - x.low), EMPTY, np.uint8)
            result = None
            if place in written[position]:
                result = segment_middle(
                    model,
                    [graphs[other][place] for other in near],
                    [links[other][place] for other in near[:-1]],
                    position - near.start,
                )
                inside = _inside(volume, position, mask, slice(y.low, y.high), slice(x.low, x.high))
                found.labels[place] = masked(result.clusters, inside)
            if shown is not None:
                found.shown[place] = shown.of(model, result, found.labels[place])
        yield found.plane()


def _inside(volume: Volume, position: int, mask: Inside | None, rows: slice, columns: slice) -> np.ndarray | None:
    return None if mask is None else mask(volume.z_slices[position] - volume.origin[0], rows, columns)


def _with_places(volume: Volume, position: int, fields: Fields, mask: Inside | None) -> set[Place]:
    """FOVs of a slice whose centre overlaps the mask."""
    centres = {place: (slice(y.start, y.stop), slice(x.start, x.stop)) for place, y, x in fields}
    inside = {place: _inside(volume, position, mask, *centre) for place, centre in centres.items()}
    return {place for place, where in inside.items() if where is None or where.any()}


def neighbourhood(z_slices: Sequence[int], position: int, reach: int) -> range:
    """Positions of the contiguous slices around one, up to `reach` on either side."""
    first = last = position
    while first > max(0, position - reach) and z_slices[first] - z_slices[first - 1] == 1:
        first -= 1
    while last < min(len(z_slices) - 1, position + reach) and z_slices[last + 1] - z_slices[last] == 1:
        last += 1
    return range(first, last + 1)


def segment_middle(model: Model, graphs: Sequence[RegionGraph], links: Sequence[Link], middle: int) -> Segmented:
    """One of several neighbouring slices, given their graphs in order and the links."""
    start = sum(graph.n for graph in graphs[:middle])
    Z = model.embedder.embed(joined(graphs, links))[start : start + graphs[middle].n]  # (n_s, u)
    assignment = model.assign(graphs[middle], Z)  # (n_s,)
    return Segmented(assignment[graphs[middle].regions], graphs[middle], Z.cpu().numpy(), assignment)
