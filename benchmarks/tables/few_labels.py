"""What a few labels give: SCCS's teachable head beside a forest on pixels, on the same labelled superpixels.

    python -m benchmarks.tables.few_labels [--data platelet hela cdeep3m vnc phantom] [--draws 5] [--size quick|full]
                                           [--system sccs_plus] [--out benchmarks/results/SIZE] [--no-times]

Labelled superpixels are drawn from training images, n of each class, a new draw for each seed; what is scored are test
images, mean DSC over classes, of pixels pooled over all test images; fields of view touch (the paper's protocol). All
rows of a draw have the same labels, but for two kinds: error-driven clicks, where a simulated person starts with 3 a
class and then labels superpixels that the picture shows wrong, and `suggested`, where the tool says which superpixels
to label, knows no classes beforehand, and gets n times as many labels as there are classes; beside that the same number
drawn regardless of class.

The forest on pixels is that of `skimage.future.TrainableSegmenter` (its functions `fit_segmenter` and
`predict_segmenter`, which take several images) with pixels of the labelled superpixels, at most 20,000, its own
multi-scale features or ilastik's default set. Named clusters: each gets the class that most of its labelled
superpixels have, one without any that of the nearest cluster with some; `from galleries` is named by eight typical
superpixels, nearest to the cluster's mean in spectral coordinates, as the report's gallery has them, which are a crop
apart besides. Times: fitting again and predicting a slice of 2,000 x 2,000 px whose nodes and, for the forest, whose
pixel features are there. Writes OUT/few_labels.md, .csv, .json.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import registry
from benchmarks.harness import REAL, SETS, expanded, job
from benchmarks.pages import Origin, commit, markdown, mean_sd, named, publish
from registry.numeric.choosing import doubtful, spread
from registry.spg.graphs import RegionGraph
from sccs.data import load_dataset
from sccs.data.volumes import FOV, Dataset
from sccs.evaluation.scores import scores
from sccs.model.fovs import class_positions, label_counts, training_fovs
from sccs.model.teacher import HEADS, doubt
from sccs.system.exits import guard
from sccs.system.files import write_json
from sccs.system.log import quiet_log

COMMAND = "python -m benchmarks.tables.few_labels"
BUDGETS = (3, 10, 30, 100)  # labelled superpixels of each class
FINE = {8: "sccs_plus", 32: "sccs_plus_fine"}  # clusters to be named
SPOTS = 8  # of each cluster, as in the report's gallery
SIDE, TILE = 2000, 500  # px of the slice that is timed, and of its FOVs
MOST_PIXELS = 20_000  # that a forest is fitted to; labelled superpixels have more
FORESTS: dict[str, dict[str, Any]] = {  # as scikit-image's example has them, and as ilastik has
    "skimage": {"n_estimators": 50, "max_depth": 10},
    "ilastik": {"n_estimators": 100},
}


@dataclass
class View:
    """A FOV: its graph, its image (H, W), the class of each pixel (H, W), -1 where none, pixels of each class in each
    node (n_s, C), the cluster of each node and its spectral coordinates Z (n_s, u)."""

    graph: RegionGraph
    image: np.ndarray
    positions: np.ndarray
    counts: np.ndarray
    clusters: np.ndarray
    Z: np.ndarray


@dataclass
class Set:
    """Of one data set with one seed: training and test views, names of classes, number of clusters."""

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
        """Mean DSC of a class for each node of each test view."""
        table = np.zeros((len(self.classes), len(self.classes)), np.int64)
        for each, view in zip(classes, self.test):
            np.add.at(table, each, view.counts)
        return mean_dsc(table, self.classes)


def mean_dsc(table: np.ndarray, classes: list[str]) -> float:
    """Of pixels said to be of each class against what they are, (C, C)."""
    return float(scores(table, np.arange(len(classes)), classes)["mean"]["dsc"])


def views_of(pipeline: Any, fovs: Iterator[FOV], dataset: Dataset) -> Iterator[View]:
    for fov in fovs:
        done = pipeline.segment_fov(fov.image)
        positions = class_positions(fov, dataset.classes)
        counts = label_counts(done.graph, positions, len(dataset.classes))
        yield View(done.graph, np.asarray(fov.image, np.float32), positions, counts, done.assignment, done.Z)


def set_of(system: str, data: str, seed: int, size: str, overrides: Sequence[str] = ()) -> Set:
    """Train the system on the set, without labels, and look at all of its images."""
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
    """n nodes of each class at random, fewer where there are not as many; -1: not labelled. Larger draws of one seed
    hold the smaller ones."""
    rng = np.random.default_rng(seed)
    labels = np.full(len(truth), -1)
    for c in range(truth.max() + 1):
        members = rng.permutation(np.flatnonzero(truth == c))[:n]
        labels[members] = c
    return labels


def anywhere(truth: np.ndarray, total: int, seed: int) -> np.ndarray:
    """As many nodes, whatever their class."""
    order = np.random.default_rng(seed).permutation(np.flatnonzero(truth >= 0))[:total]
    labels = np.full(len(truth), -1)
    labels[order] = truth[order]
    return labels


class Taught:
    """A head of the registry, with the points of all nodes at hand, as a person who clicks has it."""

    def __init__(self, here: Set, head: str, seed: int):
        self.here, self.C = here, len(here.classes)
        self.head: Any = registry.get("clusterer", head)(k=self.C)
        if hasattr(self.head, "seed"):
            self.head.seed = seed
        self.head.begin_with([view.graph for view in here.train])
        self.points = {id(view): self.head.points(view.graph) for view in [*here.train, *here.test]}
        self.of_train = np.concatenate([self.points[id(view)] for view in here.train])

    def learn(self, labels: np.ndarray) -> None:
        known = labels >= 0
        self.head.learn(self.of_train[known], labels[known])

    def judged(self, views: Sequence[View]) -> list[np.ndarray]:
        """P (n_s, C) of each view."""
        return [
            self.head.settle(view.graph, points := self.points[id(view)], self.head.judge(points)) for view in views
        ]

    def score_of(self, labels: np.ndarray) -> float:
        """DSC after learning from these labels alone."""
        self.learn(labels)
        return self.here.dsc([P.argmax(1) for P in self.judged(self.here.test)])

    def errors(self, start: np.ndarray, truth: np.ndarray, seed: int) -> Iterator[tuple[int, np.ndarray]]:
        """(n, labels) for each budget: a person labels, a tenth more each time, superpixels whose colour is wrong, the
        larger the likelier."""
        rng, labels = np.random.default_rng(seed), start.copy()
        area = np.concatenate([view.counts.sum(1) for view in self.here.train]).astype(float)
        for n in BUDGETS:
            total = n * self.C
            while (have := int((labels >= 0).sum())) < total:
                self.learn(labels)
                said = np.concatenate([P.argmax(1) for P in self.judged(self.here.train)])
                wrong = np.flatnonzero((said != truth) & (truth >= 0) & (labels < 0))
                if not len(wrong):
                    break
                step = min(max(self.C, have // 10), total - have, len(wrong))
                picked = rng.choice(wrong, step, replace=False, p=area[wrong] / area[wrong].sum())
                labels[picked] = truth[picked]
            yield n, labels

    def suggested(self, truth: np.ndarray, seed: int) -> Iterator[tuple[int, np.ndarray]]:
        """(n, labels) for each budget: what the tool asks for, and a person answers where there is an answer.

        The choice is that of `sccs suggest`: spread over what there is to see at first, then what the head doubts, a
        third more each time.
        """
        views = self.here.train
        coordinates, clusters = self.head.coordinates_, np.concatenate([view.clusters for view in views])
        last = self.of_train[:, -coordinates.u :]
        labels, asked = np.full(len(truth), -1), truth < 0
        for n in BUDGETS:
            total = n * self.C
            while (have := int((labels >= 0).sum())) < min(total, int((truth >= 0).sum())):
                left = np.flatnonzero(~asked)
                step = total - have if not have else min(max(self.C, have // 3), total - have)
                if not have:
                    picked = left[spread(last[left] * coordinates.deviation_[-1], clusters[left], step, seed)]
                else:
                    P = np.concatenate(self.judged(views))[left]
                    soft = last[left] * np.sqrt(coordinates.deviation_[-1])
                    picked = left[doubtful(soft, P, doubt(P), step, seed)]
                labels[picked], asked[picked] = truth[picked], True
                self.learn(labels)
            yield n, labels


def by_names(here: Set, mapping: np.ndarray) -> float:
    """DSC of clusters with classes (k,); -1: no name, takes that of the nearest cluster that has one."""
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
    """A forest on pixels; features of all images are computed once, before any label is there."""

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
            of_pixel = np.append(known, -1)[view.graph.regions]  # -1 is the last: no region
            X.append(features[of_pixel >= 0])
            y.append(of_pixel[of_pixel >= 0] + 1)  # 0 would be: not labelled
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


# ------------------------------------------------------------------------------------------------------------ a table
Found = dict[tuple[str, str, int, int], float]  # by row, set, draw, budget (0: no label; -1: all labels)


def measured(data: str, draw: int, args: argparse.Namespace) -> Iterator[tuple[str, int, float]]:
    """(row, budget, DSC) of one set and draw."""
    here = set_of(args.system, data, draw, args.size)
    truth, C, first = here.truth, len(here.classes), HEADS[0]
    labels = {n: drawn(truth, n, draw) for n in BUDGETS}
    heads = {head: Taught(here, head, draw) for head in HEADS}
    for head, taught in heads.items():
        for n in BUDGETS:
            yield head, n, taught.score_of(labels[n])
    taught = heads[first]
    for n in BUDGETS:
        yield f"{first}, drawn regardless of class", n, taught.score_of(anywhere(truth, n * C, draw))
    for n, answered in taught.suggested(truth, draw):
        yield f"{first}, suggested", n, taught.score_of(answered)
    for n, clicked in taught.errors(labels[BUDGETS[0]], truth, draw):
        yield f"{first}, error-driven clicks", n, taught.score_of(clicked)
    for k, system in FINE.items():
        clusters = here if k == here.k else set_of(system, data, draw, args.size)
        yield f"{k} clusters, named from galleries", 0, by_names(clusters, from_galleries(clusters))
        for n in BUDGETS:
            yield f"{k} clusters, named by the same labels", n, by_names(clusters, from_labels(clusters, labels[n]))
    yield "linear probe (supervised)", -1, probe(here)
    for kind in FEATURES:
        pixels = Forest(here, kind)
        for n in BUDGETS:
            yield f"forest on pixels, {kind}", n, pixels.score(labels[n], draw)


def kept(data: str, draw: int, args: argparse.Namespace, out: Path) -> Found:
    """The same, from OUT/runs where this commit has measured it before."""
    path = out / "runs" / f"few_labels-{args.system}-{data}-s{draw}-{commit()}.json"
    if not path.exists():
        rows = []
        for row, n, value in measured(data, draw, args):
            rows.append((row, n, value))
            print(f"{data:9s} draw {draw} {row:40s} {n:3d}: {value:.3f}", flush=True)
        write_json(path, rows)
    return {(row, data, draw, n): value for row, n, value in json.loads(path.read_text())}


def probe(here: Set) -> float:
    """The supervised reference: every label of the training images, on the same features."""
    part: Any = registry.get("clusterer", "linear_probe")(k=len(here.classes))
    part.fit(
        [view.graph for view in here.train], [view.graph.feature for view in here.train], [v.counts for v in here.train]
    )
    return here.dsc([part.predict(view.graph, view.graph.feature).argmax(1).numpy() for view in here.test])


def seconds(system: str, data: str, size: str, rounds: int = 3) -> dict[str, float]:
    """Least of a few times that fitting anew to 30 labels a class and predicting a slice of SIDE x SIDE px takes, the
    set's first test image continued by reflection; its nodes, and the features of its pixels, are there."""
    from skimage.future import predict_segmenter

    here = set_of(system, data, 0, size)
    labels = drawn(here.truth, 30, 0)
    image = here.test[0].image
    slice_ = np.pad(image, [(0, max(SIDE - n, 0)) for n in image.shape], mode="symmetric")[:SIDE, :SIDE]
    found = {}
    taught = Taught(here, HEADS[0], 0)
    tiles = [slice_[y : y + TILE, x : x + TILE] for y in range(0, SIDE, TILE) for x in range(0, SIDE, TILE)]
    graphs = [here.pipeline.segment_fov(np.ascontiguousarray(tile)).graph for tile in tiles]
    points = [taught.head.points(graph) for graph in graphs]

    def click() -> None:
        taught.learn(labels)
        for graph, known in zip(graphs, points):
            taught.head.settle(graph, known, taught.head.judge(known)).argmax(1)[graph.regions]

    found["SCCS"] = least(click, rounds)
    for kind in FEATURES:
        forest = Forest(here, kind)
        features = FEATURES[kind](slice_).reshape(SIDE * SIDE, -1)
        found[f"forest on pixels, {kind}"] = least(lambda: predict_segmenter(features, forest.fit(labels, 0)), rounds)
    return found


