"""How well objects are found: F1, panoptic quality and variation of information, for several ways to get class maps.

    python -m benchmarks.tables.objects [--sets phantom cdeep3m] [--draws 3] [--min-size 500] [--set a.b=c ...]
                                        [--runs DIR] [--out benchmarks/results/objects]

The system is `sccs_plus`. A row is a set, a class and a way to get class maps: `8 clusters`: mapped to classes on the
training labels as a person would name them; `32 clusters`: the same; `30 clicks a class`: the run of 8 clusters after
`sccs teach` with one pixel of each of 30 superpixels per class, drawn from the training labels as in
`benchmarks.tables.few_labels`, anew for each of `--draws`. Objects of a class are its connected components
(26 neighbours) of `--min-size` voxels or more, in the class map and in the reference labels alike: the sets have no
instance labels. `cleaned`: class maps are smoothed and holes filled first (`CLEAN`, chosen on training slices of both
sets). cdeep3m is real (tested on all slices from 12 to 19, not on every second), the phantom synthetic (tested on 32 x
400 x 400 voxels). Runs are kept in `--runs` (OUT/runs), and reused. Writes OUT/objects_found.md and .csv.
"""

from __future__ import annotations

import argparse
import csv
import math
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import yaml

import sccs
from benchmarks.pages import Origin, markdown, mean_sd, named, publish, typed
from benchmarks.tables.few_labels import drawn
from sccs.arguments import positive
from sccs.data import load_dataset
from sccs.data.volumes import Dataset
from sccs.instances.compare import instance_scores
from sccs.model.fovs import class_positions, label_counts
from sccs.pipeline import Pipeline
from sccs.recipe import load_recipe
from sccs.steps import teach
from sccs.system.colours import REST
from sccs.system.exits import guard
from sccs.system.files import atomic_path, write_text

COMMAND = "python -m benchmarks.tables.objects"
SYSTEM = "sccs_plus"
RECIPES = {"phantom": "sccs", "cdeep3m": "cdeep3m"}  # recipes whose data are used
CLEAN = {
    "smooth": 2.0,
    "fill": math.inf,
}  # voxels; `sccs objects --smooth 2 --fill all` where the voxel size is unknown
SLICES = {  # every slice of the test part
    "phantom": ["data.test_slices=null", "data.shapes=[[8,400,400],[8,400,400],[32,400,400]]"],
    "cdeep3m": ["data.test.0.region.z=[12,20]"],
}
CLUSTERS = {8: [], 32: ["clusterer.k=32"]}
CLICKS = 30  # superpixels of each class
MEASURES = ["F1 > .5", "F1 > .7", "F1 > .9", "PQ", "split", "merge"]
SHAPES = ["share", "diameter, px", "sphericity"]  # share of the voxels, then medians over objects
HEADER = ["set", "class", "classes from", "draw", "cleaned", "objects", "reference", *MEASURES]
HEADER += [name for shape in SHAPES for name in (shape, f"reference {shape}")]


def recipe_of(name: str, runs: Path) -> str:
    """The recipe of the system on a set; written into `runs`."""
    data = load_recipe(RECIPES[name], SLICES[name]).resolved()["data"]
    path = runs / f"{name}.yaml"
    write_text(path, yaml.safe_dump({"extends": SYSTEM, "data": data}))
    return str(path)


def run_of(name: str, k: int, changes: Sequence[str], runs: Path) -> Path:
    """The run of a set with k clusters; it is made if it does not exist."""
    run, options = runs / f"{name}-{k}", [*CLUSTERS[k], *changes]
    if not (run / "metrics.json").exists():
        command = [sys.executable, "-m", "sccs.run", recipe_of(name, runs), "--out", str(run)]
        resume = ["--resume"] if (run / "resolved.yaml").exists() else []
        subprocess.run([*command, *resume, *(["--set", *options] if options else [])], check=True)
    return run


def data_of(name: str, changes: Sequence[str], runs: Path) -> Dataset:
    """The data set of a set's runs."""
    recipe = load_recipe(recipe_of(name, runs), changes)
    assert recipe.data is not None  # true of the packaged recipes
    return load_dataset(recipe.data, Path.cwd(), recipe.seed)


