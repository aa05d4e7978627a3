"""What a few labels give: SCCS's teachable head against a forest on pixels, on the same labelled superpixels.

    python -m benchmarks.tables.few_labels [--data platelet hela cdeep3m vnc phantom] [--draws 5] [--size quick|full]
                                           [--system sccs_plus] [--out benchmarks/results/SIZE] [--no-times]
                                           [--parts heads rivals pixels times] [--root FOLDER] [--update]

Labelled superpixels are drawn from training images, n of each class, with a new draw for each seed. Test images are
scored: mean DSC over classes, of pixels pooled over all test images; fields of view touch (the paper's protocol). All
rows of a draw have the same labels, except for two kinds: error-driven clicks, where a simulated person starts with 3
per class and then labels superpixels that are shown in the wrong class, and `suggested`, where the tool chooses the
superpixels to label, without knowing the classes, and gets n times as many labels as there are classes. For comparison,
the same number is drawn regardless of class.

`--parts pixels` is the sparse protocol of ε-Seg: n random labelled pixels of each class and slice of the training
volumes, Dice of all pixels of the test volumes together, except those outside the cell (`--data betaseg --root
FOLDER`, or any other set). A superpixel counts as the class that most of its labelled pixels have.

The forest on pixels is that of `skimage.future.TrainableSegmenter` (its functions `fit_segmenter` and
`predict_segmenter`, which take several images), fitted to at most 20,000 pixels of the labelled superpixels, with its
own multi-scale features or ilastik's default set. Named clusters: each gets the class of most of its labelled
superpixels; a cluster without any gets the class of the nearest cluster that has some. `from galleries`: clusters are
named by eight typical superpixels, those nearest to the cluster's mean in spectral coordinates, as in the report's
gallery, where they also lie at least a crop apart. Times: refitting, and predicting a slice of 2,000 x 2,000 px, with
nodes and, for the forest, pixel features already computed; they are measured without --parts, or with `--parts times`.
--update: takes what is not in --data and --parts from the table's CSV. Writes OUT/few_labels.md, .csv, .json.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import registry
from benchmarks.harness import REAL, SETS, job
from benchmarks.pages import Origin, commit, markdown, mean_sd, named, publish, typed
from benchmarks.tables.labelled import (
    BUDGETS,
    FEATURES,
    Forest,
    Row,
    Set,
    View,
    anywhere,
    drawn,
    drawn_pixels,
    rivals,
    set_of,
)
from registry.base import UserError
from registry.spg.principal import Coordinates
from sccs.arguments import positive
from sccs.inference.suggest import telling
from sccs.model.teacher import HEADS
from sccs.system.cache import code_of, fingerprint
from sccs.system.exits import guard
from sccs.system.files import write_json

COMMAND = "python -m benchmarks.tables.few_labels"
Rule = Callable[[Coordinates, np.ndarray, np.ndarray, np.ndarray | None, int, int], np.ndarray]  # as `telling`
SIDE, TILE = 2000, 500  # px of the slice that is timed, and of its FOVs


class Taught:
    """A head of the registry, with the points of all nodes precomputed, as in interactive labelling."""

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
        """(n, labels) for each budget: a person labels superpixels shown in the wrong class, a tenth more each time;
        larger ones are likelier."""
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

    def suggested(self, truth: np.ndarray, seed: int, rule: Rule = telling) -> Iterator[tuple[int, np.ndarray]]:
        """(n, labels) for each budget: the superpixels that the tool asks for, labelled by a person where they have a
        class.

        A third more each time, chosen by `rule`, by default that of `sccs suggest`. While all answers are of one class,
        which is not enough to teach a head, the tool is asked for more, and the new ones are answered.
        """
        views = self.here.train
        coordinates, clusters = self.head.coordinates_, np.concatenate([view.clusters for view in views])
        labels, asked, rng = np.full(len(truth), -1), truth < 0, np.random.default_rng(seed)
        there = np.flatnonzero(~asked)
        for n in BUDGETS:
            total = min(n * self.C, len(there))
            while (have := int((labels >= 0).sum())) < total:
                left, step = np.flatnonzero(~asked), min(max(self.C, have // 3), total - have) if have else total
                if len(np.unique(labels[labels >= 0])) > 1:
                    P = np.concatenate(self.judged(views))[left]
                    picked = left[rule(coordinates, self.of_train[left], clusters[left], P, step, seed)]
                else:
                    found = rule(coordinates, self.of_train[there], clusters[there], None, have + step, seed)
                    new = np.setdiff1d(there[found], np.flatnonzero(asked))
                    picked = rng.permutation(new if len(new) else left)[:step]
                labels[picked], asked[picked] = truth[picked], True
                self.learn(labels)
            yield n, labels


# ------------------------------------------------------------------------------------------------------------ a table
PARTS = {  # of the table, and the code that each depends on besides that of its clusters
    "heads": {
        "benchmarks.tables.few_labels",
        "registry.clusterer.label_spreading",
        "sccs.inference.suggest",
        "sccs.model.teacher",
    },
    "rivals": {"benchmarks.tables.labelled"},
    "pixels": {"benchmarks.tables.few_labels", "registry.clusterer.label_spreading", "sccs.model.teacher"},
}
TIMES = "times"
Found = dict[tuple[str, str, int, int], float]  # by row, set, draw, budget (0: no label; -1: all labels)


def measured(here: Set, draw: int) -> Iterator[Row]:
    """SCCS's heads on one set and draw of labels."""
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


def by_pixels(here: Set, draw: int) -> Iterator[Row]:
    """The same with labelled pixels instead of superpixels, n of each class and slice."""
    taught = Taught(here, HEADS[0], draw)
    for n in BUDGETS:
        yield f"{HEADS[0]}, pixels of each class and slice", n, taught.score_of(drawn_pixels(here.train, n, draw))


