"""The fields of view (FOVs) that parts are fitted to: images, labels, and which of them is the anchor."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from registry.base import UserError
from registry.spg.graphs import Nodes, RegionGraph
from sccs.data.volumes import FOV, Dataset, Volume
from sccs.model.parts import Parts


def training_fovs(volumes: Iterable[Volume]) -> Iterator[FOV]:
    """The FOVs of all volumes, in order."""
    return (fov for volume in volumes for fov in volume.fovs())


def pooled(model: Parts, fov: FOV) -> Nodes:
    """The nodes of a FOV, from the cache if they are there, within the volume's mask if it has one. Raises UserError if
    the mask leaves none."""
    nodes = model.pool(fov.image)
    if fov.inside is None:
        return nodes
    if not (kept := nodes.within(fov.inside)).n:
        raise UserError(
            f"{fov.volume}: the mask leaves no superpixel of the field of view {fov.key}, as half of one must lie "
            "inside; use a mask with larger areas"
        )
    return kept


class TrainingImages:
    """The images (H, W) of all training FOVs, read again in each iteration over them."""

    def __init__(self, volumes: Sequence[Volume]):
        self.volumes = volumes

    def __iter__(self) -> Iterator[np.ndarray]:
        return (fov.image for fov in training_fovs(self.volumes))


class TrainingLabels:
    """For each of `TrainingImages`, positions (H, W) int32 of classes in the data set's order; -1: no label."""

    def __init__(self, dataset: Dataset):
        self.dataset = dataset

    def __iter__(self) -> Iterator[np.ndarray]:
        return (class_positions(fov, self.dataset.classes) for fov in training_fovs(self.dataset.train))


def class_positions(fov: FOV, classes: Mapping[int, str]) -> np.ndarray:
    """Positions (H, W) int32 of the classes of a FOV's labels in the order of `classes`; -1: no label."""
    positions = np.full(fov.image.shape, -1, np.int32)
    if fov.labels is not None:
        for position, code in enumerate(classes):
            positions[fov.labels == code] = position
    return positions


def label_counts(graph: RegionGraph | Nodes, positions: np.ndarray, C: int) -> np.ndarray:
    """Pixels (n_s, C) int64 of each class in each node, from positions (H, W) of `class_positions`."""
    seen = (positions >= 0) & (graph.regions >= 0)
    cells = graph.regions[seen].astype(np.int64) * C + positions[seen]
    return np.bincount(cells, minlength=graph.n * C).reshape(graph.n, C)


def node_labels(graphs: Sequence[RegionGraph | Nodes], dataset: Dataset) -> list[np.ndarray]:
    """For each graph of the training FOVs, the pixels (n_s, C) int64 of each class in each node."""
    C = len(dataset.classes)
    return [label_counts(graph, positions, C) for graph, positions in zip(graphs, TrainingLabels(dataset))]


def check_labels(model: Parts, dataset: Dataset) -> None:
    """Raises UserError if a part needs labels but no training volume has any, or if clusters are classes and there are
    too few of them."""
    if model.clusterer.per_class and model.k < len(dataset.classes):
        raise UserError(f"clusterer.k: {model.k} is less than the data's {len(dataset.classes)} classes; increase it")
    if model.supervised and all(volume.labels is None for volume in dataset.train):
        raise UserError(
            f"data.train: {' and '.join(model.supervised)} needs labels for training, but no training "
            "volume has any; give `labels`, or use an unsupervised recipe such as sccs"
        )


def fit_features(model: Parts, dataset: Dataset) -> None:
    """Fit the features to the training images, and to their labels if the part is supervised."""
    images = TrainingImages(dataset.train)
    if model.features.supervised:
        model.features.fit(images, TrainingLabels(dataset))  # type: ignore[call-arg]  # registry.base.Part says so
    else:
        model.learn(images)


def anchor_score(fov: FOV, wanted: str | None) -> float:
    """The anchor is the FOV with the highest score: the one with the key `wanted`, else the one with the most diverse
    intensities (entropy of their histogram)."""
    if wanted is not None:
        return float(fov.key == wanted)
    counts, _ = np.histogram(fov.image, bins=64, range=(-4, 4))
    p = counts[counts > 0] / max(counts.sum(), 1)
    return float(-(p * np.log(p)).sum())
