"""What do features learned from a set's own images give? The choices in `sccs_plus_own`, made on training images alone.

    [SCCS_DATA=DIR] python -m benchmarks.studies.own [--data platelet hela cdeep3m vnc] [--steps 400] [--draws 4]
                                                     [--out benchmarks/results/own]

The labels of one half of the fields of view of a set's training images (two slices at most) name clusters or teach a
head, the superpixels of the other half are scored, both ways: mean DSC over classes. The net learns once for each set,
from the images of both halves, as a run does. Clusters are those of k-means itself instead of the network that imitates
it, with eight propagations for 8 clusters and four for 32. Writes OUT/own.md, .csv, .json.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.harness import REAL
from benchmarks.pages import ROOT, Origin, markdown, mean_sd, named, publish, typed
from benchmarks.studies.teaching import halves
from benchmarks.tables.few_labels import Taught
from benchmarks.tables.labelled import BUDGETS, Set, View, drawn
from benchmarks.tables.rows import AREAS, FILTERS, SIDES
from sccs.arguments import positive
from sccs.evaluation.mappings import fit_mapping
from sccs.evaluation.tables import rest_position
from sccs.system.exits import guard

COMMAND = "python -m benchmarks.studies.own"
BOTH = FILTERS % (SIDES + AREAS)
ROWS = {  # `features.of`, by the name in the table; %s: the net
    "student and filters: `sccs_plus`": f"[student, {BOTH}]",
    "the net and filters": f"[{BOTH}, %s]",
    "student, filters and the net: `sccs_plus_own`": f"[student, {BOTH}, %s]",
}
KINDS = {8: "sccs_plus", 32: "sccs_plus_fine"}
HEADER = ["row", "set", "part", "draw", "dsc"]
Score = tuple[str, str, str, int, float]  # row, set, column of the table, draw or seed of k-means, DSC


def measured(row: str, data: str, steps: int, draws: int) -> Iterator[Score]:
    """All scores of a row on a set: clusters named by labels, and a head taught with each budget."""
    features = f"features.of={ROWS[row].replace('%s', f'{{name: contrast, steps: {steps}}}')}"
    for k, system in KINDS.items():
        for seed in range(draws):
            changes = [features, f"clusterer={{name: kmeans, k: {k}, seed: {seed}}}"]
            for here in halves(data, system, changes):
                yield row, data, f"{k} clusters", seed, of_clusters(here)
                if k == min(KINDS) and not seed:
                    taught = Taught(here, "label_spreading", 0)
                    for draw in range(draws):
                        taught.head.seed = draw
                        for n in BUDGETS:
                            yield row, data, f"{n} labels", draw, taught.score_of(drawn(here.truth, n, draw))


def of_clusters(here: Set) -> float:
    """DSC of clusters on one half, named by the labels of the other."""

    def table(views: Sequence[View]) -> np.ndarray:
        found = np.zeros((here.k, len(here.classes)), np.int64)
        for view in views:
            np.add.at(found, view.clusters, view.counts)
        return found

    class_of = fit_mapping("train", table(here.train), rest=rest_position(here.classes, None))
    return here.dsc([class_of[view.clusters] for view in here.test])


def table(found: Sequence[Score]) -> str:
    """Mean DSC over sets, a row for each kind of features, a column for each number of clusters or labels."""
    rows, sets, parts, draws = (list(dict.fromkeys(score[i] for score in found)) for i in range(4))
    parts.sort(key=lambda part: ("clusters" not in part, int(part.split()[0])))

    def cell(row: str, part: str) -> str:
        of = {
            draw: [np.mean([s[4] for s in found if s[:4] == (row, data, part, draw)]) for data in sets]
            for draw in draws
        }
        return mean_sd([np.mean(values) for values in of.values()])

    return markdown(["features", *parts], [[row, *(cell(row, part) for part in parts)] for row in rows])


def page(found: Sequence[Score]) -> str:
    """The tables of all sets together, and of each."""
    sets = dict.fromkeys(score[1] for score in found)
    return table(found) + "".join(
        f"\n\n## {named(data)}\n\n{table([score for score in found if score[1] == data])}" for data in sets
    )


def read(path: Path) -> list[Score]:
    """The scores in a CSV of this script."""
    with open(path, newline="") as file:
        _, *lines = csv.reader(file)
    return [(row, data, part, int(draw), float(dsc)) for row, data, part, draw, dsc in lines]


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(COMMAND, description=__doc__.partition("\n\n")[0], allow_abbrev=False)
    parser.add_argument("--data", nargs="+", choices=REAL, default=list(REAL))
    parser.add_argument("--steps", type=positive, default=400, help="of the net's training; the recipe has 800")
    parser.add_argument("--draws", type=positive, default=4, help="of labels, and seeds of k-means")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "own")
    args = parser.parse_args(argv)
    found: list[Score] = []
    for data in args.data:
        for row in ROWS:
            found += measured(row, data, args.steps, args.draws)
            print(data, table([score for score in found if score[:2] == (row, data)]), sep="\n", flush=True)
    text = (
        f"Mean DSC over classes on training images, mean of the sets, ± standard deviation over draws of labels or "
        f"seeds of k-means; labels in one half, scores on the other, both ways. The net learned in {args.steps} "
        "steps, once for each set.\n\n" + page(found)
    )
    origin = Origin.here(typed(COMMAND, argv), seeds=list(range(args.draws)))
    rows = [[*score[:4], f"{score[4]:.6f}"] for score in found]
    print(publish(args.out, "own", "Features learned from your own images", origin, text, HEADER, rows))
    return 0


if __name__ == "__main__":
    sys.exit(guard(main)())