def clicks(model: Any, dataset: Dataset, n: int, draw: int) -> Iterator[tuple[str, int, int, int, str]]:
    """Image, z, y, x and class of n clicks a class, or fewer if it does not have as many superpixels, in training
    fields of view: each is the middle one of a superpixel's pixels of its most frequent class."""
    names, views, truth = list(dataset.classes.values()), [], []
    for volume in dataset.train:
        for fov in volume.fovs():
            regions, positions = (graph := model.build(fov.image)).regions, class_positions(fov, dataset.classes)
            counts = label_counts(graph, positions, len(names))
            truth.append(np.where(counts.sum(1) > 0, counts.argmax(1), -1))
            views.append((volume, fov, regions, positions))
    labels = drawn(np.concatenate(truth), n, draw)
    for (volume, fov, regions, positions), known in zip(views, np.split(labels, np.cumsum([*map(len, truth)])[:-1])):
        for node in np.flatnonzero(known >= 0):
            ys, xs = np.nonzero((regions == node) & (positions == known[node]))
            y, x = (int(at[len(at) // 2]) for at in (ys, xs))
            _, top, left = volume.origin
            yield volume.name, fov.z, top + fov.y + y, left + fov.x + x, names[known[node]]


def taught_run(name: str, draw: int, changes: Sequence[str], runs: Path) -> Path:
    """The run of 8 clusters, taught by a draw of clicks; it is made if it does not exist."""
    taught = runs / f"{name}-{CLICKS}-clicks-{draw}"
    if not taught.exists():
        run = run_of(name, 8, changes, runs)
        with atomic_path(taught) as scratch:
            shutil.copytree(run, scratch)
            with open(scratch / "clicks.csv", "w", newline="") as file:
                found = clicks(Pipeline.load(run), data_of(name, changes, runs), CLICKS, draw)
                csv.writer(file).writerows([("image", "z", "y", "x", "class"), *found])
            teach(scratch, [str(scratch / "clicks.csv")], anew=True)
    return taught


def ways(name: str, draws: int, changes: Sequence[str], runs: Path) -> Iterator[tuple[str, str, Path]]:
    """Each way to get class maps, its draw ("" if nothing is drawn), and its run."""
    for k in CLUSTERS:
        yield f"{k} clusters", "", run_of(name, k, changes, runs)
    for draw in range(draws):
        yield f"{CLICKS} clicks a class", str(draw), taught_run(name, draw, changes, runs)


def class_maps(run: Path, dataset: Dataset) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Class map and labels (Z, Y, X) of each test volume of a run."""
    for volume in dataset.test:
        found = tifffile.imread(run / "segmentation" / f"{volume.name}_classes.tif").reshape(volume.file_shape)
        _, top, left = volume.origin
        slices, (_, height, width) = list(volume.z_slices), volume.shape  # the file may be larger
        assert slices == list(range(slices[0], slices[0] + len(slices))), "objects need every slice"
        labels = np.stack([np.asarray(volume.read_labels(z)) for z in slices])
        labels = np.where((labels < 0) | (labels == dataset.ignore), 255, labels).astype(np.uint8)
        yield found[slices[0] : slices[-1] + 1, top : top + height, left : left + width], labels


def rows(run: Path, dataset: Dataset, least: int) -> Iterator[list[str]]:
    """For each class of a run except the rest: its name, whether cleaned, number of objects, and `MEASURES`."""
    for found, labels in class_maps(run, dataset):
        known = labels != 255
        for code, title in dataset.classes.items():
            if title.lower() in REST or not (labels == code).any():
                continue
            theirs, reference = sccs.objects((labels == code) & known, min_size=least, to=[])
            for cleaned, wishes in (("no", {}), ("yes", CLEAN)):
                ours, measured = np.zeros(labels.shape, np.uint32), reference[:0]
                if ((found == code) & known).any():
                    classes = {title: code}
                    masked = np.where(known, found, 255).astype(np.uint8)
                    ours, measured = sccs.objects(masked, classes=classes, min_size=least, to=[], **wishes)
                scores = instance_scores(np.where(known, ours, 0), theirs)
                shapes = zip(*(_shapes(each, known.sum()) for each in (measured, reference)))
                f1 = [scores["at"][t]["f1"] for t in (0.5, 0.7, 0.9)]
                values = [*f1, scores["panoptic_quality"], scores["split"], scores["merge"], *chain(*shapes)]
                counts = [str(scores["found"]), str(scores["reference"])]
                yield [title, cleaned, *counts, *(f"{value:.6g}" for value in values)]


def _shapes(objects: Any, voxels: int) -> tuple[float, ...]:
    """`SHAPES` of a table of objects."""
    return objects["voxels"].sum() / voxels, objects["diameter_px"].median(), objects["sphericity"].median()


def _mean(values: np.ndarray) -> float:
    """Mean of the values that are not NaN; NaN if none is left, as for sphericity if the border cuts all objects."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan


def shapes_table(lines: Sequence[Sequence[str]]) -> str:
    """Measurements of cleaned objects, means over draws, next to those of the labels."""
    found: dict[tuple[str, ...], list[Sequence[str]]] = {}
    for line in lines:
        if line[4] == "yes":
            found.setdefault((line[0], line[1], line[2]), []).append(line[5:])
    rows = []
    for (data, title, way), measured in found.items():
        of = {name: _mean(column) for name, column in zip(HEADER[5:], np.array(measured, float).T)}
        pairs = [(of["objects"], of["reference"], 0)]
        pairs += [(of[shape], of[f"reference {shape}"], digits) for shape, digits in zip(SHAPES, (3, 0, 2))]
        shown = (f"{ours:.{digits}f} ({theirs:.{digits}f})".replace("nan", "-") for ours, theirs, digits in pairs)
        rows.append([named(data), title, way, *shown])
    return markdown(["set", "class", "classes from", "objects", *SHAPES], rows)


def table(lines: Sequence[Sequence[str]]) -> str:
    """The rows of a CSV of this script, means over draws: how well objects are found."""
    found: dict[tuple[str, ...], list[Sequence[str]]] = {}
    for line in lines:
        found.setdefault((*line[:3], line[4]), []).append(line[5 : 7 + len(MEASURES)])
    shown = []
    for (data, title, way, cleaned), measured in found.items():
        objects, reference, *values = zip(*measured)
        counts = [f"{np.mean([int(each) for each in column]):.0f}" for column in (objects, reference)]
        shown.append(
            [named(data), title, way, cleaned, *counts, *(mean_sd(list(map(float, column))) for column in values)]
        )
    return markdown([head for head in HEADER[: 7 + len(MEASURES)] if head != "draw"], shown)


def page(lines: Sequence[Sequence[str]], least: int, changes: Sequence[str]) -> str:
    """The text of OUT/objects_found.md."""
    draws = len({line[3] for line in lines if line[3]})
    changed = f" Changed: {' '.join(changes)}." if changes else ""
    return (
        f"Class maps of `{SYSTEM}`. Objects are connected components of {least} voxels or more, of class maps and "
        f"labels alike, in test images; cleaned: smoothed over {CLEAN['smooth']:g} voxels, holes filled; clicks: "
        f"means ± standard deviations of {draws} draws.{changed} PQ: panoptic quality; split, merge: "
        f"variation of information, bits.\n\n{table(lines)}\n\nCleaned objects, in brackets those of the labels: "
        f"share of the voxels, medians of diameter and sphericity over objects.\n\n{shapes_table(lines)}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(COMMAND, description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--sets", nargs="+", choices=list(RECIPES), default=list(RECIPES))
    parser.add_argument("--draws", type=positive, default=3, help="of clicks")
    parser.add_argument("--min-size", type=int, default=500, help="size of the smallest object, in voxels")
    parser.add_argument("--set", nargs="+", default=[], metavar="a.b=c", help="change values of the recipes")
    parser.add_argument("--runs", type=Path, help="where runs are kept (default: OUT/runs)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/objects"))
    args = parser.parse_args(argv)
    lines = []
    for name in args.sets:
        runs = args.runs or args.out / "runs"
        dataset = data_of(name, args.set, runs)
        for way, draw, run in ways(name, args.draws, args.set, runs):
            for title, *measured in rows(run, dataset, args.min_size):
                lines.append([name, title, way, draw, *measured])
                print(*lines[-1], sep=", ", flush=True)
    text = page(lines, args.min_size, args.set)
    command = typed(COMMAND, argv)
    print(publish(args.out, "objects_found", "Objects found", Origin.here(command), text, HEADER, lines))
    return 0


if __name__ == "__main__":
    sys.exit(guard(main)())
