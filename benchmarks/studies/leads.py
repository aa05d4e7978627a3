"""Leads for SCCS+ that are no part of it: what each is worth, by the labels of training images. No test image is used.

    python benchmarks/studies/leads.py [--data platelet hela cdeep3m vnc phantom] [--leads N ...] [--seeds 0 1 2]
                               [--halves] [--finetuned FOLDER] [--out benchmarks/results/leads] [--set a.b=c ...]

Each lead changes one thing in recipes/sccs_plus.yaml; most are no option of any part, and would become one if they
paid. A trial ends with the head's teacher, from which the head hardly moves (`tables.py plus`).

Trained as `tables.py --size quick` does, on one slice of each thick volume. Scored there, and, with the same mapping, on
the further slices of the training part of cdeep3m, vnc and phantom. platelet and hela have one slice.

Writes OUT/leads.md and OUT/leads.csv.

--halves: half of the places of the training part is trained on, and the other scored with that half's mapping; up to six
divisions of a set. A place: a FOV's corner in all slices of a volume. Writes OUT/halves.md and OUT/halves.csv instead.

--finetuned: folder with SET/model/mae.safetensors, the MAE trained on with that set's training slices (recipes/mae.yaml
with `checkpoint: bundled`), for the lead `MAE fine-tuned on the set`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter, gaussian_gradient_magnitude, median_filter

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from harness import REAL, SETS, describe, expanded, job, markdown, mean_sd, publish
from tables import AREAS, PARTS, SIDES

from registry.base import FeatureMap, UserError
from registry.clusterer.mlp_global import mixture
from registry.embedder.lgc_principal import LGCPrincipal
from registry.numeric.kmeans import cluster_sums, kmeans
from registry.numeric.nearest import squared_distances
from registry.spg.affinity import squared_lengths
from registry.spg.graphs import Nodes, RegionGraph
from registry.spg.pooling import pool
from sccs.cli import guard
from sccs.data import load_dataset
from sccs.evaluation.scores import confusion, consistency, fit_mapping, rest_position, scores
from sccs.run import environment

K, U, HOPS = 8, 12, 6  # of the recipe
FURTHER = {"cdeep3m": [2, 8, 2], "vnc": [2, 6, 2]}  # z of slices of the training part that `quick` leaves out
PHANTOM_SLICES = 3  # of each training volume; `quick` has one
SIGMAS = (1, 2, 4, 8, 16)  # px, those of `filters`
DIVISIONS = 6  # of a set into halves, at most
MOST_SPECTRAL = 6000  # nodes of which a spectral teacher solves the eigenproblem

Arrays = list[np.ndarray]  # one for each FOV


@dataclass
class View:
    """A training FOV: nodes, image (H, W), pixels of each class in each region (n_s, C), volume and corner (y, x)."""

    nodes: Nodes
    image: np.ndarray
    counts: np.ndarray
    place: tuple[str, int, int] = ("", 0, 0)


@dataclass
class Views:
    """Of one set: the FOVs trained on come first, `seen` of them."""

    classes: list[str]
    views: list[View]
    seen: int


@dataclass(frozen=True)
class Lead:
    """What is changed, by stage; None: as in the recipe.

    overrides: of the recipe's features and graph. nodes(view) -> Nodes. weigh(graph, view) -> affinity (E,).
    project(X, seen) -> Z: features (n_s, d) of all FOVs, propagated, to coordinates (n_s, u).
    teach(Z, seen, seed) -> clusters (n_s,) of all FOVs.
    """

    overrides: tuple[str, ...] = ()
    nodes: Callable[[View], Nodes] | None = None
    weigh: Callable[[RegionGraph, View], torch.Tensor] | None = None
    project: Callable[[list[torch.Tensor], int], Arrays] | None = None
    teach: Callable[[Arrays, int, int], Arrays] | None = None
    kappa: float = 1.0  # times the recipe's
    hops: int = HOPS


# -------------------------------------------------------------------------------------------------------- the recipe
def principal(X: list[torch.Tensor], seen: int) -> Arrays:
    A = torch.cat(X[:seen])
    mean = A.mean(0)
    W = torch.linalg.eigh(((A - mean).T @ (A - mean)).double())[1].flip(1)[:, :U].float()
    return [((x - mean) @ W).numpy() for x in X]


def by_kmeans(Z: Arrays, seen: int, seed: int) -> Arrays:
    means = kmeans(np.concatenate(Z[:seen]), K, seed)[0]
    return [squared_distances(z, means).argmin(1) for z in Z]


# --------------------------------------------------------------------------------------------------------- the leads
def by_mixture(spherical: bool) -> Callable:
    def teach(Z: Arrays, seen: int, seed: int) -> Arrays:
        points = np.concatenate(Z[:seen])
        m, v, share = mixture(points, kmeans(points, K, seed)[1], K, True, spherical)
        bias = np.log(share) - 0.5 * (m**2 / v + np.log(v)).sum(1)
        return [(z @ (m / v).T - z**2 @ (0.5 / v).T + bias).argmax(1) for z in Z]

    return teach


def on_the_sphere(Z: Arrays, seen: int, seed: int) -> Arrays:
    return by_kmeans([z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12) for z in Z], seen, seed)


def by_spectral(Z: Arrays, seen: int, seed: int, neighbours: int = 60, voters: int = 15) -> Arrays:
    """Normalised cut of one graph of all training nodes, its kernel self-tuned; others by a vote of the nearest."""
    from scipy.sparse import csr_matrix, diags
    from scipy.sparse.linalg import eigsh
    from scipy.spatial import cKDTree

    points = np.concatenate(Z[:seen])
    if len(points) > MOST_SPECTRAL:
        points = points[np.random.default_rng(seed).choice(len(points), MOST_SPECTRAL, replace=False)]
    tree = cKDTree(points)
    distance, nearest = (found[:, 1:] for found in tree.query(points, neighbours + 1))
    width = distance[:, neighbours // 2]
    weight = np.exp(-(distance**2) / np.maximum(width[:, None] * width[nearest], 1e-12))
    ends = np.repeat(np.arange(len(points)), neighbours), nearest.ravel()
    A = csr_matrix((weight.ravel(), ends), (len(points), len(points)))
    A = (A + A.T) / 2
    scale = 1 / np.sqrt(np.asarray(A.sum(1)).ravel())
    start = np.random.default_rng(seed).standard_normal(len(points))
    V = eigsh(diags(scale) @ A @ diags(scale), k=K, which="LA", v0=start)[1]
    labels = kmeans((V / np.linalg.norm(V, axis=1, keepdims=True)).astype(np.float32), K, seed)[1]
    return [np.eye(K, dtype=int)[labels[tree.query(z, voters)[1]]].sum(1).argmax(1) for z in Z]


def discriminant(X: list[torch.Tensor], seen: int, shrink: float = 0.1, rounds: int = 10) -> Arrays:
    """Discriminative k-means (Ye et al. 2007): k - 1 directions that part the clusters of the coordinates so far."""
    A = torch.cat(X[:seen]).double()
    mean = A.mean(0)
    A = A - mean
    total = A.T @ A / len(A)
    L = torch.linalg.cholesky(total + shrink * total.trace() / len(total) * torch.eye(len(total)))
    Z = principal(X, seen)
    labels = kmeans(np.concatenate(Z[:seen]), K, 0)[1]
    for _ in range(rounds):
        member = torch.nn.functional.one_hot(torch.from_numpy(labels), K).double()
        M = (member.T @ A) / member.sum(0).clamp(min=1).sqrt()[:, None]  # M^T M: scatter between clusters
        half = torch.linalg.solve_triangular(L, M.T, upper=False)
        W = torch.linalg.solve_triangular(L.T, torch.linalg.eigh(half @ half.T)[1].flip(1)[:, : K - 1], upper=True)
        Z = [((x.double() - mean) @ W).float().numpy() for x in X]
        points = np.concatenate(Z[:seen])
        for _ in range(rounds):  # Lloyd, from the clusters so far
            sums, count = cluster_sums(points, labels, K)
            labels = squared_distances(points, (sums / np.maximum(count, 1)[:, None]).astype(np.float32)).argmin(1)
    return Z


def noise_whitened(X: list[torch.Tensor], seen: int, graphs: Sequence[RegionGraph], shrink: float = 10) -> Arrays:
    """Minimum noise fraction (Green et al. 1988): principal directions once differences along edges are made white."""
    width = X[0].shape[1]
    noise = torch.zeros(width, width, dtype=torch.float64)
    for graph in graphs[:seen]:
        D = graph.feature[graph.src] - graph.feature[graph.dst]
        noise += (D.T @ (D * graph.affinity[:, None])).double()
    noise += shrink * noise.trace() / width * torch.eye(width)
    values, vectors = torch.linalg.eigh(noise / noise.trace())
    whitening = (vectors * values.rsqrt() @ vectors.T).float()
    return principal([x @ whitening for x in X], seen)


def consensus(Z: Sequence[Arrays], seen: int, seed: int) -> Arrays:
    """k-means of the clusters that several coordinates give a node, each as a point of {0, 1}^k."""
    eye = np.eye(K, dtype=np.float32)
    parts = [by_kmeans(each, seen, seed) for each in Z]
    joint = [torch.from_numpy(np.concatenate([eye[part[i]] for part in parts], 1)) for i in range(len(parts[0]))]
    return by_kmeans(principal(joint, seen), seen, seed)


def by_borders(strength: float) -> Callable:
    """Affinity of touching regions times exp(-strength b / median b), b the mean gradient along their border."""

    def weigh(graph: RegionGraph, view: View) -> torch.Tensor:
        n, R = graph.n, graph.regions.astype(np.int64)
        steep = gaussian_gradient_magnitude(view.image, 1.0)
        keys, values = [], []
        for first, second in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
            border = R[first] != R[second]
            a, b = R[first][border], R[second][border]
            keys.append(np.minimum(a, b) * n + np.maximum(a, b))
            values.append((steep[first] + steep[second])[border] / 2)
        pairs, member = np.unique(np.concatenate(keys), return_inverse=True)
        mean = np.bincount(member, np.concatenate(values)) / np.bincount(member)
        factor = np.exp(strength * (1 - mean / max(np.median(mean), 1e-6))).astype(np.float32)
        src, dst = graph.src.numpy(), graph.dst.numpy()
        edge = np.minimum(src, dst) * n + np.maximum(src, dst)
        place = np.searchsorted(pairs, edge).clip(max=len(pairs) - 1)
        return graph.affinity * torch.from_numpy(np.where(pairs[place] == edge, factor[place], 1).astype(np.float32))

    return weigh


def self_tuned(graph: RegionGraph, view: View) -> torch.Tensor:
    """exp(-d^2 / (s_i s_j)), s_i^2 the median squared length of the edges of i (after Zelnik-Manor & Perona 2004)."""
    d2, src = squared_lengths(graph.feature, graph.src, graph.dst), graph.src
    order = torch.argsort(d2)
    order = order[torch.argsort(src[order], stable=True)]
    loops = src == graph.dst
    order = order[~loops[order]]
    count = torch.bincount(src[~loops], minlength=graph.n)
    middle = (count.cumsum(0) - count + (count - 1).clamp(min=0) // 2).clamp(max=max(len(order) - 1, 0))
    width = torch.where(count > 0, d2[order][middle] if len(order) else torch.ones(graph.n), torch.ones(graph.n))
    return torch.exp(-d2 / (width[src] * width[graph.dst]).sqrt().clamp(min=1e-9))


def equal_weights(graph: RegionGraph, view: View) -> torch.Tensor:
    return torch.ones_like(graph.affinity)


def more_filters(responses: Callable[[np.ndarray], list[np.ndarray]]) -> Callable[[View], Nodes]:
    """Further channels in the map of the classical filters."""

    def nodes(view: View) -> Nodes:
        values = np.stack(responses(view.image), axis=2).astype(np.float32)
        more = pool(FeatureMap(values=values, step=1.0, offset=0.0, shape=view.image.shape), view.nodes.regions)
        blocks = view.nodes.blocks + np.array([0, more.shape[1]])
        return replace(view.nodes, feature=np.concatenate([view.nodes.feature, more], axis=1), blocks=blocks)

    return nodes


def eigenvalues(yy: np.ndarray, xx: np.ndarray, yx: np.ndarray) -> list[np.ndarray]:
    half, mean = np.sqrt(((yy - xx) / 2) ** 2 + yx**2), (yy + xx) / 2
    return [mean + half, mean - half]


def hessian(image: np.ndarray) -> list[np.ndarray]:
    orders = (2, 0), (0, 2), (1, 1)
    return [
        value
        for s in SIGMAS
        for value in eigenvalues(*(gaussian_filter(image, s, order=order) * s**2 for order in orders))
    ]


def structure(image: np.ndarray) -> list[np.ndarray]:
    found = []
    for s in SIGMAS:
        dy, dx = (gaussian_filter(image, max(s / 2, 0.7), order=order) * s for order in ((1, 0), (0, 1)))
        tensor = (gaussian_filter(product, s) for product in (dy * dy, dx * dx, dy * dx))
        found += [np.sqrt(np.maximum(value, 0)) for value in eigenvalues(*tensor)]
    return found


def medians(image: np.ndarray) -> list[np.ndarray]:
    return [median_filter(gaussian_filter(image, 1), side) for side in (3, 7)]


FILTERS = SIDES + AREAS
HERE = "features.of=" + PARTS % (", checkpoint: '%s'", FILTERS)
LEADS = {
    "SCCS+": Lead(),
    "filters without `sides` and `areas`": Lead(overrides=(f"features.of={PARTS % ('', '')}",)),
    "filters without `sides`": Lead(overrides=(f"features.of={PARTS % ('', AREAS)}",)),
    "filters without `areas`": Lead(overrides=(f"features.of={PARTS % ('', SIDES)}",)),
    "4 propagations": Lead(hops=4),
    "8 propagations": Lead(hops=8),
    "teacher: spherical Gaussians of equal shares": Lead(teach=by_mixture(True)),
    "teacher: Gaussians of equal shares": Lead(teach=by_mixture(False)),
    "teacher: normalised cut of all training nodes": Lead(teach=by_spectral),
    "coordinates of length 1": Lead(teach=on_the_sphere),
    "discriminative k-means": Lead(project=discriminant),
    "noise-whitened directions": Lead(project=noise_whitened),
    "consensus over 4 to 8 propagations": Lead(teach=consensus),
    "edges weighed by borders": Lead(weigh=by_borders(0.5)),
    "edges weighed by borders, strongly": Lead(weigh=by_borders(2.0)),
    "self-tuned kernel": Lead(weigh=self_tuned),
    "kernel half as wide": Lead(kappa=0.5),
    "all edges of weight 1": Lead(weigh=equal_weights),
    "20 feature neighbours": Lead(overrides=("graph.neighbours=20",)),
    "overlapping MAE windows": Lead(overrides=(f"features.of={PARTS.replace('80', '40') % ('', FILTERS)}",)),
    "and eigenvalues of the Hessian": Lead(nodes=more_filters(hessian)),
    "and eigenvalues of the structure tensor": Lead(nodes=more_filters(structure)),
    "and local medians": Lead(nodes=more_filters(medians)),
    "MAE fine-tuned on the set": Lead(overrides=(HERE,)),
    "layer 8 of the MAE's 14": Lead(overrides=(f"features.of={PARTS % (', layer: 8', FILTERS)}",)),
    "layers 8 and 14": Lead(
        overrides=(f"features.of=[{{name: mae, stride: 80, layer: 8}}, {PARTS[1:] % ('', FILTERS)}",)
    ),
    "superpixels of 50 px": Lead(overrides=("graph.pixels_per_superpixel=50",)),
    "superpixels of 200 px": Lead(overrides=("graph.pixels_per_superpixel=200",)),
}


# ----------------------------------------------------------------------------------------------------------- a trial
def views_of(data: str, overrides: Sequence[str]) -> Views:
    """The set's training FOVs as nodes: those of `quick`, then the further ones."""
    wanted = job("sccs_plus", data, 0, "quick", overrides)
    pipeline, block = wanted.pipeline, expanded(wanted.recipe["data"])
    dataset = load_dataset(block, Path.cwd(), 0, pipeline.min_side)
    more = deepcopy(block)
    if data in FURTHER:
        more["train"][0]["region"] = {**(more["train"][0].get("region") or {}), "z": FURTHER[data]}
        more["max_train_slices"] = None
    elif data == "phantom":
        more["train_slices"] = PHANTOM_SLICES
    views, keys = [], set()
    for source in (dataset, load_dataset(more, Path.cwd(), 0, pipeline.min_side)):
        for fov in (fov for volume in source.train for fov in volume.fovs()):
            if fov.key not in keys:
                keys.add(fov.key)
                nodes = pipeline.pool(fov.image)
                counts = confusion(nodes.regions, fov.labels, nodes.n, list(dataset.classes), dataset.ignore)
                place = fov.volume, fov.y, fov.x
                views.append(View(nodes, np.asarray(fov.image, np.float32), counts, place))
        if source is dataset:
            seen = len(views)
    return Views(list(dataset.classes.values()), views, seen)


