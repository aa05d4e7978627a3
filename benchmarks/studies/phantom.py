"""How hard the synthetic phantom is: k-means on it, next to the paper's k-means on real beta cells, and the areas of
its classes.

    python -m benchmarks.studies.phantom [--phantoms 0 1 2 3 4] [--seeds 0 1 2] [--out benchmarks/results/phantom]
                                         [--set a.b=c ...]

Phantoms are seeds of the generator, seeds those of k-means. Three recipes without any graph network: `kmeans` (MAE
features of superpixels), `intensity_kmeans` (grey values of superpixels), `raw_kmeans` (grey values of pixels). The
phantom was calibrated with these alone. One slice of each training volume, the test slices of the recipe. Writes
OUT/calibration.md and OUT/calibration.csv.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import carry_out, expanded, job
from benchmarks.pages import Origin, markdown, mean_sd, publish, typed
from sccs.data import load_dataset
from sccs.system.exits import guard

COMMAND = "python -m benchmarks.studies.phantom"
SYSTEMS = ("kmeans", "intensity_kmeans", "raw_kmeans")
FIRST = "nucleus, first test slice"
# paper, Table 1, k-means; areas of the cell in BetaSeg, as given in the issue
PAPER = {"unrecognized": 0.858, "nucleus": 0.803, "granules": 0.571, "mitochondria": 0.679}
AREAS = {"unrecognized": 0.57, "nucleus": 0.13, "granules": 0.18, "mitochondria": 0.12}
DATA = ["data.train_slices=1"]
HEADER = ["system", "phantom", "seed", "class", "dsc"]


def measure(system: str, phantom: int, seed: int, overrides: Sequence[str]) -> dict[str, float]:
    """DSC of each class over the test slices (mapping `train`), and that of the nucleus in the first of them."""
    result, first = carry_out(job(system, "phantom", seed, overrides=[f"data.seed={phantom}", *DATA, *overrides]))
    found = {name: each["dsc"] for name, each in result["test"]["train"]["classes"].items()}
    nucleus = np.array([name == "nucleus" for name in result["mapping"]])[first["clusters"]]
    truth = first["labels"] == result["codes"][result["classes"].index("nucleus")]
    nucleus &= np.isin(first["labels"], result["codes"])  # the cell alone
    return {**found, FIRST: 2 * float((nucleus & truth).sum()) / float(nucleus.sum() + truth.sum())}


def areas(phantom: int, overrides: Sequence[str]) -> dict[str, float]:
    """Share of the cell's area of each class: mean over the volumes of a phantom."""
    work = job("raw_kmeans", "phantom", 0, overrides=[f"data.seed={phantom}", "data.train_slices=null", *overrides])
    dataset = load_dataset(expanded(work.recipe["data"]), Path.cwd(), 0)
    shares = []
    for volume in (*dataset.train, *dataset.test):
        labels = [fov.labels for fov in volume.fovs()]
        counts = np.array([sum(np.count_nonzero(each == code) for each in labels) for code in dataset.classes])
        shares.append(counts / counts.sum())
    return dict(zip(dataset.classes.values(), np.mean(shares, 0).tolist()))


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(COMMAND, description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--phantoms", nargs="+", type=int, default=[0, 1, 2, 3, 4], help="seeds of the generator")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="of k-means")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/phantom"))
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="a.b=c", dest="overrides")
    args = parser.parse_args(argv)
    args.typed = typed(COMMAND, argv)
    rows: list[list[Any]] = []
    for phantom in args.phantoms:
        rows += [["area", phantom, "", name, share] for name, share in areas(phantom, args.overrides).items()]
        for system in SYSTEMS:
            for seed in args.seeds:
                found = measure(system, phantom, seed, args.overrides)
                rows += [[system, phantom, seed, name, dsc] for name, dsc in found.items()]
                print(phantom, f"{system:16}", seed, {name: round(dsc, 3) for name, dsc in found.items()}, flush=True)
    print(_written(args, rows))
    return 0


def _written(args: argparse.Namespace, rows: list[list[Any]]) -> Path:
    heads = [*PAPER, FIRST]

    def cells(system: str, phantom: int | None = None) -> list[str]:
        own = [row for row in rows if row[0] == system and phantom in (None, row[1])]
        return [mean_sd([row[4] for row in own if row[3] == name]) for name in heads]

    def line(values: dict[str, float]) -> list[str]:
        return [f"{values[name]:.3f}" if name in values else "-" for name in heads]

    lines = [["paper, k-means on BetaSeg", "-", *line(PAPER)]]
    for system in SYSTEMS:
        lines.append([system, "all", *cells(system)])
        lines += [[system, str(phantom), *cells(system, phantom)] for phantom in args.phantoms]
    shares = [["real cells", "-", *line(AREAS)[:-1]], ["phantom", "all", *cells("area")[:-1]]]
    shares += [["phantom", str(phantom), *cells("area", phantom)[:-1]] for phantom in args.phantoms]
    text = (
        "DSC on the test slices, "
        f"mean ± standard deviation over seeds {', '.join(map(str, args.seeds))} of k-means and over phantoms (seeds "
        "of the generator); clusters are mapped on the training slices (rule `train`). The phantom is synthetic.\n\n"
        + markdown(["recipe", "phantom", *heads], lines)
        + "\n\nShare of the cell's area, mean over the volumes:\n\n"
        + markdown(["", "phantom", *PAPER], shares)
    )
    values = [[*row[:4], f"{row[4]:.6g}"] for row in rows]
    origin = Origin.here(args.typed, seeds=args.seeds)
    return publish(args.out, "calibration", "Calibration of the phantom", origin, text, HEADER, values)


if __name__ == "__main__":
    sys.exit(guard(main)())
