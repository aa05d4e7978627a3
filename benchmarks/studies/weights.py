"""How much should the filters weigh against the student? Shares of the feature maps of SCCS+, on training images alone.

    [SCCS_DATA=DIR] python -m benchmarks.studies.weights [--weights 0.5 1 1.5 2 3 4] [--data platelet hela cdeep3m vnc
                                                phantom] [--seeds 0 1 2] [--out benchmarks/results/weights]

The labels of one half of the fields of view of a set's training images (two slices at most) name clusters or teach a
head, the superpixels of the other half are scored, both ways: mean DSC over classes. A weight is the filters' share of
the variance relative to the student's (`graph.weights`); all else is as in the recipes, with k-means itself in place of
the network that imitates it. Writes OUT/weights.md, .csv, .json.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.harness import REAL, SETS
from benchmarks.pages import ROOT, Origin, markdown, mean_sd, named, publish, typed
from benchmarks.studies.teaching import halves
from benchmarks.tables.few_labels import Taught
from benchmarks.tables.labelled import BUDGETS, Set, View, drawn
from sccs.evaluation.mappings import fit_mapping
from sccs.evaluation.tables import rest_position
from sccs.system.exits import guard

COMMAND = "python -m benchmarks.studies.weights"
KINDS = {8: "sccs_plus", 32: "sccs_plus_fine"}
HEADER = ["set", "weight", "seed", "part", "dsc"]
Score = tuple[str, float, int, str, float]  # set, weight, seed, part of the page, DSC


def measured(data: str, weight: float, seed: int) -> Iterator[tuple[str, float]]:
    """DSC by part of the page: clusters named by labels, and a head taught with each budget."""
    for k, system in KINDS.items():
        changes = [f"graph.weights=[1, {weight}]", f"clusterer={{name: kmeans, k: {k}}}"]
        for here in halves(data, system, changes, seed):
            yield f"{k} clusters", of_clusters(here)
            if k == min(KINDS):
                taught = Taught(here, "label_spreading", seed)
                for n in BUDGETS:
                    yield f"{n} labels", taught.score_of(drawn(here.truth, n, seed))


def of_clusters(here: Set) -> float:
    """DSC of clusters on one half, named by the labels of the other."""

    def table(views: Sequence[View]) -> np.ndarray:
        found = np.zeros((here.k, len(here.classes)), np.int64)
        for view in views:
            np.add.at(found, view.clusters, view.counts)
        return found

    named_ = fit_mapping("train", table(here.train), rest=rest_position(here.classes, None))
    return here.dsc([named_[view.clusters] for view in here.test])


def page(found: Sequence[Score]) -> str:
    """Mean DSC of the real sets for each weight and part, and of each set alone for 8 clusters and 10 labels."""
    weights, parts, sets = (list(dict.fromkeys(score[i] for score in found)) for i in (1, 3, 0))

    def cell(weight: float, part: str, data: Sequence[str]) -> str:
        seeds = dict.fromkeys(score[2] for score in found)
        return mean_sd(
            [
                np.mean([np.mean([s[4] for s in found if s[:4] == (d, weight, seed, part)]) for d in data])
                for seed in seeds
            ]
        )

    real = [data for data in sets if data in REAL]
    text = markdown(
        ["weight of the filters", *parts], [[f"{w:g}", *(cell(w, part, real) for part in parts)] for w in weights]
    )
    for part in (f"{min(KINDS)} clusters", f"{BUDGETS[1]} labels"):
        rows = [[f"{w:g}", *(cell(w, part, [data]) for data in sets)] for w in weights]
        text += f"\n\n## {part}\n\n" + markdown(["weight of the filters", *map(named, sets)], rows)
    return text


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(COMMAND, description=__doc__.partition("\n\n")[0], allow_abbrev=False)
    parser.add_argument("--weights", type=float, nargs="+", default=[0.5, 1.0, 1.5, 2.0, 3.0, 4.0])
    parser.add_argument("--data", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "weights")
    args = parser.parse_args(argv)
    found: list[Score] = []
    for data in args.data:
        for weight in args.weights:
            for seed in args.seeds:
                found += [(data, weight, seed, part, dsc) for part, dsc in measured(data, weight, seed)]
            print(data, weight, *(f"{s[3]}: {s[4]:.3f}" for s in found[-12:]), flush=True)
    text = (
        "Mean DSC over classes on training images, mean of the real sets, ± standard deviation over seeds; labels in "
        "one half, scores on the other, both ways. The phantom is synthetic.\n\n" + page(found)
    )
    origin = Origin.here(typed(COMMAND, argv), seeds=args.seeds)
    rows = [[data, weight, seed, part, f"{dsc:.6f}"] for data, weight, seed, part, dsc in found]
    print(publish(args.out, "weights", "Shares of the feature maps", origin, text, HEADER, rows))
    return 0


if __name__ == "__main__":
    sys.exit(guard(main)())
