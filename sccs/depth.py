"""Depth: segmentation with edges between the superpixel graphs of neighbouring slices.

A model is trained, and by default applied, slice by slice. Here the graphs of a slice and of its neighbours are joined
(registry.slab): the trained embedding, linear in the graph, then propagates along z as it does in the plane, and the
head clusters the nodes of the middle slice. Nothing is trained anew, there is no eigensolver, and a slice depends on
its neighbours' images alone, not on the order in which slices are segmented.
"""
from __future__ import annotations

from typing import Iterator, Sequence

import numpy as np
import torch

from registry.affinity import AffinityGraph
from registry.base import UserError
from registry.graphs import RegionGraph
from registry.slab import Link, joined, link
from sccs.data.volumes import Volume
from sccs.pipeline import Pipeline

REACH = 2  # slices on either side


def check_depth(model: Pipeline, weight: float) -> None:
    """Raises UserError for models whose embedding edges cannot change, and for weights that are no weights."""
    if not 0 < weight < float("inf"):
        raise UserError(f"--depth: the weight of edges between slices must be above 0, not {weight:g}")
    if not isinstance(model.graph, AffinityGraph):
        raise UserError(f"--depth: graph {model.recipe.graph.name!r} has no kernel for edges between slices; leave "
                        "--depth out")
    if model.recipe.embedder.name == "identity":
        raise UserError("--depth: embedder 'identity' does not look at edges, so depth changes nothing; leave it out")


@torch.no_grad()
def segment_slices(model: Pipeline, volume: Volume, weight: float, reach: int = REACH) -> Iterator[np.ndarray]:
    """Clusters (Y, X) uint8 of every used slice of a volume, as `Pipeline.segment_slices` gives them, with depth.

    Slices are neighbours where they are in the file; up to `reach` on either side are joined. In memory are the graphs
    of 2 reach + 1 slices. Raises UserError as `check_depth` does.
    """
    check_depth(model, weight)
    fovs = volume.fovs()
    layers: dict[int, list[RegionGraph]] = {}  # position of a slice -> the graphs of its tiles
    links: dict[int, list[Link]] = {}  # position of a slice -> of its tiles, to the next slice
    for position in range(len(volume.z_slices)):
        near = neighbourhood(volume.z_slices, position, reach)
        for passed in [old for old in layers if old < near.start]:
            del layers[passed]
            links.pop(passed, None)
        for other in near:
            if other not in layers:
                layers[other] = [model.build(next(fovs).image, keep=False) for _ in volume.tiles]
                if other > near.start:
                    pairs = zip(layers[other - 1], layers[other])
                    links[other - 1] = [link(model.graph, one, two, weight) for one, two in pairs]
        plane = np.zeros(volume.shape[1:], np.uint8)
        for number, tile in enumerate(volume.tiles):
            plane[tile.window] = segment_middle(model, [layers[other][number] for other in near],
                                                [links[other][number] for other in near[:-1]], position - near.start)
        yield plane


def neighbourhood(z_slices: Sequence[int], position: int, reach: int) -> range:
    """Positions of the slices around one, up to `reach` on either side, as far as each is next to the other."""
    first = last = position
    while first > max(0, position - reach) and z_slices[first] - z_slices[first - 1] == 1:
        first -= 1
    while last < min(len(z_slices) - 1, position + reach) and z_slices[last + 1] - z_slices[last] == 1:
        last += 1
    return range(first, last + 1)


def segment_middle(model: Pipeline, graphs: Sequence[RegionGraph], links: Sequence[Link], middle: int) -> np.ndarray:
    """Clusters (H, W) uint8 of one of several neighbouring slices, given their graphs in order and the links between."""
    start = sum(graph.n for graph in graphs[:middle])
    Z = model.embedder.embed(joined(graphs, links))[start:start + graphs[middle].n]  # (n_s, u)
    return model.clusterer.predict(graphs[middle], Z).argmax(1).to(torch.uint8).cpu().numpy()[graphs[middle].regions]
