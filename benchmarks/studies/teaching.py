"""Which head learns best from a few labels, and which labels help it most: the choices in `sccs teach` and `sccs
suggest`, made on training images alone.

    python -m benchmarks.studies.teaching [--part heads|suggestions] [--draws 3] [--data platelet hela cdeep3m vnc]

Labels are drawn in one half of the fields of view of a set's training images (two slices at most) and scored on the
superpixels of the other half, both ways: mean DSC over classes. `class by class`: n superpixels of each class; `as they
come`: the same number in all, whatever their class; `as suggested`: the same number, of superpixels that a rule asks
for, a third more each time, with 8 and with 32 clusters. Writes teaching.md, .csv, .json in
benchmarks/results/teaching, or suggesting.md, ...
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from benchmarks.harness import REAL, expanded, job
from benchmarks.pages import ROOT, Origin, markdown, publish, typed
from benchmarks.tables.few_labels import Rule, Taught
from benchmarks.tables.labelled import BUDGETS, Set, anywhere, drawn
from registry.numeric.choosing import doubtful, nearest_to_centres
from registry.spg.principal import Coordinates
from sccs.arguments import positive
from sccs.data import load_dataset
from sccs.inference.suggest import telling
from sccs.model.fovs import node_labels, training_fovs
from sccs.model.teacher import doubt
from sccs.system.exits import guard
from sccs.system.log import quiet_log

COMMAND = "python -m benchmarks.studies.teaching"
TITLE = "Which head learns best from a few labels"
TEXT = "Training images alone: labels in one half, scores on the other, both ways; mean DSC over classes and sets."
CLUSTERS = "clusterer={name: kmeans, k: 8}"  # what the clusterer of SCCS+ learns to imitate, used directly
ALIKE = {"prior": 0.0, "chosen": 0.0}  # all classes weigh the same
HEADS: dict[str, dict[str, Any]] = {  # of label_spreading, by the name in the table
    "logistic regression": {"base": "logistic", "smooth": 0.0, **ALIKE},
    "trees": {"base": "trees", "smooth": 0.0, **ALIKE},
    "both, by the number of labels": {"smooth": 0.0, **ALIKE},
    "the same, smoothed": ALIKE,
    "the same, classes by their sizes: `label_spreading`": {},
}
RULES: dict[str, Rule | None] = {  # of what to label next, by the name in the table; None: at random
    "as many of each cluster, then half by doubt, half by chance: `sccs suggest`": telling,
    "the same, chance decides which clusters come first": lambda *asked: by_chance(*asked),
    "as many of each cluster, then by doubt": lambda *asked: by_doubt(*asked),
    "k-means weighed by clusters, then as `sccs suggest`": lambda *asked: weighed(*asked),
    "as they come": None,
}
ASKED = {f"as suggested, {k} clusters": f"clusterer={{name: kmeans, k: {k}}}" for k in (8, 32)}
DRAWS = {"class by class": drawn, "as they come": lambda truth, n, seed: anywhere(truth, n * (truth.max() + 1), seed)}
Score = tuple[str, str, str, int, int, int, float]  # head or rule, labels, set, half, draw, n, DSC


def halves(data: str, system: str = "sccs_plus", changes: Sequence[str] = (CLUSTERS,)) -> Iterator[Set]:
    """Train on one half of the training images, score on the other; test images are not used."""
    of = job(system, data, 0, "full", ["data.max_train_slices=2", *changes])
    dataset = load_dataset(expanded(of.recipe["data"]), Path.cwd(), 0, of.pipeline.min_side)
    dataset.test = []
    of.pipeline.fit(dataset, log=quiet_log())
    graphs = [of.pipeline.build(fov.image) for fov in training_fovs(dataset.train)]
    views: list[Any] = [
        SimpleNamespace(graph=g, counts=c, clusters=of.pipeline.assign(g, of.pipeline.embedder.embed(g)))
        for g, c in zip(graphs, node_labels(graphs, dataset))
    ]
    one, other = views[: len(views) // 2], views[len(views) // 2 :]
    for train, test in ((one, other), (other, one)):
        yield Set(train, test, list(dataset.classes.values()), of.pipeline.k, of.pipeline)


def measured(data: str, draws: int) -> Iterator[Score]:
    """All scores of a set."""
    for half, here in enumerate(halves(data)):
        taught = Taught(here, "label_spreading", 0)
        default = taught.head.get_params()
        for name, arguments in HEADS.items():
            taught.head.set_params(**{**default, **arguments})
            for labels, draw_from in DRAWS.items():
                for draw in range(draws):
                    taught.head.seed = draw
                    for n in BUDGETS:
                        known = draw_from(here.truth, n, draw)
                        yield name, labels, data, half, draw, n, taught.score_of(known)


def by_doubt(
    coordinates: Coordinates, points: np.ndarray, kinds: np.ndarray, P: np.ndarray | None, n: int, seed: int
) -> np.ndarray:
    """An alternative to all later choices of `telling`: nothing by chance."""
    if P is None:
        return telling(coordinates, points, kinds, P, n, seed)
    last = points[:, -coordinates.u :] * np.sqrt(coordinates.deviation_[-1])
    return doubtful(last, P, doubt(P), n, seed)


def by_chance(
    coordinates: Coordinates, points: np.ndarray, kinds: np.ndarray, P: np.ndarray | None, n: int, seed: int
) -> np.ndarray:
    """An alternative to the first choice of `telling`: chance decides which clusters come first, if there are more of
    them than suggestions."""
    there = np.unique(kinds)
    if P is None and n < len(there):
        left = np.flatnonzero(np.isin(kinds, np.random.default_rng(seed).permutation(there)[:n]))
        return left[telling(coordinates, points[left], kinds[left], P, n, seed)]
    return telling(coordinates, points, kinds, P, n, seed)


def weighed(
    coordinates: Coordinates, points: np.ndarray, kinds: np.ndarray, P: np.ndarray | None, n: int, seed: int
) -> np.ndarray:
    """An alternative to the first choice of `telling`: k-means over all clusters, with each cluster weighted by the
    square root of its number of nodes."""
    if P is not None:
        return telling(coordinates, points, kinds, P, n, seed)
    _, at, count = np.unique(kinds, return_inverse=True, return_counts=True)
    last = points[:, -coordinates.u :] * coordinates.deviation_[-1]
    return nearest_to_centres(last, n, seed, 1 / np.sqrt(count[at]))


def of_rules(data: str, draws: int) -> Iterator[Score]:
    """Scores of a set for each rule that chooses labels."""
    for way, clusters in ASKED.items():
        for half, here in enumerate(halves(data, changes=(clusters,))):
            taught = Taught(here, "label_spreading", 0)
            for draw in range(draws):
                taught.head.seed = draw
                for name, rule in RULES.items():
                    drawn_ = ((n, anywhere(here.truth, n * taught.C, draw)) for n in BUDGETS)
                    for n, known in drawn_ if rule is None else taught.suggested(here.truth, draw, rule):
                        yield name, way, data, half, draw, n, taught.score_of(known)


def table(found: Sequence[Score], labels: str, names: Iterable[str] = tuple(HEADS)) -> str:
    """Mean DSC over sets of one way to draw labels, a row for each head or rule, a column for each number of labels."""
    rows = []
    for name in names:
        row = [name]
        for n in BUDGETS:
            of_sets: dict[str, list[float]] = {}
            for head, way, data, _, _, budget, value in found:
                if (head, way, budget) == (name, labels, n):
                    of_sets.setdefault(data, []).append(value)
            row.append(f"{np.mean([np.mean(values) for values in of_sets.values()]):.3f}")
        rows.append(row)
    return markdown([f"labels {'' if names is RULES else 'drawn '}{labels}", *map(str, BUDGETS)], rows)


def read(path: Path) -> list[Score]:
    """The scores in a CSV of this script."""
    with open(path, newline="") as file:
        _, *lines = csv.reader(file)
    return [
        (name, labels, data, int(half), int(draw), int(n), float(dsc))
        for name, labels, data, half, draw, n, dsc in lines
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(COMMAND, description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--part", default="heads", choices=("heads", "suggestions"))
    parser.add_argument("--draws", type=positive, default=3)
    parser.add_argument("--data", nargs="+", default=list(REAL), choices=REAL, metavar="SET")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "teaching", metavar="DIR")
    args = parser.parse_args(argv)
    heads = args.part == "heads"
    found = [score for data in args.data for score in (measured if heads else of_rules)(data, args.draws)]
    tables = [table(found, way) for way in DRAWS] if heads else [table(found, way, RULES) for way in ASKED]
    text = "\n\n".join([TEXT, *tables])
    name, title = ("teaching", TITLE) if heads else ("suggesting", "Which labels help a head most")
    columns = ["head" if heads else "rule", "labels", "set", "half", "draw", "n", "dsc"]
    origin = Origin.here(typed(COMMAND, argv), seeds=list(range(args.draws)))
    rows = [[*score[:-1], f"{score[-1]:.6f}"] for score in found]
    print(publish(args.out, name, title, origin, text, columns, rows))
    return 0


if __name__ == "__main__":
    sys.exit(guard(main)())
