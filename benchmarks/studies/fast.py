"""What the shortcuts of the fast recipe cost, on training images: iterations of SLIC, neighbours and student in bytes.

    SCCS_DATA=DIR python -m benchmarks.studies.fast [--data platelet hela cdeep3m vnc] [--seeds 0 1 2 3 4]
                                                    [--jobs 1] [--out benchmarks/results/fast]

No test image is used: as in `benchmarks.studies.study_sccs`, a system is trained on a set's training images, without
labels, with the iterations of size `quick`; then the mapping is fitted on half of their places, and the other half is
scored. `kmeans` has the student's features, too: it differs less from seed to seed than `sccs_fast`. Writes
OUT/fast.md and .csv.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from itertools import repeat
from pathlib import Path

import numpy as np

from benchmarks.harness import REAL, in_processes
from benchmarks.pages import Origin, markdown, mean_sd, publish, typed
from benchmarks.studies.study_sccs import seen_of, trial
from benchmarks.studies.views import views_of
from sccs.arguments import positive
from sccs.system.exits import guard

COMMAND = "python -m benchmarks.studies.fast"
SYSTEMS: dict[str, tuple[str, ...]] = {"sccs_fast": (), "kmeans": ("features=student",)}  # with their overrides
SHORTCUTS = (10, "float32", "auto"), (5, "float32", "auto"), (5, "int8", "auto"), (5, "int8", "int8")
Keys = tuple[str, int, str, str, str]  # system, iterations of SLIC, precision of neighbours and of the student, set
Found = dict[Keys, list[float]]  # DSC for each seed


def of_set(data: str, seeds: Sequence[int]) -> Found:
    """All trials on one set."""
    found: Found = {}
    for n, neighbours, student in SHORTCUTS:
        graph = [f"graph.slic_iterations={n}", f"graph.precision={neighbours}"]
        features = f"features.precision={student}"
        views = seen_of(views_of(data, [*SYSTEMS["sccs_fast"], *graph, features], "sccs_fast"))
        for system, overrides in SYSTEMS.items():
            trials = [trial(system, [*overrides, *graph], views, seed) for seed in seeds]
            found[system, n, neighbours, student, data] = dsc = [each["dsc"] for each in trials]
            print(f"{data:9} {n:3} iterations, {neighbours:7} {student:4}  {system:10} {mean_sd(dsc)}", flush=True)
    return found


def table(found: Found) -> str:
    """A row for each system and choice of shortcuts, a column for each set."""
    sets = list(dict.fromkeys(data for *_, data in found))
    rows = []
    for system in SYSTEMS:
        means = {short: np.mean([found[(system, *short, data)] for data in sets], 0) for short in SHORTCUTS}
        for short, mean in means.items():
            lost = mean_sd(means[SHORTCUTS[0]] - mean) if short != SHORTCUTS[0] else "-"
            each = [mean_sd(found[(system, *short, data)]) for data in sets]
            rows.append([f"`{system}`", *map(str, short), *each, mean_sd(mean), lost])
    return markdown(["system", "iterations", "neighbours", "student", *sets, "mean", "lost"], rows)


def read(path: Path) -> Found:
    """The trials in a CSV of this script."""
    found: Found = {}
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            key = row["system"], int(row["iterations"]), row["neighbours"], row["student"], row["set"]
            found.setdefault(key, []).append(float(row["dsc"]))
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(COMMAND, description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--data", nargs="+", default=list(REAL), choices=REAL, metavar="SET")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--jobs", type=positive, default=1, help="processes")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/fast"))
    args = parser.parse_args(argv)
    by_set = in_processes(args.jobs, of_set, args.data, repeat(args.seeds))
    found = {key: dsc for each in by_set for key, dsc in each.items()}
    text = (
        "Mean DSC over classes on halves of the training images that the mapping was not fitted on, ± standard "
        f"deviation over seeds. *Lost*: mean of the first row less this one.\n\n{table(found)}"
    )
    origin = Origin.here(typed(COMMAND, argv), seeds=args.seeds)
    values = [[*key, seed, f"{value:.6f}"] for key, dsc in found.items() for seed, value in zip(args.seeds, dsc)]
    heads = ["system", "iterations", "neighbours", "student", "set", "seed", "dsc"]
    print(publish(args.out, "fast", "The shortcuts of the fast recipe", origin, text, heads, values))
    return 0


if __name__ == "__main__":
    sys.exit(guard(main)())
