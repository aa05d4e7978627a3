"""The graphs of each training iteration: DGL's loader over the training graphs, in an order set by the seed alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from registry.spg.dgl_adapter import dgl
from registry.spg.graphs import RegionGraph


class Order(torch.utils.data.Sampler[int]):
    """Endless indices of n graphs: a new permutation in every epoch, a function of seed and epoch.

    start: number of indices to skip, so that a resumed training continues exactly as an uninterrupted one.
    """

    def __init__(self, n: int, seed: int, start: int = 0):
        self.n, self.seed, self.start = n, seed, start

    def __iter__(self) -> Iterator[int]:
        epoch, place = divmod(self.start, self.n)
        while True:
            yield from np.random.default_rng([self.seed, epoch]).permutation(self.n)[place:].tolist()
            epoch, place = epoch + 1, 0


def batches(graphs: Sequence[RegionGraph], size: int, seed: int, step: int = 0) -> Iterator[list[int]]:
    """Indices of the graphs of iteration `step` and later ones, `size` at a time, drawn by DGL's loader."""
    loader = dgl.dataloading.GraphDataLoader(
        range(len(graphs)),
        collate_fn=list,
        batch_size=size,
        sampler=Order(len(graphs), seed, step * size),
        generator=torch.Generator(),  # leaves torch's global random numbers to the parts
    )
    return iter(loader)


def embedded(
    embed: Callable[[RegionGraph], torch.Tensor], graphs: Sequence[RegionGraph], at_once: bool
) -> list[torch.Tensor]:
    """Z (n_s, u) of each graph; at_once: computed for all together, as one graph of `dgl.batch`."""
    if not at_once or len(graphs) == 1:
        return [embed(graph) for graph in graphs]
    return list(embed(RegionGraph.batch(graphs)).split([graph.n for graph in graphs]))
