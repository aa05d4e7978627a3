"""Labelled superpixels, and the alternatives to SCCS's head on the same labels: named clusters, linear probe, forests
on pixels.

For `benchmarks.tables.few_labels`, which describes the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import registry
from benchmarks.harness import expanded, job
from registry.spg.graphs import RegionGraph
from sccs.data import load_dataset
from sccs.data.volumes import FOV, Dataset
from sccs.evaluation.scores import scores
from sccs.model.fovs import class_positions, label_counts, training_fovs
from sccs.system.log import quiet_log

BUDGETS = (3, 10, 30, 100)  # labelled superpixels of each class
Row = tuple[str, int, float]  # its name, labelled superpixels of each class (0: none; -1: all there are), DSC
FINE = {8: "sccs_plus", 32: "sccs_plus_fine"}  # clusters to be named
SPOTS = 8  # of each cluster, as in the report's gallery
MOST_PIXELS = 20_000  # to fit a forest to; labelled superpixels have more
FORESTS: dict[str, dict[str, Any]] = {  # as in scikit-image's example, and as in ilastik
    "skimage": {"n_estimators": 50, "max_depth": 10},
    "ilastik": {"n_estimators": 100},
}


@dataclass
class View:
    """A FOV: its graph, its image (H, W), the class of each pixel (H, W), -1 without a label, pixels of each class in
    each node (n_s, C), the cluster of each node and its spectral coordinates Z (n_s, u); its volume and slice."""

    graph: RegionGraph
    image: np.ndarray
    positions: np.ndarray
    counts: np.ndarray
    clusters: np.ndarray
    Z: np.ndarray
    slice: str = ""


@dataclass
class Set:
    """One data set with one seed: training and test views, names of classes, number of clusters."""

    train: list[View]
    test: list[View]
    classes: list[str]
    k: int
    pipeline: Any

    @property
    def truth(self) -> np.ndarray:
        """Class (N,) of all training nodes, one view after the other; -1: no labelled pixel."""
        counts = np.concatenate([view.counts for view in self.train])
        return np.where(counts.sum(1) > 0, counts.argmax(1), -1)

    def parted(self, values: np.ndarray) -> list[np.ndarray]:
        """Values of all training nodes, by view."""
        return np.split(values, np.cumsum([view.graph.n for view in self.train])[:-1])

    def dsc(self, classes: Sequence[np.ndarray]) -> float:
        """Mean DSC of predicted classes, one for each node of each test view."""
        table = np.zeros((len(self.classes), len(self.classes)), np.int64)
        for each, view in zip(classes, self.test):
            np.add.at(table, each, view.counts)
        return mean_dsc(table, self.classes)


def mean_dsc(table: np.ndarray, classes: list[str]) -> float:
    """Mean DSC of a confusion table (C, C), predicted against true classes of pixels."""
    return float(scores(table, np.arange(len(classes)), classes)["mean"]["dsc"])


def views_of(pipeline: Any, fovs: Iterator[FOV], dataset: Dataset) -> Iterator[View]:
    for fov in fovs:
        done = pipeline.segment_fov(fov.image)
        positions = class_positions(fov, dataset.classes)
        counts = label_counts(done.graph, positions, len(dataset.classes))
        image, slice_ = np.asarray(fov.image, np.float32), fov.key.rsplit(":", 2)[0]  # volume:z:y:x
        yield View(done.graph, image, positions, counts, done.assignment, done.Z, slice_)


def set_of(system: str, data: str, seed: int, size: str, overrides: Sequence[str] = ()) -> Set:
    """Train the system on the set, without labels, and compute the views of all of its images."""
    wanted = job(system, data, seed, size, overrides)
    pipeline = wanted.pipeline
    dataset = load_dataset(expanded(wanted.recipe["data"]), Path.cwd(), seed, pipeline.min_side)
    pipeline.fit(dataset, log=quiet_log())
    train, test = (
        list(views_of(pipeline, training_fovs(volumes), dataset)) for volumes in (dataset.train, dataset.test)
    )
    return Set(train, test, list(dataset.classes.values()), pipeline.k, pipeline)


# ------------------------------------------------------------------------------------------------------------- labels
def drawn(truth: np.ndarray, n: int, seed: int) -> np.ndarray:
    """n nodes of each class at random, or all if there are fewer; -1: not labelled. Larger draws of one seed contain
    the smaller ones."""
    rng = np.random.default_rng(seed)
    labels = np.full(len(truth), -1)
    for c in range(truth.max() + 1):
        members = rng.permutation(np.flatnonzero(truth == c))[:n]
        labels[members] = c
    return labels


def anywhere(truth: np.ndarray, total: int, seed: int) -> np.ndarray:
    """`total` nodes at random, regardless of class; -1: not labelled."""
    order = np.random.default_rng(seed).permutation(np.flatnonzero(truth >= 0))[:total]
    labels = np.full(len(truth), -1)
    labels[order] = truth[order]
    return labels


def drawn_pixels(views: Sequence[View], n: int, seed: int) -> np.ndarray:
    """Class of all nodes of the views; -1: not labelled. n pixels of each class and slice at random, or all if there
    are fewer, label the nodes that contain them, by majority; in a tie, the first class counts."""
    rng = np.random.default_rng(seed)
    found = [np.zeros_like(view.counts) for view in views]
    for slice_ in dict.fromkeys(view.slice for view in views):
        here = [i for i, view in enumerate(views) if view.slice == slice_]
        classes = np.concatenate([views[i].positions.ravel() for i in here])
        view_of = np.repeat(here, [views[i].positions.size for i in here])
        node_of = np.concatenate([views[i].graph.regions.ravel() for i in here])
        for c in range(views[here[0]].counts.shape[1]):
            for pixel in rng.permutation(np.flatnonzero(classes == c))[:n]:
                found[view_of[pixel]][node_of[pixel], c] += 1
    counts = np.concatenate(found)
    return np.where(counts.sum(1) > 0, counts.argmax(1), -1)


# ------------------------------------------------------------------------------------------------------ named clusters
def by_names(here: Set, mapping: np.ndarray) -> float:
    """DSC of clusters with classes (k,); -1: no class, so that of the nearest cluster with one is used."""
    Z, clusters = (np.concatenate([getattr(view, key) for view in here.train]) for key in ("Z", "clusters"))
    centres = np.stack([Z[clusters == c].mean(0) if (clusters == c).any() else Z.mean(0) for c in range(here.k)])
    named_ = np.flatnonzero(mapping >= 0)
    nearest = named_[((centres[:, None] - centres[named_]) ** 2).sum(2).argmin(1)]
    return here.dsc([mapping[nearest][view.clusters] for view in here.test])


def from_labels(here: Set, labels: np.ndarray) -> np.ndarray:
    """Class (k,) of each cluster by its labelled nodes; -1 without any."""
    clusters = np.concatenate([view.clusters for view in here.train])
    table = np.zeros((here.k, len(here.classes)), np.int64)
    np.add.at(table, (clusters[labels >= 0], labels[labels >= 0]), 1)
    return np.where(table.sum(1) > 0, table.argmax(1), -1)


def from_galleries(here: Set) -> np.ndarray:
    """The same by the `SPOTS` nodes nearest to each cluster's mean in spectral coordinates, views taking turns."""
    table = np.zeros((here.k, len(here.classes)), np.int64)
    for cluster in range(here.k):
        queues = []
        for view in here.train:
            members = np.flatnonzero(view.clusters == cluster)
            Z = view.Z[members] / (view.Z.std(0) + 1e-12)
            order = np.linalg.norm(Z - Z.mean(0), axis=1).argsort() if len(members) else []
            queues.append([view.counts[members[i]] for i in order])
        spots = [queue[turn] for turn in range(SPOTS) for queue in queues if turn < len(queue)][:SPOTS]
        for counts in spots:
            table[cluster, counts.argmax()] += counts.sum() > 0
    return np.where(table.sum(1) > 0, table.argmax(1), -1)


