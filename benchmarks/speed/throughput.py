"""Seconds per field of view, Mpx/s, GB/h and the cost of a teravoxel, for 1 to N processes on N cores.

    python -m benchmarks.speed.throughput [--systems sccs sccs_fast sccs_plus] [--processes 1 2 ...] [--seconds 30]
                                          [--price 0.05] [--quick] [--out benchmarks/results/quick]

Processes share the cores evenly (cores / processes threads each), load a briefly trained model, start together, and
segment fields of view of 560 px of the phantom for `--seconds`. Pixels are those that a field of view adds to a
large slice, 480 x 480 where it sees 560 x 560, so that overlaps count as cost. GB are of uint8 voxels, one byte each.
--price: of a core for an hour, in any currency; the default is about what cloud providers charge. --quick: `sccs_fast`
and `sccs_plus`, 1 and N processes, 8 seconds. Writes OUT/throughput.md and .csv.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.pages import Origin, markdown, publish, typed
from benchmarks.speed.timing import SIDE, field_of_view, trained
from sccs.arguments import positive
from sccs.inference.blocks import overlapping
from sccs.model.model import Model
from sccs.system.exits import guard

COMMAND = "python -m benchmarks.speed.throughput"
INNER = overlapping((9 * SIDE, 9 * SIDE), SIDE).y[4]  # a field of view within a large slice, along an axis
SEEN, ADDED = INNER.high - INNER.low, (INNER.stop - INNER.start) ** 2  # px of its side, px that it adds to the slice
PRICE = 0.05
HEADER = ["system", "processes", "cores", "fields of view", "seconds", "per second"]


def _work(model: str, fov: np.ndarray, threads: int, seconds: float, begin: Any, results: Any) -> None:
    """Runs in a separate process: put (fields of view, seconds) into `results`."""
    import torch

    torch.set_num_threads(threads)
    loaded = Model.load(model, "cpu")
    loaded.segment_fov(fov)  # compiles and warms up
    begin.wait()
    start, done = time.perf_counter(), 0
    while done == 0 or time.perf_counter() - start < seconds:
        loaded.segment_fov(fov)
        done += 1
    results.put((done, time.perf_counter() - start))


def measure(model: Path, fov: np.ndarray, processes: int, cores: int, seconds: float) -> list[tuple[int, float]]:
    """Fields of view and seconds of each of several processes that run at once."""
    spawned = multiprocessing.get_context("spawn")  # workers are also started this way
    begin, results = spawned.Barrier(processes), spawned.Queue()
    arguments = (str(model), fov, max(1, cores // processes), seconds, begin, results)
    started = [spawned.Process(target=_work, args=arguments) for _ in range(processes)]
    for each in started:
        each.start()
    found = [results.get(timeout=60 + 20 * seconds) for _ in started]
    for each in started:
        each.join()
    return found


def costs(per_second: float, cores: int, price: float) -> dict[str, float]:
    """The usual figures for so many fields of view per second on so many cores."""
    pixels = per_second * ADDED
    hours = 1e12 / pixels / 3600
    return {
        "s per FOV": 1 / per_second,
        "Mpx/s": pixels / 1e6,
        "GB/h": pixels * 3600 / 1e9,
        "core hours a teravoxel": hours * cores,
        "price of a teravoxel": hours * cores * price,
    }


def table(rows: Sequence[Sequence[Any]], price: float) -> str:
    """A line for each system and number of processes; rows as in the CSV."""
    names = list(costs(1, 1, price))
    lines = []
    for system, processes, cores, _, _, per_second in rows:
        found = costs(float(per_second), int(cores), price)
        shown = [f"{found['s per FOV']:.3f}", f"{found['Mpx/s']:.2f}", f"{found['GB/h']:.1f}"]
        shown += [f"{found['core hours a teravoxel']:,.0f}", f"{found['price of a teravoxel']:,.0f}"]
        lines.append([str(system), str(processes), *shown])
    return markdown(["system", "processes", *names], lines)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parser = argparse.ArgumentParser(COMMAND, description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--systems", nargs="+", default=["sccs", "sccs_fast", "sccs_plus"])
    parser.add_argument("--processes", type=positive, nargs="+", help="default: 1, 2, 4 ... and the machine's cores")
    parser.add_argument("--seconds", type=float, default=30, help="how long the processes run at once")
    parser.add_argument("--price", type=float, default=PRICE, help="of a core for an hour")
    parser.add_argument("--quick", action="store_true", help="two systems, 1 and N processes, 8 seconds")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/quick"))
    args = parser.parse_args(argv)
    counts = args.processes or sorted({2**i for i in range(cores.bit_length()) if 2**i <= cores} | {cores})
    systems, seconds = args.systems, args.seconds
    if args.quick:
        systems, counts, seconds = ["sccs_fast", "sccs_plus"], sorted({1, cores}), 8
    fov, rows = field_of_view(SIDE)[:SEEN, :SEEN], []
    with tempfile.TemporaryDirectory() as folder:
        for system in systems:
            model = Path(folder) / system / "model"
            trained(system).save(model)
            for processes in counts:
                found = measure(model, fov, processes, cores, seconds)
                rate = sum(done / took for done, took in found)
                took = max(took for _, took in found)
                rows.append([system, processes, cores, sum(done for done, _ in found), f"{took:.3f}", f"{rate:.5f}"])
                print(*rows[-1], sep=", ", flush=True)
    origin = Origin.here(typed(COMMAND, argv))
    text = f"Of {SEEN} x {SEEN} px each, {ADDED:,} of which are new in a large slice; a core-hour costs {args.price:g}."
    print(publish(args.out, "throughput", "Throughput", origin, f"{text}\n\n{table(rows, args.price)}", HEADER, rows))
    return 0


if __name__ == "__main__":
    sys.exit(guard(main)())
