"""The fields of view (FOVs) that a model is trained on: images, labels, and which of them is the anchor."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from registry.spg.graphs import Nodes, RegionGraph
from sccs.data.volumes import FOV, Dataset, Volume


def training_fovs(volumes: Iterable[Volume]) -> Iterator[FOV]:
    """The FOVs of all volumes, one after the other."""
    return (fov for volume in volumes for fov in volume.fovs())


class TrainingImages:
    """The images (H, W) of all training FOVs, read anew each time that one goes through them."""

    def __init__(self, volumes: Sequence[Volume]):
        self.volumes = volumes

    def __iter__(self) -> Iterator[np.ndarray]:
        return (fov.image for fov in training_fovs(self.volumes))


class TrainingLabels:
    """For each of `TrainingImages`, positions (H, W) int32 of classes in the data set's order; -1: no label."""

    def __init__(self, dataset: Dataset):
        self.dataset = dataset

    def __iter__(self) -> Iterator[np.ndarray]:
        for fov in training_fovs(self.dataset.train):
            positions = np.full(fov.image.shape, -1, np.int32)
            if fov.labels is not None:
                for position, code in enumerate(self.dataset.classes):
                    positions[fov.labels == code] = position
            yield positions


def node_labels(graphs: Sequence[RegionGraph | Nodes], dataset: Dataset) -> list[np.ndarray]:
    """For each graph (n_s, C) int64, the pixels of each class in each node."""
    C = len(dataset.classes)
    counts = []
    for graph, positions in zip(graphs, TrainingLabels(dataset)):
        seen = positions >= 0
        cells = graph.regions[seen].astype(np.int64) * C + positions[seen]
        counts.append(np.bincount(cells, minlength=graph.n * C).reshape(graph.n, C))
    return counts


def anchor_score(fov: FOV, wanted: str | None) -> float:
    """The anchor is the FOV of the highest score: the one asked for (its key), else the one whose intensities are most
    diverse (entropy of their histogram)."""
    if wanted is not None:
        return float(fov.key == wanted)
    counts, _ = np.histogram(fov.image, bins=64, range=(-4, 4))
    p = counts[counts > 0] / max(counts.sum(), 1)
    return float(-(p * np.log(p)).sum())