# -------------------------------------------------------------------------------------------------- forests on pixels
def skimage_features(image: np.ndarray) -> np.ndarray:
    from skimage.feature import multiscale_basic_features

    return multiscale_basic_features(image, sigma_min=1, sigma_max=16)


def ilastik_features(image: np.ndarray) -> np.ndarray:
    """ilastik's default set at all of its scales: smoothed, Laplacian, gradient magnitude, difference of Gaussians,
    eigenvalues of structure tensor and Hessian."""
    from scipy import ndimage as ndi
    from skimage.feature import hessian_matrix, hessian_matrix_eigvals, structure_tensor, structure_tensor_eigenvalues

    channels = [ndi.gaussian_filter(image, 0.3)]
    for sigma in (0.7, 1.0, 1.6, 3.5, 5.0, 10.0):
        channels += [
            ndi.gaussian_filter(image, sigma),
            ndi.gaussian_laplace(image, sigma),
            ndi.gaussian_gradient_magnitude(image, sigma),
            ndi.gaussian_filter(image, sigma) - ndi.gaussian_filter(image, 0.66 * sigma),
            *structure_tensor_eigenvalues(structure_tensor(image, 0.5 * sigma, order="rc")),
            *hessian_matrix_eigvals(hessian_matrix(image, sigma, order="rc", use_gaussian_derivatives=False)),
        ]
    return np.stack(channels, -1).astype(np.float32)


