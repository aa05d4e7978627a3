"""The time that `sccs init` estimates for a run, and the time that `sccs run` then takes, on images of all sets.

    python -m benchmarks.speed.estimates [--data platelet hela cdeep3m vnc phantom] [--minutes 2]
                                         [--out benchmarks/results/quick]

Each command is a separate process, with an empty cache; the recipe is the one that `sccs init --minutes MINUTES`
writes for the set's first training volume. Labels are not used. Writes OUT/estimates.md and .csv.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tifffile

from benchmarks.harness import SETS, expanded, job
from benchmarks.pages import Origin, markdown, named, publish, typed
from sccs.data import load_dataset
from sccs.init.cost import WITHIN
from sccs.system.exits import guard

COMMAND = "python -m benchmarks.speed.estimates"
HEADER = ["set", "fields of view", "least, s", "most, s", "took, s"]
ESTIMATE = re.compile(r"^time of this run: (.+?) to (.+?): .* (\d+) FOVs to segment", re.MULTILINE)
UNITS = {"s": 1, "min": 60, "h": 3600}


def seconds_of(text: str) -> float:
    """The inverse of `sccs.system.log.clock`.

    >>> [seconds_of(text) for text in ("0.4 s", "12 s", "3:05 min", "1:02:03 h")]
    [0.4, 12.0, 185.0, 3723.0]
    """
    number, unit = text.split()
    return UNITS[unit] * sum(float(part) / 60**i for i, part in enumerate(number.split(":")))


def measured(data: str, minutes: float) -> list[str]:
    """The row of one set."""
    of = job("sccs_plus", data, 0, "quick")
    volume = load_dataset(expanded(of.recipe["data"]), Path.cwd(), 0, of.pipeline.min_side).train[0]
    size = ["--voxel-size", *map(str, volume.file_voxel_size)] if volume.file_voxel_size else []
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "SCCS_CACHE": os.path.join(folder, "cache")}

        def sccs(*words: object) -> str:
            command = [sys.executable, "-m", "sccs", *map(str, words)]
            return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout

        recipe, path = Path(folder, f"{data}.yaml"), Path(volume.path)
        if not path.exists():  # the phantom
            path = Path(folder, f"{data}.tif")
            tifffile.imwrite(path, np.asarray(volume.image), metadata={"axes": "ZYX"})
        found = ESTIMATE.search(sccs("init", path, "--out", recipe, "--minutes", minutes, *size))
        assert found is not None  # `sccs.init.cost.say_cost` prints it
        start = time.perf_counter()
        sccs("run", recipe, "--out", Path(folder, "run"), "--quiet")
        took = time.perf_counter() - start
    return [data, found[3], *(f"{seconds_of(text):.1f}" for text in (found[1], found[2])), f"{took:.1f}"]


def table(rows: Sequence[Sequence[str]]) -> str:
    """The CSV's rows as a table."""
    lines = []
    for data, fovs, least, most, took in rows:
        middle = (float(least) * float(most)) ** 0.5
        within = "yes" if float(least) <= float(took) <= float(most) else "no"
        estimate, times = f"{float(least):.0f} to {float(most):.0f} s", f"{float(took) / middle:.2f}"
        lines.append([named(data), fovs, estimate, f"{float(took):.0f} s", times, within])
    heads = ["set", "fields of view to segment", "estimated", "took", "times the middle", "within the range"]
    return markdown(heads, lines)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(COMMAND, description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--data", nargs="+", default=list(SETS), choices=SETS, metavar="SET")
    parser.add_argument("--minutes", type=float, default=2, help="as sccs init --minutes")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/quick"))
    args = parser.parse_args(argv)
    rows = []
    for data in args.data:
        rows.append(measured(data, args.minutes))
        print(*rows[-1], sep=", ", flush=True)
    text = f"The range extends by a factor of {WITHIN:g} to both sides of the estimate. Cache empty, no labels."
    origin = Origin.here(typed(COMMAND, argv))
    print(publish(args.out, "estimates", "Estimates of sccs init", origin, f"{text}\n\n{table(rows)}", HEADER, rows))
    return 0


if __name__ == "__main__":
    sys.exit(guard(main)())
