"""The student in its three precisions: time for a field of view, and distance of the features from those in float32.

    SCCS_DATA=DIR python -m benchmarks.speed.student [--data platelet hela cdeep3m vnc phantom] [--repeats 9]
                                                     [--threads N] [--out benchmarks/results/quick]

The first training field of view of each set, cut or continued by reflection to 560 x 560 px. Precisions take turns.
Distance: root mean square over features, each over its standard deviation in the image. Writes OUT/student.md and .csv.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from benchmarks.harness import SETS, expanded, job
from benchmarks.pages import Origin, markdown, median_range, publish, typed
from registry.features.student import StudentFeatures
from sccs.arguments import positive
from sccs.data import load_dataset
from sccs.system.exits import guard

COMMAND = "python -m benchmarks.speed.student"
PRECISIONS: tuple[Literal["float32", "bfloat16", "int8"], ...] = ("float32", "bfloat16", "int8")
SIDE = 560
HEADER = ["set", "precision", "round", "seconds", "apart"]


def field_of(data: str) -> np.ndarray:
    """An image (SIDE, SIDE) float32, standardised."""
    dataset = load_dataset(expanded(job("sccs_fast", data, 0, "quick").recipe["data"]), Path.cwd(), 0)
    image = next(dataset.train[0].fovs()).image[:SIDE, :SIDE]
    return np.pad(image, [(0, SIDE - length) for length in image.shape], mode="reflect")


def of_set(data: str, repeats: int) -> list[list[str]]:
    """The CSV's rows."""
    image, parts = field_of(data), {precision: StudentFeatures(precision=precision) for precision in PRECISIONS}
    rows, exact = [], parts["float32"].extract(image).values
    for turn in range(repeats + 1):
        for precision, part in parts.items():
            start = time.perf_counter()
            values = part.extract(image).values
            seconds = time.perf_counter() - start
            apart = float(np.sqrt(np.square((values - exact) / exact.std((0, 1))).mean()))
            if turn:  # the first warms up
                rows.append([data, precision, str(turn), f"{seconds:.6f}", f"{apart:.6f}"])
    return rows


def table(rows: Sequence[Sequence[str]]) -> str:
    """A line for each set."""
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for data, precision, _, seconds, apart in rows:
        found.setdefault(data, {}).setdefault(precision, []).append((float(seconds), float(apart)))
    lines = []
    for data, by in found.items():
        taken = {precision: np.array(by[precision]) for precision in PRECISIONS}
        times = [median_range(each[:, 0].tolist()) for each in taken.values()]
        ratio = np.median(taken["int8"][:, 0]) / np.median(taken["bfloat16"][:, 0])
        apart = [f"{taken[precision][0, 1]:.3f}" for precision in PRECISIONS[1:]]
        lines.append([data, *times, f"{ratio:.2f}", *apart])
    return markdown(["set", *PRECISIONS, "int8 / bfloat16", "apart in bfloat16", "apart in int8"], lines)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(COMMAND, description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--data", nargs="+", default=list(SETS), choices=SETS, metavar="SET")
    parser.add_argument("--repeats", type=positive, default=9)
    parser.add_argument("--threads", type=positive, help="CPU threads; default: PyTorch's own choice")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/quick"))
    args = parser.parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    rows = [row for data in args.data for row in of_set(data, args.repeats)]
    text = (
        f"Seconds for {SIDE} x {SIDE} px, medians (ranges) of {args.repeats} rounds. *Apart*: distance from the "
        f"features in float32, over their standard deviation.\n\n{table(rows)}"
    )
    origin = Origin.here(typed(COMMAND, argv))
    print(publish(args.out, "student", "The student's precisions", origin, text, HEADER, rows))
    return 0


if __name__ == "__main__":
    sys.exit(guard(main)())