def trial(lead: Lead, found: Views, seeds: Sequence[int]) -> list[dict[str, float]]:
    """DSC on the FOVs trained on, on the further ones (or the same), and the gap of the latter, for each seed."""
    changed = [o for o in lead.overrides if o.startswith("graph")]
    builder = job("sccs_plus", "phantom", 0, "quick", changed).pipeline.graph
    nodes = [lead.nodes(view) if lead.nodes else view.nodes for view in found.views]
    builder.fit(nodes[: found.seen])
    builder.kappa_ *= lead.kappa
    graphs = [builder.connect(each) for each in nodes]
    if lead.weigh:
        graphs = [
            RegionGraph(g.regions, g.feature, g.area, g.centroid, g.src, g.dst, lead.weigh(g, view), g.grey)
            for g, view in zip(graphs, found.views)
        ]

    def propagated(hops: int) -> list[torch.Tensor]:
        walk = LGCPrincipal(u=U, hops=hops, normalisation="walk")
        return [walk._propagated(graph, graph.feature, hops) for graph in graphs]

    if lead.teach is consensus:
        Z = [principal(propagated(hops), found.seen) for hops in (4, 5, 6, 7, 8)]
    elif lead.project is noise_whitened:
        Z = noise_whitened(propagated(lead.hops), found.seen, graphs)
    else:
        Z = (lead.project or principal)(propagated(lead.hops), found.seen)
    return [judged((lead.teach or by_kmeans)(Z, found.seen, seed), found) for seed in seeds]