def least(what: Callable[[], object], rounds: int) -> float:
    """Seconds."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        what()
        times.append(time.perf_counter() - start)
    return min(times)


def over_real(found: Found, row: str, n: int) -> list[float]:
    """By draw, the mean of the real sets; only draws that have them all."""
    sets = [data for data in dict.fromkeys(d for _, d, _, _ in found) if data in REAL]
    draws = sorted({draw for _, _, draw, _ in found})
    scores_ = [[found.get((row, data, draw, n)) for data in sets] for draw in draws]
    return [float(np.mean(each)) for each in scores_ if each and None not in each]  # type: ignore[arg-type]


def by_budget(found: Found) -> str:
    """A table of the means of the real sets."""
    budgets = [0, *BUDGETS, -1]
    heads = ["labels of each class", *("none" if n == 0 else "all" if n < 0 else str(n) for n in budgets)]
    rows = dict.fromkeys(row for row, *_ in found)
    return markdown(heads, [[row, *(mean_sd(over_real(found, row, n)) for n in budgets)] for row in rows])


def read(path: Path) -> Found:
    """The scores in a CSV of this script."""
    with open(path, newline="") as file:
        lines = [line for line in csv.DictReader(file) if line["labels"] != "seconds"]
    return {(e["row"], e["set"], int(e["draw"]), int(e["labels"])): float(e["value"]) for e in lines}


def page(found: Found, times: dict[str, float], system: str) -> str:
    """The text of OUT/few_labels.md."""
    rows = list(dict.fromkeys(row for row, *_ in found))
    text = (
        f"Mean DSC over classes on test images, mean of the real sets, ± standard deviation over draws. Features, "
        f"graphs and clusters of `{system}`; one configuration for all sets. Labelled superpixels come from training "
        f"images. `suggested`, `error-driven clicks` and `drawn regardless of class` have as many labels in all, "
        "but not as many of each class.\n\n" + by_budget(found)
    )
    sets = list(dict.fromkeys(data for _, data, _, _ in found))
    for n in BUDGETS:
        lines = [
            [row, *(mean_sd([v for (r, d, _, m), v in found.items() if (r, d, m) == (row, data, n)]) for data in sets)]
            for row in rows
            if any((r, m) == (row, n) for r, _, _, m in found)
        ]
        text += f"\n\n## {n} labels of each class\n\n" + markdown(["system", *map(named, sets)], lines)
    if times:
        lines = [[row, f"{value:.2f}", f"{value / times['SCCS']:.0f}"] for row, value in times.items()]
        text += (
            f"\n\n## Fitting anew and predicting a slice of {SIDE} x {SIDE} px\n\n"
            "30 labels a class; nodes and pixel features are there. The least of three times, one after the other.\n\n"
        ) + markdown(["system", "seconds", "times SCCS"], lines)
    return text


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(COMMAND, description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--data", nargs="+", default=list(SETS), choices=SETS, metavar="SET")
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--size", choices=("quick", "full"), default="quick")
    parser.add_argument("--system", default="sccs_plus")
    parser.add_argument("--no-times", dest="times", action="store_false", help="where the machine is not quiet")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args(argv)
    found: Found = {}
    out = args.out or Path("benchmarks/results", args.size)
    for data in args.data:
        for draw in range(args.draws):
            found |= kept(data, draw, args, out)
    times = seconds(args.system, args.data[0], args.size) if args.times else {}
    values = [[row, data, draw, n, f"{value:.6f}"] for (row, data, draw, n), value in found.items()]
    values += [[row, args.data[0], "", "seconds", f"{value:.6f}"] for row, value in times.items()]
    heads = ["row", "set", "draw", "labels", "value"]
    options = " ".join(sys.argv[1:] if argv is None else argv)
    origin = Origin.here(f"{COMMAND} {options}".strip(), seeds=list(range(args.draws)))
    print(publish(out, "few_labels", "A few labels", origin, page(found, times, args.system), heads, values))
    return 0


if __name__ == "__main__":
    sys.exit(guard(main)())
