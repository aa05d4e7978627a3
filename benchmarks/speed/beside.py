"""Seconds per field of view while other programs run, with OpenMP waiting as SCCS sets it, and as by default.

    python -m benchmarks.speed.beside [--systems sccs_fast sccs_plus] [--busy 0 1 2] [--rounds 3] [--fovs 20]
                                      [--out benchmarks/results/quick]

Each measurement is a separate process, on one 560 x 560 FOV of the synthetic phantom; the two ways take turns.
Meanwhile, `--busy` processes run an endless loop. Needs an otherwise idle machine. Writes OUT/beside.md and .csv.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks.pages import Origin, markdown, publish, typed
from sccs.arguments import positive
from sccs.system.exits import guard

COMMAND = "python -m benchmarks.speed.beside"
WAYS = {"ours": "1000", "libgomp's": "300000"}  # GOMP_SPINCOUNT: ours, and libgomp's default
HEADER = ["system", "other programs", "waiting", "seconds"]


def child(system: str, fovs: int) -> None:
    """Print the median seconds per FOV."""
    from benchmarks.speed.timing import SIDE, field_of_view, trained

    pipeline, image = trained(system), field_of_view(SIDE)
    seconds = [sum(pipeline.segment_fov(image).seconds.values()) for _ in range(fovs + 1)][1:]
    print(float(np.median(seconds)))


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Run `count` endless loops, each in its own process, within the block."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for each in others:
            each.kill()
            each.wait()


def measured(system: str, way: str, fovs: int) -> float:
    """Seconds per FOV, in a separate process."""
    command = [sys.executable, "-m", "benchmarks.speed.beside", "--child", system, "--fovs", str(fovs)]
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {"GOMP_SPINCOUNT": WAYS[way], "SCCS_CACHE": "off"}
    return float(subprocess.check_output(command, env=environment, text=True).split()[-1])


def table(rows: Sequence[Sequence[str]]) -> str:
    """The CSV's rows as a table: medians and ranges of rounds, and the ratio of the medians."""
    found: dict[tuple[str, str], dict[str, list[float]]] = {}
    for system, others, way, seconds in rows:
        found.setdefault((system, others), {}).setdefault(way, []).append(float(seconds))
    lines = []
    for (system, others), ways in found.items():
        shown = [f"{np.median(ways[way]):.3f} ({min(ways[way]):.3f} to {max(ways[way]):.3f})" for way in WAYS]
        ratio = np.median(ways["libgomp's"]) / np.median(ways["ours"])
        lines.append([system, others, *shown, f"{ratio:.2f}"])
    return markdown(["system", "other programs", "s as SCCS waits", "s as libgomp waits", "ratio"], lines)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(COMMAND, description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--systems", nargs="+", default=["sccs_fast", "sccs_plus"])
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 1, 2], help="other programs")
    parser.add_argument("--rounds", type=positive, default=3)
    parser.add_argument("--fovs", type=positive, default=20, help="FOVs per process, whose median counts")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/quick"))
    args = parser.parse_args(argv)
    if args.child:
        child(args.child, args.fovs)
        return 0
    rows = []
    for system in args.systems:
        for others in args.busy:
            with busy(others):
                for _ in range(args.rounds):
                    for way in WAYS:
                        rows.append([system, str(others), way, f"{measured(system, way, args.fovs):.4f}"])
                        print(*rows[-1], sep=", ", flush=True)
    text = "Other programs run an endless loop. Medians and ranges of rounds in which the two ways take turns."
    origin = Origin.here(typed(COMMAND, argv))
    text = f"{text}\n\n{table(rows)}"
    print(publish(args.out, "beside", "A field of view while other programs run", origin, text, HEADER, rows))
    return 0


if __name__ == "__main__":
    sys.exit(guard(main)())
