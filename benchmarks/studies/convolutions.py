"""Whether another graph convolution of DGL gives a better embedding than the paper's, on training images.

    SCCS_DATA=DIR python -m benchmarks.studies.convolutions [--data cdeep3m vnc] [--seeds 0 1] [--iterations 2000]
                                                            [--jobs 1] [--out benchmarks/results/convolutions]

No test image is used; scores are computed as in benchmarks/studies/study_sccs.py. The head is that of `sccs`; the first
quarter of the iterations trains the embedding alone. Times are measured last, when nothing else is running: short
trainings of the embedding on the first set, in which the rows take turns. Writes OUT/convolutions.md and .csv.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import torch

from benchmarks.harness import REAL, in_processes
from benchmarks.pages import Origin, markdown, mean_sd, median_range, publish, typed
from benchmarks.studies.study_sccs import FEATURES, training_views, trial
from sccs.arguments import positive
from sccs.system.exits import guard

COMMAND = "python -m benchmarks.studies.convolutions"
OPTIONS = {  # of each class, as used by its authors or in DGL's examples
    "GraphConv": {},
    "SGConv": {"k": 2},
    "TAGConv": {"k": 3},
    "ChebConv": {"k": 3},
    "APPNPConv": {"k": 3, "alpha": 0.1},
    "GCN2Conv": {"alpha": 0.1},
    "SAGEConv": {"aggregator_type": "mean"},
    "GATv2Conv": {"num_heads": 2},
}
MEASURES = ("dsc", "spe")
HEADS = ["embedder", "set", "seed or round", "measure", "value"]
TIMED, ROUNDS = 40, 3  # iterations of a timed training; how often each row is timed
Scores = dict[str, dict[str, float]]  # by row: DSC and L_spe of one set and seed


def systems() -> dict[str, tuple[str, ...]]:
    """Overrides of `sccs` by row: its own embedder, the same graph by graph as `gnn` is trained, and each class."""
    alike = ("embedder.columns=graph", "embedder.scale=explained")
    rows: dict[str, tuple[str, ...]] = {"lgc, as in sccs": (), "lgc, graph by graph": alike}
    for name, options in OPTIONS.items():
        block = {"name": "gnn", "conv": name, "options": options, "channels": [96, 48], "u": 12}
        rows[name] = (f"embedder={json.dumps(block)}",)
    return rows


def scored(data: str, seed: int, iterations: int) -> Scores:
    """Every row, trained and scored on one set with one seed."""
    found, length = (
        training_views(data, FEATURES),
        (f"train.iterations={iterations}", f"clusterer.warmup={iterations // 4}"),
    )
    scores: Scores = {}
    for name, overrides in systems().items():
        results = trial("sccs", (*length, *overrides), found, seed)
        scores[name] = {measure: results[measure] for measure in MEASURES}
        print(f"{data}, seed {seed}: {name}: " + ", ".join(f"{k} {v:.4f}" for k, v in scores[name].items()), flush=True)
    return scores


def timed(data: str) -> dict[str, list[float]]:
    """Seconds of one iteration of the embedding, by row; one for each round."""
    found, length = training_views(data, FEATURES), (f"train.iterations={TIMED}", f"clusterer.warmup={TIMED - 1}")
    seconds: dict[str, list[float]] = {name: [] for name in systems()}
    for _ in range(ROUNDS):
        for name, overrides in systems().items():
            seconds[name].append(trial("sccs", (*length, *overrides), found, 0)["seconds"] / TIMED)
    return seconds


def table(rows: Sequence[Sequence[str]]) -> str:
    """A line for each embedder, from the rows of the CSV."""
    found: dict[str, dict[tuple[str, str], list[float]]] = {}  # by embedder: by measure and set, one for each seed
    for name, data, _, measure, value in rows:
        found.setdefault(name, {}).setdefault((measure, data), []).append(float(value))
    sets = [data for measure, data in next(iter(found.values())) if measure == "dsc"]
    lines = []
    for name, by in found.items():
        dsc = [by["dsc", data] for data in sets]
        means = [mean_sd(each) for each in [*dsc, np.mean(dsc, axis=0).tolist()]]
        spe = np.mean([by["spe", data] for data in sets])
        (seconds,) = (each for (measure, _), each in by.items() if measure == "seconds")
        lines.append([name, *means, f"{spe:.4f}", median_range([1000 * each for each in seconds], 0)])
    return markdown(["embedder", *sets, "mean DSC", "L_spe", "ms an iteration"], lines)


def read(path: Path) -> list[list[str]]:
    """The rows of OUT/convolutions.csv."""
    with open(path, newline="") as file:
        return list(csv.reader(file))[1:]


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(COMMAND, description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--data", nargs="+", default=["cdeep3m", "vnc"], choices=REAL, metavar="SET")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--iterations", type=positive, default=2000)
    parser.add_argument("--jobs", type=positive, default=1, help="processes; above 1, each has one thread")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/convolutions"))
    args = parser.parse_args(argv)
    trials = list(product(args.data, args.seeds))
    found = list(in_processes(args.jobs, scored, *zip(*trials), [args.iterations] * len(trials)))
    print("times", flush=True)
    values = [
        [name, data, seed, measure, f"{each[name][measure]:.6g}"]
        for (data, seed), each in zip(trials, found)
        for name in systems()
        for measure in MEASURES
    ]
    values += [
        [name, args.data[0], turn, "seconds", f"{each:.6g}"]
        for name, turns in timed(args.data[0]).items()
        for turn, each in enumerate(turns)
    ]
    text = (
        "DSC: mean over classes on halves of the training images, as in the study of `sccs`, ± standard deviation over "
        "seeds. L_spe: Eq. 2, mean over the training graphs, each on its own. Time: an iteration of the embedding on "
        f"{args.data[0]}, median (range) of {ROUNDS} trainings, with {torch.get_num_threads()} threads.\n\n"
    ) + table([[*map(str, row)] for row in values])
    origin = Origin.here(typed(COMMAND, argv), seeds=args.seeds)
    print(publish(args.out, "convolutions", "Graph convolutions of DGL", origin, text, HEADS, values))
    return 0


if __name__ == "__main__":
    sys.exit(guard(main)())
