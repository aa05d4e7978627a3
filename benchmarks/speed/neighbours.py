"""The nearest neighbours of superpixels by features in float32 and rounded to eight bits: time, and how many differ.

    SCCS_DATA=DIR python -m benchmarks.speed.neighbours [--systems sccs_fast sccs_plus]
                                                        [--data platelet hela cdeep3m vnc phantom] [--repeats 9]
                                                        [--threads N] [--out benchmarks/results/quick]

Nodes of the first training field of view of each set, standardised as for the graph. The two take turns. Writes
OUT/neighbours.md and .csv.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.harness import SETS, job
from benchmarks.pages import Origin, markdown, median_range, publish, typed
from benchmarks.studies.views import views_of
from registry.spg.affinity import Precision, nearest_pairs
from sccs.arguments import positive
from sccs.system.exits import guard

COMMAND = "python -m benchmarks.speed.neighbours"
PRECISIONS: tuple[Precision, ...] = ("float32", "int8")
HEADER = ["system", "set", "nodes", "precision", "round", "seconds", "same"]


def of_set(system: str, data: str, repeats: int) -> list[list[str]]:
    """The CSV's rows. same: share of the neighbours in float32 that are found."""
    part = job(system, data, 0, "quick").pipeline.graph
    found = views_of(data, [], system)
    nodes = [view.nodes for view in found.views[: found.seen]]
    part.fit(nodes)
    X, m = part.scaled(nodes[0].feature), part.neighbours
    rows, exact = [], nearest_pairs(X, m)[1].view(-1, 1, m)
    for turn in range(repeats + 1):
        for precision in PRECISIONS:
            start = time.perf_counter()
            near = nearest_pairs(X, m, precision=precision)[1]
            seconds = time.perf_counter() - start
            same = float((near.view(-1, m, 1) == exact).any(1).float().mean())
            if turn:  # the first warms up
                rows.append([system, data, str(len(X)), precision, str(turn), f"{seconds:.6f}", f"{same:.6f}"])
    return rows


def table(rows: Sequence[Sequence[str]]) -> str:
    """A line for each system and set."""
    found: dict[tuple[str, str, str], dict[str, list[tuple[float, float]]]] = {}
    for system, data, nodes, precision, _, seconds, same in rows:
        found.setdefault((system, data, nodes), {}).setdefault(precision, []).append((float(seconds), float(same)))
    lines = []
    for (system, data, nodes), by in found.items():
        exact, rounded = (np.array(by[precision]) for precision in PRECISIONS)
        ratio = np.median(exact[:, 0]) / np.median(rounded[:, 0])
        times = [median_range(each[:, 0].tolist()) for each in (exact, rounded)]
        lines.append([f"`{system}`", data, f"{int(nodes):,}", *times, f"{ratio:.1f}", f"{100 * rounded[0, 1]:.1f} %"])
    return markdown(["system", "set", "nodes", *PRECISIONS, "ratio", "the same neighbours"], lines)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(COMMAND, description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--systems", nargs="+", default=["sccs_fast", "sccs_plus"])
    parser.add_argument("--data", nargs="+", default=list(SETS), choices=SETS, metavar="SET")
    parser.add_argument("--repeats", type=positive, default=9)
    parser.add_argument("--threads", type=positive, help="CPU threads; default: PyTorch's own choice")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/quick"))
    args = parser.parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    rows = [row for system in args.systems for data in args.data for row in of_set(system, data, args.repeats)]
    text = f"Seconds, medians (ranges) of {args.repeats} rounds.\n\n{table(rows)}"
    origin = Origin.here(typed(COMMAND, argv))
    print(publish(args.out, "neighbours", "Nearest neighbours of superpixels", origin, text, HEADER, rows))
    return 0


if __name__ == "__main__":
    sys.exit(guard(main)())
