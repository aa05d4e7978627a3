"""Leads for SCCS+ that are not part of it: what each is worth, scored with the labels of training images alone.

    python -m benchmarks.studies.leads [--data platelet hela cdeep3m vnc phantom] [--leads N ...] [--seeds 0 1 2]
                                       [--halves] [--finetuned FOLDER] [--out benchmarks/results/leads]
                                       [--set a.b=c ...]

Each lead changes one thing in recipes/sccs_plus_mae.yaml; most are not an option of any part, and would become one if
they helped. A trial ends with the head's teacher, from which the head hardly deviates (`python -m benchmarks.tables
plus`).

Trained as the tables of size `quick` are, on one slice of each thick volume. Scored there, and, with the same mapping,
on the further slices of the training part of cdeep3m, vnc and phantom. platelet and hela have one slice.

Writes OUT/leads.md and OUT/leads.csv.

--halves: train on half of the places of the training part, and score the other half with the first half's mapping; up
to six divisions of a set. A place: a FOV's corner in all slices of a volume. Writes OUT/halves.md and OUT/halves.csv
instead.

--finetuned: folder with SET/model/mae.safetensors, the MAE trained further on that set's training slices
(recipes/mae.yaml with `checkpoint: bundled`), for the lead `MAE fine-tuned on the set`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.harness import REAL, SETS, job
from benchmarks.pages import Origin, markdown, mean_sd, named, publish, typed
from benchmarks.studies import steps
from benchmarks.studies.steps import HOPS, Arrays, K, Teacher, U
from benchmarks.studies.views import DIVISIONS, View, Views, halves, judged, views_of
from benchmarks.tables.rows import AREAS, SIDES
from registry.base import UserError
from registry.embedder.lgc_principal import LGCPrincipal
from registry.spg.affinity import AffinityGraph
from registry.spg.graphs import Nodes, RegionGraph
from sccs.system.exits import guard

COMMAND = "python -m benchmarks.studies.leads"
SYSTEM = "sccs_plus_mae"

Results = dict[str, dict[str, list[dict[str, float]]]]  # by lead and set, one for each seed


@dataclass(frozen=True)
class Lead:
    """The change, by stage; None: as in the recipe.

    overrides: of the recipe's features and graph. nodes(view) -> Nodes. weigh(graph, view) -> affinity (E,).
    project(X, seen, graphs) -> Z: features (n_s, d) of all FOVs, propagated, to coordinates (n_s, u).
    teach(Z, seen, seed) -> clusters (n_s,) of all FOVs. consensus: of coordinates after 4 to 8 propagations.
    """

    overrides: tuple[str, ...] = ()
    nodes: Callable[[View], Nodes] | None = None
    weigh: Callable[[RegionGraph, View], torch.Tensor] | None = None
    project: Callable[[list[torch.Tensor], int, Sequence[RegionGraph]], Arrays] | None = None
    teach: Teacher | None = None
    consensus: bool = False
    kappa: float = 1.0  # times the recipe's
    hops: int = HOPS


FILTERS = SIDES + AREAS
PARTS = "[{name: mae, stride: 80%s}, {name: filters%s}]"
HERE = "features.of=" + PARTS % (", checkpoint: '%s'", FILTERS)
LEADS = {
    "SCCS+": Lead(),
    "filters without `sides` and `areas`": Lead(overrides=(f"features.of={PARTS % ('', '')}",)),
    "filters without `sides`": Lead(overrides=(f"features.of={PARTS % ('', AREAS)}",)),
    "filters without `areas`": Lead(overrides=(f"features.of={PARTS % ('', SIDES)}",)),
    "4 propagations": Lead(hops=4),
    "8 propagations": Lead(hops=8),
    "teacher: spherical Gaussians of equal shares": Lead(teach=steps.by_mixture(True)),
    "teacher: Gaussians of equal shares": Lead(teach=steps.by_mixture(False)),
    "teacher: normalised cut of all training nodes": Lead(teach=steps.by_spectral),
    "coordinates of length 1": Lead(teach=steps.on_the_sphere),
    "discriminative k-means": Lead(project=lambda X, seen, graphs: steps.discriminant(X, seen)),
    "noise-whitened directions": Lead(project=steps.noise_whitened),
    "consensus over 4 to 8 propagations": Lead(consensus=True),
    "edges weighed by borders": Lead(weigh=steps.by_borders(0.5)),
    "edges weighed by borders, strongly": Lead(weigh=steps.by_borders(2.0)),
    "self-tuned kernel": Lead(weigh=steps.self_tuned),
    "kernel half as wide": Lead(kappa=0.5),
    "all edges of weight 1": Lead(weigh=steps.equal_weights),
    "20 feature neighbours": Lead(overrides=("graph.neighbours=20",)),
    "overlapping MAE windows": Lead(overrides=(f"features.of={PARTS.replace('80', '40') % ('', FILTERS)}",)),
    "and eigenvalues of the Hessian": Lead(nodes=steps.more_filters(steps.hessian)),
    "and eigenvalues of the structure tensor": Lead(nodes=steps.more_filters(steps.structure)),
    "and local medians": Lead(nodes=steps.more_filters(steps.medians)),
    "MAE fine-tuned on the set": Lead(overrides=(HERE,)),
    "layer 8 of the MAE's 14": Lead(overrides=(f"features.of={PARTS % (', layer: 8', FILTERS)}",)),
    "layers 8 and 14": Lead(
        overrides=(f"features.of=[{{name: mae, stride: 80, layer: 8}}, {PARTS[1:] % ('', FILTERS)}",)
    ),
    "superpixels of 50 px": Lead(overrides=("graph.pixels_per_superpixel=50",)),
    "superpixels of 200 px": Lead(overrides=("graph.pixels_per_superpixel=200",)),
}


def trial(lead: Lead, found: Views, seeds: Sequence[int]) -> list[dict[str, float]]:
    """DSC on the FOVs used for training, on the further ones (or the same), and the gap of the latter, per seed."""
    changed = [o for o in lead.overrides if o.startswith("graph")]
    builder = job(SYSTEM, "phantom", 0, "quick", changed).pipeline.graph
    nodes = [lead.nodes(view) if lead.nodes else view.nodes for view in found.views]
    assert isinstance(builder, AffinityGraph)
    builder.fit(nodes[: found.seen])
    builder.kappa_ *= lead.kappa
    graphs = [builder.connect(each) for each in nodes]
    if lead.weigh:
        graphs = [
            RegionGraph.from_edges(g.regions, g.feature, g.area, g.centroid, *g.edges, lead.weigh(g, view), g.grey)
            for g, view in zip(graphs, found.views)
        ]

    def propagated(hops: int) -> list[torch.Tensor]:
        walk = LGCPrincipal(u=U, hops=hops, normalisation="walk")
        return [walk._propagated(graph, graph.feature, hops) for graph in graphs]

    if lead.consensus:
        several = [steps.principal(propagated(hops), found.seen) for hops in (4, 5, 6, 7, 8)]
        return [judged(steps.consensus(several, found.seen, seed), found, K) for seed in seeds]
    X = propagated(lead.hops)
    Z = lead.project(X, found.seen, graphs) if lead.project else steps.principal(X, found.seen)
    return [judged((lead.teach or steps.by_kmeans)(Z, found.seen, seed), found, K) for seed in seeds]


def in_halves(lead: Lead, found: Views, seeds: Sequence[int]) -> list[dict[str, float]]:
    """`trial` of every division into halves: the mean over divisions, for each seed."""
    results = [trial(lead, each, seeds) for each in halves(found)]
    return [
        {key: float(np.mean([each[i][key] for each in results])) for key in results[0][i]} for i in range(len(seeds))
    ]


def _chosen(numbers: Sequence[int] | None) -> dict[str, Lead]:
    names = list(LEADS)
    if numbers and not all(0 <= i < len(names) for i in numbers):
        raise UserError(f"--leads: numbers from 0 to {len(names) - 1}, got {numbers}")
    return {name: LEADS[name] for name in (names if numbers is None else [names[i] for i in numbers])}


def _results(chosen: dict[str, Lead], args: argparse.Namespace) -> Results:
    """Every lead on every set; one that needs a fine-tuned MAE is left out if there is none."""
    results: Results = {name: {} for name in chosen}
    for data in args.data:
        plain = views_of(data, args.overrides, SYSTEM)
        for name, lead in chosen.items():
            if HERE in lead.overrides:
                file = args.finetuned and args.finetuned / data / "model" / "mae.safetensors"
                if not file or not file.is_file():
                    continue
                lead = replace(lead, overrides=(HERE % file.resolve(),))
            pooled = [o for o in lead.overrides if o.startswith(("features", "graph.pixels"))]
            found = views_of(data, args.overrides + pooled, SYSTEM) if pooled else plain
            results[name][data] = (in_halves if args.halves else trial)(lead, found, args.seeds)
            values = {key: np.mean([r[key] for r in results[name][data]]) for key in ("training", "further", "gap")}
            print(f"{data:9} {name:48}" + "  ".join(f"{key} {value:.3f}" for key, value in values.items()), flush=True)
    return {name: found for name, found in results.items() if found}


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Raises UserError for a number that is no lead."""
    parser = argparse.ArgumentParser(COMMAND, description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--data", nargs="+", default=list(SETS), choices=SETS, metavar="SET")
    parser.add_argument("--leads", nargs="+", type=int, metavar="N", help="numbers of rows, from 0 (default: all)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--halves", action="store_true")
    parser.add_argument("--finetuned", type=Path, metavar="FOLDER")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/leads"))
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="a.b=c", dest="overrides")
    args = parser.parse_args(argv)
    results = _results(_chosen(args.leads), args)
    name, heads = ("halves" if args.halves else "leads"), ["lead", "set", "seed", "measure", "value"]
    values = [
        [lead, data, seed, key, f"{value:.6g}"]
        for lead, found in results.items()
        for data, each in found.items()
        for seed, result in zip(args.seeds, each)
        for key, value in result.items()
    ]
    origin = Origin.here(typed(COMMAND, argv), seeds=args.seeds)
    print(publish(args.out, name, "Leads for SCCS+", origin, _page(args, results), heads, values))
    return 0


