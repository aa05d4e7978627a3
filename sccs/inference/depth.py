"""Depth: segmentation with edges between the superpixel graphs of neighbouring slices.

A model is trained, and by default applied, slice by slice. Here the graphs of a slice and of its neighbours are joined
(registry.spg.slab): the trained embedding, linear in the graph, then propagates along z as it does in the plane, and
the head clusters the nodes of the middle slice. Nothing is trained anew, there is no eigensolver, and a slice depends
on its neighbours' images alone, not on the order in which slices are segmented.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import torch

from registry.base import UserError
from registry.spg.affinity import AffinityGraph
from registry.spg.graphs import RegionGraph
from registry.spg.slab import Link, joined, link
from sccs.data.pyramid import EMPTY
from sccs.data.volumes import Volume
from sccs.model.model import Model

REACH = 2  # slices on either side
T = TypeVar("T")


def check_depth(model: Model, weight: float) -> None:
    """Raises UserError for models whose embedding edges cannot change, and for weights that are no weights."""
    if not 0 < weight < float("inf"):
        raise UserError(f"--depth: the weight of edges between slices must be above 0, not {weight:g}")
    if not isinstance(model.graph, AffinityGraph):
        raise UserError(
            f"--depth: graph {model.name_of('graph')!r} has no kernel for edges between slices; leave --depth out"
        )
    if model.name_of("embedder") == "identity":
        raise UserError("--depth: embedder 'identity' does not look at edges, so depth changes nothing; leave it out")


@torch.no_grad()
def segment_slices(
    model: Model, volume: Volume, weight: float, reach: int = REACH, inside: Callable[[int], np.ndarray] | None = None
) -> Iterator[np.ndarray]:
    """Clusters (Y, X) uint8 of every used slice of a volume, as `Pipeline.segment_slices` gives them, with depth.

    Slices are neighbours where they are in the file; up to `reach` on either side are joined. In memory are the graphs
    of 2 reach + 1 slices. Raises UserError as `check_depth` does.

    inside: of z, where (Y, X) bool labels are wanted. Then fields of view without such a place, and those of one grey
    value, are 255, "not segmented".
    """
    check_depth(model, weight)
    builder = model.graph
    assert isinstance(builder, AffinityGraph)
    fovs = volume.fovs()
    layers: dict[int, list[RegionGraph | None]] = {}  # position of a slice -> the graphs of its tiles
    links: dict[int, list[Link | None]] = {}  # position of a slice -> of its tiles, to the next slice
    flat: dict[int, list[bool]] = {}  # position of a slice -> which of its tiles are of one grey value
    wanted: dict[int, list[bool]] = {}  # position of a slice -> which of its tiles have a place inside
    for position in range(len(volume.z_slices)):
        near = neighbourhood(volume.z_slices, position, reach)
        for passed in [old for old in layers if old < near.start]:
            for kept in (layers, links, flat, wanted):
                kept.pop(passed, None)
        for other in near:
            if other in layers:
                continue
            around = neighbourhood(volume.z_slices, other, reach)
            for each in around:
                if each not in wanted:
                    where = None if inside is None else inside(volume.z_slices[each])
                    wanted[each] = [where is None or bool(where[tile.window].any()) for tile in volume.tiles]
            layers[other], flat[other] = [], []
            for number in range(len(volume.tiles)):
                image = next(fovs).image
                needed = any(wanted[each][number] for each in around)
                layers[other].append(model.build(image, keep=False) if needed else None)
                flat[other].append(bool(image.min() == image.max()))
            if other > near.start:
                links[other - 1] = [
                    None if one is None or two is None else link(builder, one, two, weight)
                    for one, two in zip(layers[other - 1], layers[other])
                ]
        plane = np.full(volume.shape[1:], EMPTY, np.uint8)
        for number, tile in enumerate(volume.tiles):
            if wanted[position][number] and not (inside is not None and flat[position][number]):
                plane[tile.window] = segment_middle(
                    model,
                    _present(layers[other][number] for other in near),
                    _present(links[other][number] for other in near[:-1]),
                    position - near.start,
                )
        yield plane


def _present(items: Iterable[T | None]) -> list[T]:
    return [item for item in items if item is not None]


def neighbourhood(z_slices: Sequence[int], position: int, reach: int) -> range:
    """Positions of the slices around one, up to `reach` on either side, as far as each is next to the other."""
    first = last = position
    while first > max(0, position - reach) and z_slices[first] - z_slices[first - 1] == 1:
        first -= 1
    while last < min(len(z_slices) - 1, position + reach) and z_slices[last + 1] - z_slices[last] == 1:
        last += 1
    return range(first, last + 1)


def segment_middle(model: Model, graphs: Sequence[RegionGraph], links: Sequence[Link], middle: int) -> np.ndarray:
    """Clusters (H, W) uint8 of one of several neighbouring slices, given their graphs in order and the links."""
    start = sum(graph.n for graph in graphs[:middle])
    Z = model.embedder.embed(joined(graphs, links))[start : start + graphs[middle].n]  # (n_s, u)
    clusters = model.clusterer.predict(graphs[middle], Z).argmax(1)  # (n_s,)
    return clusters.to(torch.uint8).cpu().numpy()[graphs[middle].regions]