def halves(found: Views, most: int | None = None) -> list[Views]:
    """Up to `most` (DIVISIONS) divisions of the FOVs by place: those of half of the places come first.

    Raises UserError where there is a single place.
    """
    most = DIVISIONS if most is None else most
    places = sorted({view.place for view in found.views})
    if len(places) < 2:
        raise UserError("--halves: the training part is a single place, which cannot be divided")
    divisions = list(combinations(places, len(places) // 2))
    if len(divisions) > most:
        picks = np.random.default_rng(0).choice(len(divisions), most, replace=False)
        divisions = [divisions[i] for i in sorted(picks)]
    parted = []
    for first in divisions:
        trained = [view for view in found.views if view.place in first]
        others = [view for view in found.views if view.place not in first]
        parted.append(Views(found.classes, trained + others, len(trained)))
    return parted


def in_halves(lead: Lead, found: Views, seeds: Sequence[int]) -> list[dict[str, float]]:
    """Mean over the divisions, for each seed."""
    results = [trial(lead, each, seeds) for each in halves(found)]
    return [
        {key: float(np.mean([each[i][key] for each in results])) for key in results[0][i]} for i in range(len(seeds))
    ]


def judged(clusters: Arrays, found: Views) -> dict[str, float]:
    tables = []
    for assignment, view in zip(clusters, found.views):
        table = np.zeros((K, len(found.classes)), np.int64)
        np.add.at(table, assignment, view.counts)
        tables.append(table)
    fitted = np.sum(tables[: found.seen], axis=0)
    further = tables[found.seen :] or tables
    mapping = fit_mapping("train", fitted, rest=rest_position(found.classes, None))

    def mean(table: np.ndarray) -> float:
        return scores(table, mapping, found.classes)["mean"]["dsc"]

    return {
        "training": mean(fitted),
        "further": mean(np.sum(further, axis=0)),
        "gap": consistency(further, found.classes)["gap"],
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--data", nargs="+", default=list(SETS), choices=SETS, metavar="SET")
    parser.add_argument("--leads", nargs="+", type=int, metavar="N", help="numbers of rows, from 0 (default: all)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--halves", action="store_true")
    parser.add_argument("--finetuned", type=Path, metavar="FOLDER")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/leads"))
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="a.b=c", dest="overrides")
    args = parser.parse_args(argv)
    names = list(LEADS)
    if args.leads and not all(0 <= i < len(names) for i in args.leads):
        raise UserError(f"--leads: numbers from 0 to {len(names) - 1}, got {args.leads}")
    chosen = {name: LEADS[name] for name in (names if args.leads is None else [names[i] for i in args.leads])}
    results: dict[str, dict[str, list[dict]]] = {name: {} for name in chosen}
    for data in args.data:
        plain = views_of(data, args.overrides)
        for name, lead in chosen.items():
            if HERE in lead.overrides:
                file = args.finetuned and args.finetuned / data / "model" / "mae.safetensors"
                if not file or not file.is_file():
                    continue
                lead = replace(lead, overrides=(HERE % file.resolve(),))
            pooled = [o for o in lead.overrides if o.startswith(("features", "graph.pixels"))]
            found = views_of(data, args.overrides + pooled) if pooled else plain
            results[name][data] = (in_halves if args.halves else trial)(lead, found, args.seeds)
            values = {key: np.mean([r[key] for r in results[name][data]]) for key in ("training", "further", "gap")}
            print(f"{data:9} {name:48}" + "  ".join(f"{key} {value:.3f}" for key, value in values.items()), flush=True)
    print(written(args, {name: found for name, found in results.items() if found}))
    return 0


def written(args, results: dict[str, dict[str, list[dict]]]) -> Path:
    rows = []
    for name, found in results.items():

        def over(key: str, sets: Sequence[str]) -> str:
            if not sets or any(data not in found for data in sets):
                return "-"
            by_set = [[r[key] for r in found[data]] for data in sets]
            return mean_sd(np.mean(by_set, axis=0).tolist())

        real = [data for data in args.data if data in REAL]
        rows.append(
            [
                name,
                *(mean_sd([r["further"] for r in found.get(data, [])]) for data in args.data),
                over("further", args.data),
                over("training", args.data),
                over("gap", real),
            ]
        )
    scored = "the half trained on" if args.halves else "trained on"
    heads = [
        "lead",
        *("phantom (synthetic)" if data == "phantom" else data for data in args.data),
        "mean",
        f"mean, {scored}",
        "gap, mean of real sets",
    ]
    which = (
        "half of the places of the training part is trained on; sets and `mean`: the other half; up to "
        f"{DIVISIONS} divisions of a set"
        if args.halves
        else "sets and `mean`: slices of the training part that were not trained on, where a set has such (cdeep3m, vnc, "
        "phantom); `mean, trained on`: the images trained on"
    )
    chosen = f" --leads {' '.join(map(str, args.leads))}" if args.leads else ""
    text = (
        f"`python benchmarks/studies/leads.py{chosen}{' --halves' if args.halves else ''}`; seeds "
        f"{', '.join(map(str, args.seeds))}: mean ± standard deviation; {describe(environment('cpu'))}. "
        f"Mean DSC over classes, mapping `train`, training images only: {which}.\n\n" + markdown(heads, rows)
    )
    values = [
        [name, data, seed, key, f"{value:.6g}"]
        for name, found in results.items()
        for data, each in found.items()
        for seed, result in zip(args.seeds, each)
        for key, value in result.items()
    ]
    return publish(
        args.out,
        "halves" if args.halves else "leads",
        "Leads for SCCS+",
        text,
        ["lead", "set", "seed", "measure", "value"],
        values,
    )


if __name__ == "__main__":
    sys.exit(guard(main)())
