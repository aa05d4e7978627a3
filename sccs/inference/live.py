"""A slice with known nodes, for predictions during labelling, in which graphs and coordinates do not change."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from registry.clusterer.sparse import SparseHead
from registry.spg.graphs import RegionGraph
from sccs.data.pyramid import EMPTY
from sccs.data.volumes import Volume
from sccs.inference.blocks import Span
from sccs.inference.labels import fields_of, segment_slice
from sccs.inference.teach import seen_by
from sccs.model.fovs import label_counts
from sccs.model.model import Model
from sccs.model.teacher import Taught


@dataclass(frozen=True)
class Labelled:
    """Labelled nodes of a slice: points (N, d) float32 and classes (N,) int64, in every field of view (FOV) that sees a
    label. drawn: (N,) bool, whether the slice shows the node, not another FOV's."""

    points: np.ndarray
    classes: np.ndarray
    drawn: np.ndarray


@dataclass
class LiveSlice:
    """The n nodes of all FOVs of a slice, FOV by FOV.

    graphs: of the FOVs, with the rows and columns that each sees. clusters: (n,). regions: (Y, X) int32, the node of
    each pixel, -1 if not segmented.
    """

    graphs: list[tuple[Span, Span, RegionGraph]]
    clusters: np.ndarray
    regions: np.ndarray
    points: np.ndarray | None = None  # (n, d) float32, a head's coordinates

    @classmethod
    def of(cls, model: Model, volume: Volume, z: int) -> LiveSlice:
        """Slice z of the volume. Nodes are read from the cache, and stored there."""
        fields = fields_of(model, volume)
        found = segment_slice(model, volume, z, fields, keep=True, results=True)
        spans = {place: (y, x) for place, y, x in fields}
        graphs = [(*spans[place], result.graph) for place, result in found.results.items()]
        clusters = [result.assignment for result in found.results.values()]
        return cls(graphs, np.concatenate([np.zeros(0, np.uint8), *clusters]), found.regions())

    def know(self, head: SparseHead) -> None:
        """Compute the nodes' coordinates for a head, once."""
        if self.points is None:
            points = [head.points(graph) for _, _, graph in self.graphs]
            self.points = np.concatenate(points) if points else np.zeros((0, head.coordinates * len(head.hops)))

    def labelled(self, y: np.ndarray, x: np.ndarray, classes: np.ndarray, C: int) -> Labelled:
        """The nodes that labelled pixels (N,) touch, as in `sccs teach`."""
        assert self.points is not None  # `know` comes first
        at, own, start = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], 0
        for vertical, horizontal, graph in self.graphs:
            positions = seen_by(vertical, horizontal, y, x, classes)
            if positions is not None:
                counts = label_counts(graph, positions, C)
                nodes = np.flatnonzero(counts.sum(1))
                at.append(start + nodes)
                own.append(counts[nodes].argmax(1))
            start += graph.n
        nodes, kinds = np.concatenate(at), np.concatenate(own)
        return Labelled(self.points[nodes], kinds, np.isin(nodes, self.regions[y, x]))

    def probabilities(self, taught: Taught) -> np.ndarray:
        """P (n, C) float32 of the classes of a taught model."""
        assert self.points is not None  # `know` comes first
        head, start = taught.teacher.head, 0
        P = head.judge(self.points)
        for _, _, graph in self.graphs:
            here = slice(start, start + graph.n)
            P[here] = head.settle(graph, self.points[here], P[here])
            start += graph.n
        return taught.blended(P, self.clusters)

    def paint(self, values: np.ndarray) -> np.ndarray:
        """Values (n,) uint8 of the nodes as pixels (Y, X); `EMPTY` if not segmented."""
        return np.append(values, np.uint8(EMPTY))[self.regions]
