"""Which graphs an iteration of the training sees: DGL's loader over the training graphs, in an order by seed alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from registry.spg.dgl_adapter import dgl
from registry.spg.graphs import RegionGraph


class Order(torch.utils.data.Sampler[int]):
    """Indices of n graphs for ever: a new permutation in every epoch, a function of seed and epoch.

    start: places that are passed over, so that a resumed training sees what one that was never stopped would see.
    """

    def __init__(self, n: int, seed: int, start: int = 0):
        self.n, self.seed, self.start = n, seed, start

    def __iter__(self) -> Iterator[int]:
        epoch, place = divmod(self.start, self.n)
        while True:
            yield from np.random.default_rng([self.seed, epoch]).permutation(self.n)[place:].tolist()
            epoch, place = epoch + 1, 0


def batches(graphs: Sequence[RegionGraph], size: int, seed: int, step: int = 0) -> Iterator[list[int]]:
    """Indices of the graphs of iteration `step` and of those after it, `size` at a time, drawn by DGL's loader."""
    loader = dgl.dataloading.GraphDataLoader(
        range(len(graphs)),
        collate_fn=list,
        batch_size=size,
        sampler=Order(len(graphs), seed, step * size),
        generator=torch.Generator(),  # torch's own random numbers stay the parts'
    )
    return iter(loader)


def embedded(
    embed: Callable[[RegionGraph], torch.Tensor], graphs: Sequence[RegionGraph], at_once: bool
) -> list[torch.Tensor]:
    """Z (n_s, u) of each graph; at_once: of all together, as one graph of `dgl.batch`."""
    if not at_once or len(graphs) == 1:
        return [embed(graph) for graph in graphs]
    return list(embed(RegionGraph.batch(graphs)).split([graph.n for graph in graphs]))
