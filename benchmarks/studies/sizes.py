"""Which size of student: accuracy, distance from the MAE and time by width, after equally many steps of training.

    SCCS_DATA=DIR python -m benchmarks.studies.sizes [--widths 16 32 48] [--steps 400] [--seeds 0 1 2] [--jobs 1]
                                                     [--data platelet hela cdeep3m vnc] [--set a.b=c ...]
                                                     [--runs DIR] [--out benchmarks/results/students]

Students of each width learn by recipes/distil.yaml, in STEPS steps, and stay in DIR/WIDTH. No test image is used for
scores: they are those of `benchmarks.studies.students`, on halves of the training images. Times are measured last, when
nothing else is running: features of 560 x 560 px of noise, in float32, the widths in turns. Writes OUT/sizes.md and
sizes.csv.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from collections.abc import Sequence
from itertools import product, repeat
from pathlib import Path

import numpy as np
import torch

from benchmarks.harness import REAL, in_processes
from benchmarks.pages import ROOT, Origin, markdown, mean_sd, median_range, publish, typed
from benchmarks.studies.students import features
from benchmarks.studies.study_sccs import training_views, trial
from registry.base import UserError
from registry.features.student import StudentFeatures
from registry.mae.student import Student
from sccs.arguments import positive
from sccs.cli import main as command
from sccs.system.exits import guard

COMMAND = "python -m benchmarks.studies.sizes"
SYSTEMS = ("kmeans", "sccs_plus")
SIDE, ROUNDS = 560, 9
HEADS = ["width", "what", "set", "seed or round", "value"]
Row = list[str]
TEXT = (
    "Error: mean squared error of the MAE's standardised tokens on held-out crops (1 is the error of their mean). DSC: "
    "mean over classes and sets on halves of the training images, ± standard deviation over seeds. ms: features of "
    f"{SIDE} x {SIDE} px in float32, median (range) of {ROUNDS} rounds."
)


def student_of(folder: Path) -> str:
    """The checkpoint of a run of recipes/distil.yaml."""
    return str(folder.resolve() / "model" / "student.safetensors")


def taught(width: int, runs: Path, steps: int, overrides: Sequence[str]) -> list[Row]:
    """Train a student unless it is there; its number of steps, and its error on held-out crops.

    Raises UserError if the training does.
    """
    folder = runs / str(width)
    if not (folder / "model").exists():
        changes = [
            f"pretrain.architecture.width={width}",
            f"pretrain.steps={steps}",
            "pretrain.max_minutes=null",
            *overrides,
        ]
        words = ["run", str(ROOT / "recipes" / "distil.yaml"), "--out", str(folder), "--quiet", "--set", *changes]
        if command(words):
            raise UserError(f"{folder}: the training failed; see the messages above")
    facts = json.loads((folder / "metrics.json").read_text())
    named = {"steps": "steps", "error": "held_out_loss"}
    return [[str(width), what, "", "", f"{facts[key]:g}"] for what, key in named.items()]


def scored(width: int, data: str, runs: Path, seeds: Sequence[int]) -> list[Row]:
    """DSC of each system on one set, for each seed."""
    rows = []
    for system in SYSTEMS:
        override = features(student_of(runs / str(width)))[system]["student"]
        override = override.replace("{name: student,", f"{{name: student, width: {width},")
        found = training_views(data, (override,))
        for seed in seeds:
            rows.append([str(width), system, data, str(seed), f"{trial(system, [override], found, seed)['dsc']:.6g}"])
    print(f"{data}, width {width}: {', '.join(row[-1] for row in rows)}", flush=True)
    return rows


def timed(widths: Sequence[int], runs: Path) -> list[Row]:
    """Seconds for the features of a field of view; one for each round."""
    image = np.random.default_rng(0).normal(size=(SIDE, SIDE)).astype(np.float32)
    parts = {
        width: StudentFeatures(checkpoint=student_of(runs / str(width)), width=width, precision="float32")
        for width in widths
    }
    rows = []
    for turn in range(-1, ROUNDS):  # the first warms up
        for width, part in parts.items():
            start = time.perf_counter()
            part.extract(image)
            rows.append([str(width), "seconds", "", str(turn), f"{time.perf_counter() - start:.6g}"])
    return [row for row in rows if row[3] != "-1"]


def table(rows: Sequence[Row]) -> str:
    """A line for each width, from the rows of the CSV."""
    found: dict[str, dict[tuple[str, str], list[float]]] = {}
    for width, what, data, _, value in rows:
        found.setdefault(width, {}).setdefault((what, data), []).append(float(value))
    lines = []
    for width, by in found.items():
        weights = sum(parameter.numel() for parameter in Student(width=int(width)).parameters()) / 1e6
        means = [np.mean([each for (what, _), each in by.items() if what == system], axis=0) for system in SYSTEMS]
        ms = median_range([1000 * each for each in by["seconds", ""]], 0)
        (steps,), (error,) = by["steps", ""], by["error", ""]
        lines.append(
            [width, f"{weights:.2f}", f"{steps:.0f}", f"{error:.3f}", *(mean_sd(each.tolist()) for each in means), ms]
        )
    heads = ["width", "weights, millions", "steps", "error", *(f"`{system}`" for system in SYSTEMS), "ms"]
    return markdown(heads, lines)


def read(path: Path) -> list[Row]:
    """The rows of OUT/sizes.csv."""
    with open(path, newline="") as file:
        return list(csv.reader(file))[1:]


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(COMMAND, description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--widths", nargs="+", type=positive, default=[16, 32, 48])
    parser.add_argument("--steps", type=positive, default=400, help="of training, each; the bundled one had 4,708")
    parser.add_argument("--data", nargs="+", default=list(REAL), choices=REAL, metavar="SET")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--jobs", type=positive, default=1, help="processes; above 1, each has one thread")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="a.b=c", dest="overrides")
    parser.add_argument("--runs", type=Path, default=Path("runs/sizes"), metavar="DIR")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/students"))
    args = parser.parse_args(argv)
    given = repeat(args.runs), repeat(args.steps), repeat(args.overrides)
    rows = [row for each in in_processes(args.jobs, taught, args.widths, *given) for row in each]
    widths, sets = zip(*product(args.widths, args.data))
    for each in in_processes(args.jobs, scored, widths, sets, repeat(args.runs), repeat(args.seeds)):
        rows += each
    print("times", flush=True)
    rows += timed(args.widths, args.runs)
    rows.sort(key=lambda row: args.widths.index(int(row[0])))
    text = f"{TEXT} Time: with {torch.get_num_threads()} threads.\n\n{table(rows)}"
    origin = Origin.here(typed(COMMAND, argv), seeds=args.seeds)
    print(publish(args.out, "sizes", "Sizes of students", origin, text, HEADS, rows))
    return 0


if __name__ == "__main__":
    sys.exit(guard(main)())
