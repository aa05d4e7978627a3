"""What each choice in recipes/sccs.yaml is worth: the recipe with one choice changed at a time, on training images.

    python -m benchmarks.studies.study_sccs [--data platelet hela cdeep3m vnc] [--seeds 0 1 2] [--variants N ...]
                                            [--jobs 1] [--out benchmarks/results/study_sccs]

No test image is used. A system is trained on a set's training images, without labels, with the iterations of size
`quick`; then the mapping is fitted on half of their places, and the other half is scored: the mean over many divisions
(benchmarks/studies/views.py). Writes OUT/table.md and OUT/table.csv.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from functools import cache
from itertools import product, repeat
from pathlib import Path

import numpy as np
import torch

from benchmarks.harness import REAL, in_processes, job
from benchmarks.pages import Origin, markdown, mean_sd, publish, typed
from benchmarks.studies.views import Views, halves, judged, views_of
from registry.base import UserError
from registry.spg.losses import spectral
from sccs.arguments import positive
from sccs.system.exits import guard
from sccs.system.log import quiet_log
from sccs.training.fit import TrainingGraphs, train_parts
from sccs.training.trainer import agreement

COMMAND = "python -m benchmarks.studies.study_sccs"
DIVISIONS = 35
FEATURES = ("features={name: mae, stride: 80}",)
PRINTED = (
    "graph.standardize=none",
    "graph.kappa=2",
    "embedder.columns=graph",
    "embedder.scale=graph",
    "embedder.orthogonality=paper",
    "clusterer.warmup=0",
    "clusterer.detach=false",
    "train.schedule=constant",
)
VARIANTS: dict[str, tuple[str, ...]] = {
    "as in recipes/sccs.yaml": (),
    "start at principal directions": ("embedder.init=pca",),
    "LGC as it starts, not trained": ("train.weights.spe=0",),
    "L_spe graph by graph": ("embedder.columns=graph",),
    "columns weighed one by one (explained)": ("embedder.scale=explained",),
    "unit columns": ("embedder.scale=unit",),
    "columns as the layers give them": ("embedder.scale=none",),
    "joint: L_clu and L_smo reach the embedding": ("clusterer.detach=false",),
    "joint from the first iteration": ("clusterer.detach=false", "clusterer.warmup=0"),
    "head from the first iteration": ("clusterer.warmup=0",),
    "head from three quarters on": ("clusterer.warmup=1500",),
    "both parts at a constant rate": ("train.schedule=constant",),
    "both parts by a cosine": ("train.schedule=cosine",),
    "centroids that forget (decay .9)": ("clusterer.decay=0.9",),
    "empty clusters placed anew": ("clusterer.reseed=true",),
    "without L_smo": ("train.weights.smo=0",),
    "feature neighbours only": ("graph.edges=knn",),
    "touching regions only": ("graph.edges=adjacent",),
    "kappa 2 on features as they are": ("graph.standardize=none", "graph.kappa=2"),
    "printed choices, edges as in the recipe": PRINTED,
}
COMPARED = {"kmeans, no embedding": "kmeans", "w/o NC_inc": "wo_nc_inc"}
MEASURES = ("dsc", "agreement", "clusters in use")
Trials = list[dict[str, float]]  # one for each seed
Results = dict[str, dict[str, Trials]]  # by choice and set


def trial(system: str, overrides: Sequence[str], found: Views, seed: int) -> dict[str, float]:
    """The system trained on all views: mean DSC of halves that the mapping was not fitted on, agreement of the head,
    L_spe (mean over graphs, as `gnn` takes it), seconds of training."""
    pipeline = job(system, "phantom", seed, "quick", overrides).pipeline
    nodes = [view.nodes for view in found.views]
    pipeline.graph.fit(nodes)
    graphs = [pipeline.graph.connect(each) for each in nodes]
    start = time.perf_counter()
    train_parts(pipeline, TrainingGraphs(graphs, found.anchor), quiet_log())
    seconds = time.perf_counter() - start
    with torch.no_grad():
        Z = [pipeline.embedder.embed(graph) for graph in graphs]
        P = [pipeline.clusterer.predict(*each) for each in zip(graphs, Z)]
        columns = getattr(
            pipeline.embedder, "coordinates", pipeline.embedder.embed
        )  # as L_spe sees them, before scaling
        spe = [spectral(graph, columns(graph)).item() for graph in graphs]
    clusters = {id(view): each.argmax(1).numpy() for view, each in zip(found.views, P)}
    divided = halves(found, DIVISIONS)
    scored = [judged([clusters[id(view)] for view in each.views], each, pipeline.k)["further"] for each in divided]
    taught = agreement(pipeline.embedder, pipeline.clusterer, graphs)
    return {
        "dsc": float(np.mean(scored)),
        "agreement": np.nan if taught is None else taught,
        "spe": float(np.mean(spe)),
        "seconds": seconds,
        "clusters in use": len(np.unique(np.concatenate(list(clusters.values())))),
    }


def seen_of(found: Views) -> Views:
    """Only the views used for training."""
    return Views(found.classes, found.views[: found.seen], found.seen)


@cache
def training_views(data: str, features: Sequence[str]) -> Views:
    """The training images of a set; computed once in a process."""
    return seen_of(views_of(data, features))


def _trials(name: str, system: str, overrides: Sequence[str], data: str, seeds: Sequence[int]) -> Trials:
    """A row on one set, for each seed."""
    found = [trial(system, overrides, training_views(data, FEATURES), seed) for seed in seeds]
    print(f"{data}: {name}: {mean_sd([each['dsc'] for each in found])}", flush=True)
    return found


def _rows(numbers: Sequence[int] | None) -> dict[str, tuple[str, tuple[str, ...]]]:
    rows = {name: ("sccs", overrides) for name, overrides in VARIANTS.items()}
    rows |= {name: (system, ()) for name, system in COMPARED.items()}
    if numbers is None:
        return rows
    if not all(0 <= i < len(rows) for i in numbers):
        raise UserError(f"--variants: numbers from 0 to {len(rows) - 1}, got {numbers}")
    return {name: row for i, (name, row) in enumerate(rows.items()) if i in numbers}


def _line(name: str, found: dict[str, Trials]) -> list[str]:
    dsc = [[each["dsc"] for each in trials] for trials in found.values()]
    least = min(each["agreement"] for trials in found.values() for each in trials)
    means = [mean_sd(values) for values in [*dsc, np.mean(dsc, axis=0).tolist()]]
    return [name, *means, "-" if np.isnan(least) else f"{least:.3f}"]


def table(results: Results) -> str:
    """A row for each choice, a column for each set."""
    sets = list(next(iter(results.values())))
    return markdown(["choice", *sets, "mean", "agreement"], [_line(*each) for each in results.items()])


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Raises UserError for a number that is no variant."""
    parser = argparse.ArgumentParser(COMMAND, description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--data", nargs="+", default=list(REAL), metavar="SET")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--variants", nargs="+", type=int, metavar="N", help="numbers of rows, from 0 (default: all)")
    parser.add_argument("--jobs", type=positive, default=1, help="processes; above 1, each has one thread")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/study_sccs"))
    args = parser.parse_args(argv)
    chosen = _rows(args.variants)
    wanted = [(name, *row, data) for (name, row), data in product(chosen.items(), args.data)]
    results: Results = {name: {} for name in chosen}
    for (name, *_, data), found in zip(wanted, in_processes(args.jobs, _trials, *zip(*wanted), repeat(args.seeds))):
        results[name][data] = found
    values = [
        [name, data, seed, measure, f"{each[measure]:.6g}"]
        for name, found in results.items()
        for data, trials in found.items()
        for seed, each in zip(args.seeds, trials)
        for measure in MEASURES
    ]
    text = (
        "Mean DSC on training images, mean ± standard deviation over seeds: mapping `train` fitted on half of their "
        f"places, the other half scored, up to {DIVISIONS} divisions of a set. Agreement: share of the nodes to which "
        "the head gives its teacher's cluster, minimum over sets and seeds.\n\n"
    ) + table(results)
    origin = Origin.here(typed(COMMAND, argv), seeds=args.seeds)
    heads = ["choice", "set", "seed", "measure", "value"]
    print(publish(args.out, "table", "One choice at a time", origin, text, heads, values))
    return 0


if __name__ == "__main__":
    sys.exit(guard(main)())