def kept(data: str, draw: int, args: argparse.Namespace, out: Path) -> tuple[Found, list[str]]:
    """The rows of one set and draw, from OUT/runs if the same code has measured them before, and their commits."""
    here: Set | None = None
    found: Found = {}
    commits = []
    for part in args.parts:
        of = job(args.system, data, draw, args.size)
        key = fingerprint(of.configuration, of.recipe["data"], code_of(PARTS[part]))[:10]
        path = out / "runs" / f"few_labels-{part}-{args.system}-{data}-s{draw}-{key}.json"
        if not path.exists():
            here = here or set_of(args.system, data, draw, args.size)
            made = {
                "heads": lambda: measured(here, draw),
                "rivals": lambda: rivals(here, data, draw, args.size, args.system),
                "pixels": lambda: by_pixels(here, draw),
            }[part]()
            rows = []
            for row, n, value in made:
                rows.append((row, n, value))
                print(f"{data:9s} draw {draw} {row:40s} {n:3d}: {value:.3f}", flush=True)
            write_json(path, {"commit": commit(), "rows": rows})
        stored = json.loads(path.read_text())
        found |= {(row, data, draw, n): value for row, n, value in stored["rows"]}
        commits.append(stored["commit"])
    return found, commits


def seconds(system: str, data: str, size: str, rounds: int = 3) -> dict[str, float]:
    """The smallest of a few times to refit to 30 labels per class and predict a slice of SIDE x SIDE px, the set's
    first test image continued by reflection. Its nodes, and the features of its pixels, are precomputed."""
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


def read_times(path: Path) -> dict[str, float]:
    """Seconds by row, in a CSV of this script."""
    with open(path, newline="") as file:
        return {line["row"]: float(line["value"]) for line in csv.DictReader(file) if line["labels"] == "seconds"}


def sets_of(found: Found) -> list[str]:
    """The sets with scores, in the order of the tables."""
    there = {data for _, data, _, _ in found}
    return [data for data in (*SETS, "betaseg") if data in there]


def page(found: Found, times: dict[str, float], system: str) -> str:
    """The text of OUT/few_labels.md."""
    rows = list(dict.fromkeys(row for row, *_ in found))
    text = (
        f"Mean DSC over classes on test images, mean of the real sets, ± standard deviation over draws. Features, "
        f"graphs and clusters of `{system}`; one configuration for all sets. Labelled superpixels come from training "
        f"images. `suggested`, `error-driven clicks` and `drawn regardless of class` have as many labels in all, "
        "but not as many of each class.\n\n" + by_budget(found)
    )
    sets = sets_of(found)
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
            f"\n\n## Refitting and predicting a slice of {SIDE} x {SIDE} px\n\n"
            "30 labels a class; nodes and pixel features are precomputed. Best of three consecutive runs.\n\n"
        ) + markdown(["system", "seconds", "times SCCS"], lines)
    return text


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(COMMAND, description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--data", nargs="+", default=list(SETS), choices=[*SETS, "betaseg"], metavar="SET")
    parser.add_argument("--root", type=Path, help="folder that the BetaSeg archive was unpacked in")
    parser.add_argument("--draws", type=positive, default=5)
    parser.add_argument("--size", choices=("quick", "full"), default="quick")
    parser.add_argument("--system", default="sccs_plus")
    parser.add_argument("--parts", nargs="+", choices=[*PARTS, TIMES], help="of the page (default: heads rivals times)")
    parser.add_argument("--no-times", dest="times", action="store_false", help="where the machine is not quiet")
    parser.add_argument("--update", action="store_true", help="take all that is not in --data and --parts from the CSV")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args(argv)
    chosen = args.parts or ["heads", "rivals", *[TIMES] * args.times]
    args.parts = [part for part in chosen if part != TIMES]
    if args.root:
        os.environ["BETASEG_ROOT"] = str(args.root.resolve())
    out = args.out or Path("benchmarks/results", args.size)
    found: Found = {}
    commits: list[str] = []
    earlier: list[str] = []
    times: dict[str, float] = {}
    if args.update:
        path = out / "few_labels.csv"
        if not path.exists():
            raise UserError(f"--update: there is no {path}; leave --update out to make the table")
        found = read(path)
        earlier, times = Origin.read(path).commits, read_times(path)
    for draw in range(args.draws if args.parts else 0):
        for data in args.data:
            rows, of = kept(data, draw, args, out)
            found |= rows
            commits += of
    if TIMES in chosen:
        times = seconds(args.system, args.data[0], args.size)
        commits.append(commit())
    values = [[row, data, draw, n, f"{value:.6f}"] for (row, data, draw, n), value in found.items()]
    values += [[row, sets_of(found)[0], "", "seconds", f"{value:.6f}"] for row, value in times.items()]
    heads = ["row", "set", "draw", "labels", "value"]
    origin = Origin.here(typed(COMMAND, argv), seeds=list(range(args.draws)))
    origin = replace(origin, commits=list(dict.fromkeys([*earlier, *commits])))
    if earlier:
        new, old = ", ".join(dict.fromkeys(commits)), ", ".join(earlier)
        ran = " and ".join(chosen) + (f" of {' and '.join(args.data)}" if args.parts else "")
        origin = replace(origin, notes=f"Runs of {ran}: commit {new}; all else: commit {old}.")
    print(publish(out, "few_labels", "A few labels", origin, page(found, times, args.system), heads, values))
    return 0


if __name__ == "__main__":
    sys.exit(guard(main)())