def table(results: Results, sets: Sequence[str], halves: bool) -> str:
    """A row for each lead, a column for each set."""

    def over(found: dict[str, list[dict[str, float]]], key: str, chosen: Sequence[str]) -> str:
        if not chosen or any(data not in found for data in chosen):
            return "-"
        by_set = [[r[key] for r in found[data]] for data in chosen]
        return mean_sd(np.mean(by_set, axis=0).tolist())

    real = [data for data in sets if data in REAL]
    rows = [
        [
            name,
            *(mean_sd([r["further"] for r in found.get(data, [])]) for data in sets),
            over(found, "further", sets),
            over(found, "training", sets),
            over(found, "gap", real),
        ]
        for name, found in results.items()
    ]
    scored = "the half trained on" if halves else "trained on"
    return markdown(["lead", *map(named, sets), "mean", f"mean, {scored}", "gap, mean of real sets"], rows)


def _page(args: argparse.Namespace, results: Results) -> str:
    which = (
        "trained on half of the places of the training part; sets and `mean`: the other half; up to "
        f"{DIVISIONS} divisions of a set"
        if args.halves
        else "sets and `mean`: slices of the training part that were not trained on, if a set has any "
        "(cdeep3m, vnc, phantom); `mean, trained on`: the images trained on"
    )
    return (
        f"Mean DSC over classes, mapping `train`, training images only, mean ± standard deviation over seeds: {which}."
        "\n\n" + table(results, args.data, args.halves)
    )


if __name__ == "__main__":
    sys.exit(guard(main)())