FEATURES: dict[str, Callable[[np.ndarray], np.ndarray]] = {"skimage": skimage_features, "ilastik": ilastik_features}


class Forest:
    """A forest on pixels; features of all images are computed once, before there are any labels."""

    def __init__(self, here: Set, features: str):
        self.here, self.kind = here, features
        self.train = [FEATURES[features](view.image) for view in here.train]
        self.test = [FEATURES[features](view.image) for view in here.test]

    def fit(self, labels: np.ndarray, seed: int) -> Any:
        """The forest, fitted to the pixels of labelled nodes."""
        from skimage.future import fit_segmenter
        from sklearn.ensemble import RandomForestClassifier

        X, y = [], []
        for view, features, known in zip(self.here.train, self.train, self.here.parted(labels)):
            of_pixel = np.append(known, -1)[view.graph.regions]  # -1 indexes the last entry: no region
            X.append(features[of_pixel >= 0])
            y.append(of_pixel[of_pixel >= 0] + 1)  # 0 would mean not labelled
        pixels, classes = np.concatenate(X), np.concatenate(y)
        kept = np.random.default_rng(seed).permutation(len(pixels))[:MOST_PIXELS]
        trees = RandomForestClassifier(**FORESTS[self.kind], n_jobs=torch.get_num_threads(), random_state=seed)
        return fit_segmenter(classes[kept], pixels[kept], trees)

    def score(self, labels: np.ndarray, seed: int) -> float:
        from skimage.future import predict_segmenter

        fitted, C = self.fit(labels, seed), len(self.here.classes)
        table = np.zeros((C, C), np.int64)
        for view, features in zip(self.here.test, self.test):
            seen = view.positions >= 0
            said = predict_segmenter(features[seen], fitted) - 1
            table += np.bincount(said * C + view.positions[seen], minlength=C * C).reshape(C, C)
        return mean_dsc(table, self.here.classes)


def probe(here: Set) -> float:
    """The supervised reference: every label of the training images, on the same features."""
    part: Any = registry.get("clusterer", "linear_probe")(k=len(here.classes))
    part.fit(
        [view.graph for view in here.train], [view.graph.feature for view in here.train], [v.counts for v in here.train]
    )
    return here.dsc([part.predict(view.graph, view.graph.feature).argmax(1).numpy() for view in here.test])


def rivals(here: Set, data: str, draw: int, size: str, system: str) -> Iterator[Row]:
    """The rows without SCCS's head, for one set and draw."""
    labels = {n: drawn(here.truth, n, draw) for n in BUDGETS}
    for k, name in FINE.items():
        clusters = here if name == system else set_of(name, data, draw, size)
        yield f"{k} clusters, named from galleries", 0, by_names(clusters, from_galleries(clusters))
        for n in BUDGETS:
            yield f"{k} clusters, named by the same labels", n, by_names(clusters, from_labels(clusters, labels[n]))
    yield "linear probe (supervised)", -1, probe(here)
    for kind in FEATURES:
        pixels = Forest(here, kind)
        for n in BUDGETS:
            yield f"forest on pixels, {kind}", n, pixels.score(labels[n], draw)
