"""How well objects are found: F1, panoptic quality and variation of information, from several ways to classes.

    python -m benchmarks.tables.objects [--sets phantom cdeep3m] [--min-size 500] [--set a.b=c ...]
                                        [--out benchmarks/results/objects]

A row is a set, a class and a way to class maps: `named`: the clusters of the packaged recipe, mapped to classes on the
training labels as a person would name them; `32`: the same from 32 clusters. Objects of a class are its connected
components (26 neighbours) of `--min-size` voxels or more, in the class map and in the reference labels alike: the sets
have no instances of their own. cdeep3m is real (slices 12 to 19 are tested on, not every second), the phantom
synthetic. Runs are kept in OUT/objects_runs, and used again. Writes OUT/objects_found.md and .csv.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

import sccs
from benchmarks.pages import Origin, markdown, publish
from sccs.data import load_dataset
from sccs.instances.compare import instance_scores
from sccs.recipe import load_recipe
from sccs.system.colours import REST
from sccs.system.exits import guard

COMMAND = "python -m benchmarks.tables.objects"
RECIPES = {"phantom": "sccs", "cdeep3m": "cdeep3m"}
SLICES = {"phantom": [], "cdeep3m": ["data.test.0.region.z=[12,20]"]}
WAYS: dict[str, list[str]] = {"named": [], "32": ["clusterer.k=32"]}
HEADER = ["set", "class", "clusters", "objects", "reference", "F1 > .5", "F1 > .7", "F1 > .9", "PQ", "split", "merge"]


def class_maps(name: str, way: str, changes: Sequence[str], out: Path) -> Iterator[tuple[np.ndarray, np.ndarray, Any]]:
    """Class map and labels (Z, Y, X) of each test volume of a set, and its data set; the run is made where it lacks."""
    run = out / f"{name}-{way}"
    options = [*WAYS[way], *SLICES[name], *changes]
    if not (run / "metrics.json").exists():
        command = [sys.executable, "-m", "sccs.run", RECIPES[name], "--out", str(run)]
        resume = ["--resume"] if (run / "resolved.yaml").exists() else []
        subprocess.run([*command, *resume, *(["--set", *options] if options else [])], check=True)
    recipe = load_recipe(RECIPES[name], options)
    dataset = load_dataset(recipe.data, Path.cwd(), recipe.seed)
    for volume in dataset.test:
        found = tifffile.imread(run / "segmentation" / f"{volume.name}_classes.tif").reshape(volume.file_shape)
        found = found[(found != 255).any((1, 2))]  # the file is larger than the region that is tested on
        planes = [volume.read_labels(z) for z in range(len(found))]
        labels = np.stack([np.where(plane < 0, 255, plane).astype(np.uint8) for plane in planes])
        yield found, labels, dataset


def rows(name: str, way: str, least: int, changes: Sequence[str], out: Path) -> Iterator[list[str]]:
    """Of each class of a set but the rest."""
    for found, labels, dataset in class_maps(name, way, changes, out):
        known = labels != 255
        for code, title in dataset.classes.items():
            if title.lower() in REST or not (labels == code).any():
                continue
            ours, theirs = (sccs.objects((each == code) & known, min_size=least, to=[])[0] for each in (found, labels))
            scores = instance_scores(ours, theirs)
            f1 = [scores["at"][t]["f1"] for t in (0.5, 0.7, 0.9)]
            values = [*f1, scores["panoptic_quality"], scores["split"], scores["merge"]]
            counts = [str(scores["found"]), str(scores["reference"])]
            yield [name, title, way, *counts, *(f"{value:.3f}" for value in values)]


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(COMMAND, description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--sets", nargs="+", choices=list(RECIPES), default=list(RECIPES))
    parser.add_argument("--min-size", type=int, default=500, help="voxels of the smallest object")
    parser.add_argument("--set", nargs="+", default=[], metavar="a.b=c", help="change values of the recipes")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/objects"))
    args = parser.parse_args(argv)
    lines = []
    for name in args.sets:
        for way in WAYS:
            for row in rows(name, way, args.min_size, args.set, args.out / "objects_runs"):
                lines.append(row)
                print(*row, sep=", ", flush=True)
    changed = f" Changed: {' '.join(args.set)}." if args.set else ""
    text = (
        f"Objects are connected components of {args.min_size} voxels or more, of class maps and labels alike; cdeep3m "
        f"is real, the phantom synthetic.{changed} PQ: panoptic quality; split, merge: variation of information, bits."
        f"\n\n{markdown(HEADER, lines)}"
    )
    print(publish(args.out, "objects_found", "Objects found", Origin.here(COMMAND), text, HEADER, lines))
    return 0


if __name__ == "__main__":
    sys.exit(guard(main)())
