"""What a student costs: the systems with the MAE's features and with its student's, on training images.

    SCCS_DATA=DIR python -m benchmarks.studies.students [--data platelet hela cdeep3m vnc] [--seeds 0 1 2]
                                                        [--checkpoint bundled] [--jobs 1] [--around | --hops]
                                                        [--out benchmarks/results/students]

No test image is used: as in `benchmarks.studies.study_sccs`, a system is trained on a set's training images, without
labels, with the iterations of size `quick`; then the mapping is fitted on half of their places, and the other half is
scored. Writes OUT/students.md and OUT/students.csv.

--around: `sccs_plus` alone, at settings around the recipe's (AROUND), by k-means, which teaches the head and hardly
differs from it. A set with few places has few halves, and one cluster more or less in the nucleus moves its score by
.05, so a single setting is only one sample. Writes OUT/around.md and OUT/around.csv instead.

The student is measured in float32, and again in bfloat16, which it uses where the processor supports it natively.

--hops: the same at the settings HOPS, by which the number of propagations of recipes/sccs_plus.yaml and
recipes/sccs_plus_fine.yaml was chosen. Writes OUT/hops.md and OUT/hops.csv instead.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from itertools import product, repeat
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import REAL, in_processes, job
from benchmarks.pages import Origin, markdown, mean_sd, publish, typed
from benchmarks.studies.study_sccs import seen_of, trial
from benchmarks.studies.views import views_of
from sccs.arguments import positive
from sccs.system.exits import guard

COMMAND = "python -m benchmarks.studies.students"
SYSTEMS = ("kmeans", "sccs", "sccs_plus")
MAE = "{name: mae, stride: 80}"
KINDS = ("MAE", "student")  # of features; the student computes in float32
HALVED = "student in bfloat16"
Settings = dict[str, tuple[int, ...]]  # keys of the recipe and their values, in all combinations
BySet = dict[str, dict[tuple[str, int, int, int], list[float]]]  # set: (features, *setting): DSC for each seed
AROUND: Settings = {
    "graph.pixels_per_superpixel": (80, 100, 130),
    "embedder.hops": (4, 6, 8),
    "clusterer.k": (8, 16, 32),
}
HOPS: Settings = {"graph.pixels_per_superpixel": (100,), "embedder.hops": (4, 6, 8, 10), "clusterer.k": (8, 32)}


def features(checkpoint: str) -> dict[str, dict[str, str]]:
    """For each system, with teacher or student: the override of its features."""
    student = f"{{name: student, checkpoint: {checkpoint}, precision: %s}}"
    kinds = {"MAE": MAE, "student": student % "float32", HALVED: student % "bfloat16"}
    block = job("sccs_plus", "phantom", 0).pipeline.recipe.features.block()
    filters = next(part for part in block["of"] if isinstance(part, dict) and part["name"] == "filters")
    given = "{" + ", ".join(f"{key}: {value}" for key, value in filters.items()) + "}"
    return {
        system: {
            name: f"features={{name: concat, of: [{part}, {given}]}}" if system == "sccs_plus" else f"features={part}"
            for name, part in kinds.items()
        }
        for system in SYSTEMS
    }


def of_set(data: str, seeds: Sequence[int], checkpoint: str) -> dict[tuple[str, str], list[float]]:
    """DSC for each seed, by system and features."""
    found = {}
    for system, named in features(checkpoint).items():
        for name, override in named.items():
            views = seen_of(views_of(data, [override]))
            of = "sccs_plus_mae" if (system, name) == ("sccs_plus", "MAE") else system
            found[system, name] = dsc = [trial(of, [override], views, seed)["dsc"] for seed in seeds]
            print(f"{system:10} {name:8} {data:9} {mean_sd(dsc)}", flush=True)
    return found


def around_set(
    data: str, seeds: Sequence[int], checkpoint: str, settings: Settings
) -> dict[tuple[str, int, int, int], list[float]]:
    """DSC of `sccs_plus` for each seed, by features and what `settings` names."""
    found = {}
    pixels, hops, ks = settings.values()
    overrides = features(checkpoint)["sccs_plus"]
    for name in KINDS:
        for px in pixels:
            given = [overrides[name], f"graph.pixels_per_superpixel={px}"]
            views = seen_of(views_of(data, given))
            for h, k in product(hops, ks):
                changed = [*given, f"embedder.hops={h}", f"clusterer={{name: kmeans, k: {k}}}"]
                found[name, px, h, k] = [trial("sccs_plus", changed, views, seed)["dsc"] for seed in seeds]
            dsc = [found[name, px, h, k] for h, k in product(hops, ks)]
            print(f"{name:8} {px:4} px {data:9} {np.mean(dsc):.3f}", flush=True)
    return found


def hops_table(by_set: BySet) -> str:
    """A row for each setting and kind of features."""
    rows = []
    ((px,), hops, ks) = HOPS.values()
    for k, h, name in product(ks, hops, KINDS):
        each = [found[name, px, h, k] for found in by_set.values()]
        rows.append([str(k), str(h), name, *map(mean_sd, each), mean_sd(np.mean(each, 0))])
    return (
        "Mean DSC of `sccs_plus` on the half of the training places that the mapping was not fitted on, ± standard "
        "deviation over seeds. k-means in place of the head.\n\n"
    ) + markdown(["k", "propagations", "features", *by_set, "mean"], rows)


def around_table(by_set: BySet) -> str:
    """A row for each number of clusters, and one for all: means over settings and seeds."""
    rows = []
    settings = list(next(iter(by_set.values())))
    for k in (*AROUND["clusterer.k"], None):
        means = {}
        for name in KINDS:
            chosen = [s for s in settings if s[0] == name and k in (None, s[3])]
            # (sets, settings, seeds)
            values = np.array([[each[s] for s in chosen] for each in by_set.values()])
            means[name] = values.mean(0)
            rows.append([str(k or "all"), name, *(f"{v:.3f}" for v in values.mean((1, 2))), f"{values.mean():.3f}", ""])
        lost = means["MAE"] - means["student"]  # (settings, seeds), of the mean over sets
        rows[-1][-1] = f"{lost.mean():.3f} ± {lost.mean(1).std() / np.sqrt(len(lost)):.3f}"
    return (
        "Mean DSC of `sccs_plus` on the half of the training places that the mapping was not fitted on; mean over "
        f"{' x '.join(str(len(values)) for values in AROUND.values())} settings (superpixels of "
        f"{', '.join(map(str, AROUND['graph.pixels_per_superpixel']))} px; "
        f"{', '.join(map(str, AROUND['embedder.hops']))} propagations; k). k-means in place of the head. *Lost*: the "
        "MAE's less the student's, ± standard error over settings, which are not independent.\n\n"
    ) + markdown(["k", "features", *by_set, "mean", "lost"], rows)


def read(path: Path) -> dict[tuple[str, str], np.ndarray]:
    """Of OUT/students.csv, by system and features: mean DSC of the sets, for each seed."""
    found: dict[tuple[str, str], dict[str, list[float]]] = {}
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            by_seed = found.setdefault((row["system"], row["features"]), {})
            by_seed.setdefault(row["seed"], []).append(float(row["dsc"]))
    return {key: np.array([np.mean(each) for each in by_seed.values()]) for key, by_seed in found.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(COMMAND, description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--data", nargs="+", default=list(REAL), choices=REAL, metavar="SET")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--checkpoint", default="bundled", help="of the student")
    parser.add_argument("--jobs", type=positive, default=1, help="processes; above 1, each has one thread")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--around", action="store_true", help="sccs_plus at the settings around the recipe's")
    which.add_argument("--hops", action="store_true", help="sccs_plus by the number of propagations")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/students"))
    args = parser.parse_args(argv)
    given = (args.data, repeat(args.seeds), repeat(args.checkpoint))
    around, settings = args.around or args.hops, HOPS if args.hops else AROUND
    do, more = (around_set, [repeat(settings)]) if around else (of_set, [])
    by_set: list[Any] = list(in_processes(args.jobs, do, *given, *more))
    if around:
        values = [
            [data, *setting, seed, f"{dsc:.6g}"]
            for data, found in zip(args.data, by_set)
            for setting, each in found.items()
            for seed, dsc in zip(args.seeds, each)
        ]
        name, table = ("hops", hops_table) if args.hops else ("around", around_table)
        title = f"What a student costs SCCS+, {'by propagations' if args.hops else 'around its settings'}"
        text, heads = table(dict(zip(args.data, by_set))), ["set", "features", *settings, "seed", "dsc"]
        origin = Origin.here(typed(COMMAND, argv))
        print(publish(args.out, name, title, origin, text, heads, values))
        return 0
    found = {key: {data: each[key] for data, each in zip(args.data, by_set)} for key in by_set[0]}
    rows = []
    for system in SYSTEMS:
        means = {name: np.mean(list(found[system, name].values()), 0) for name in (*KINDS, HALVED)}
        for name, mean in means.items():
            lost = "" if name == "MAE" else mean_sd(means["MAE"] - mean)
            rows.append([system, name, *(mean_sd(each) for each in found[system, name].values()), mean_sd(mean), lost])
    text = (
        "Mean DSC over classes on the half of the training places that the mapping was not fitted on, ± standard "
        "deviation over seeds. *Lost*: the MAE's mean less the student's, seed by seed. The student was taught with "
        "images of platelet and hela, whole and without labels; it never saw cdeep3m and vnc.\n\n"
    ) + markdown(["system", "features", *args.data, "mean", "lost"], rows)
    values = [
        [system, name, data, seed, f"{dsc:.6g}"]
        for (system, name), by in found.items()
        for data, each in by.items()
        for seed, dsc in zip(args.seeds, each)
    ]
    origin = Origin.here(typed(COMMAND, argv), seeds=args.seeds)
    heads = ["system", "features", "set", "seed", "dsc"]
    print(publish(args.out, "students", "What a student costs", origin, text, heads, values))
    return 0


if __name__ == "__main__":
    sys.exit(guard(main)())
