"""Depth: do links between neighbouring slices raise DSC and consistency along z? Basis of `sccs segment --depth`.

    SCCS_DATA=DIR python -m benchmarks.studies.depth [--sets cdeep3m phantom] [--systems sccs_plus sccs]
                                                     [--seeds 0 1 2] [--out benchmarks/results/depth]

Each system is trained slice by slice, as its recipe says (`sccs` with the quick length of the tables), on a few slices.
Then neighbouring test slices are segmented in several ways: one by one; after averaging Z with that of overlapping
regions of the slices next to it; with edges of several weights between the graphs of neighbouring slices. Clusters
become classes by the mapping of the training slices, which does not use depth. Writes depth.md and depth.csv.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness import QUICK
from benchmarks.pages import Origin, markdown, mean_sd, named, publish, typed
from registry.spg.affinity import AffinityGraph
from registry.spg.graphs import RegionGraph
from registry.spg.slab import Link, link, overlaps
from sccs.data import load_dataset
from sccs.data.volumes import Dataset, Volume
from sccs.evaluation.continuity import NeighbourTables, z_consistency
from sccs.evaluation.mappings import fit_mapping
from sccs.evaluation.scores import scores
from sccs.evaluation.tables import confusion, rest_position
from sccs.inference.blocks import Place
from sccs.inference.depth import neighbourhood, segment_middle
from sccs.inference.labels import Slice, fields_of, views
from sccs.pipeline import Pipeline
from sccs.products import Counts, segment_volume
from sccs.recipe import load_recipe
from sccs.system.log import quiet_log

COMMAND = "python -m benchmarks.studies.depth"
# cdeep3m: neighbouring test slices instead of every second one. phantom (synthetic): fewer and smaller volumes.
SETS = {
    "cdeep3m": ["data.test.0.region.z=[12,18]"],
    "phantom": ["data.shapes=[[16,560,560],[16,560,560],[24,560,560]]", "data.train_slices=2", "data.test_slices=null"],
}
Way = tuple[str, float, int]  # how, weight of the edges or share of the neighbours' mean, slices on either side
WAYS: dict[str, Way | None] = {
    "slice by slice": None,
    "mean of Z, 1/2": ("mean", 0.5, 1),
    "edges, weight 8": ("edges", 8.0, 2),
    "edges, weight 16": ("edges", 16.0, 2),
    "edges, weight 32": ("edges", 32.0, 2),
    "edges, weight 64": ("edges", 64.0, 2),
    "edges, weight 16, reach 1": ("edges", 16.0, 1),
}


def _averaged(model: Pipeline, graphs: Sequence[RegionGraph], middle: int, share: float) -> np.ndarray:
    """Clusters (H, W) of the middle slice after Z <- (1 - share) Z + share * mean of the overlapping neighbours' Z."""
    graph = graphs[middle]
    Z, near = model.embedder.embed(graph), []
    for other in [graphs[i] for i in (middle - 1, middle + 1) if 0 <= i < len(graphs)]:
        i, j, _ = overlaps(graph.regions, other.regions)
        flat = graph.regions.ravel().astype(np.int64) * other.n + other.regions.ravel()
        pixels = torch.from_numpy(np.unique(flat, return_counts=True)[1]).float()
        summed = torch.zeros_like(Z).index_add_(0, i, pixels[:, None] * model.embedder.embed(other)[j])
        near.append(summed / graph.area[:, None])
    Z = (1 - share) * Z + share * sum(near) / len(near) if near else Z
    return model.clusterer.predict(graph, Z).argmax(1).to(torch.uint8).numpy()[graph.regions]


@torch.no_grad()
def _segment(
    model: Pipeline, volume: Volume, layers: Sequence[dict[Place, RegionGraph]], way: Way | None
) -> Iterator[np.ndarray]:
    """Cluster planes of a volume's slices, stitched, given the graphs of each one's fields of view."""
    fields = fields_of(model, volume)
    links: list[dict[Place, Link]] = []
    if way and way[0] == "edges":
        assert isinstance(model.graph, AffinityGraph)
        links = [
            {place: link(model.graph, one[place], two[place], way[1]) for place in one}
            for one, two in itertools.pairwise(layers)
        ]
    for position in range(len(layers)):
        near = neighbourhood(volume.z_slices, position, way[2] if way else 0)
        found = Slice(fields)
        for place, _, _ in fields:
            column, middle = [layers[i][place] for i in near], position - near.start
            if links:
                between = [links[i][place] for i in near[:-1]]
                found.labels[place] = segment_middle(model, column, between, middle).clusters
            else:
                found.labels[place] = _averaged(model, column, middle, way[1] if way else 0.0)
        yield found.plane()


def measure(system: str, data: str, seed: int) -> list[dict[str, Any]]:
    """Train once, and segment the test volume with that model in each way: one row per way."""
    own = load_recipe(system, QUICK.get(system, []), seed=seed, device="cpu").resolved()
    own["data"] = load_recipe("sccs" if data == "phantom" else data, SETS[data]).resolved()["data"]
    model = Pipeline.from_recipe(own)
    dataset = load_dataset(own["data"], Path.cwd(), seed, model.min_side)
    model.fit(dataset, log=quiet_log())
    names = list(dataset.classes.values())
    counts = Counts(model.k, dataset)
    for volume in dataset.train:
        for _ in segment_volume(model, volume, counts):
            pass
    table = sum(counts.tables.values(), np.zeros((model.k, len(dataset.classes)), np.int64))
    mapping = fit_mapping("train", table, rest=rest_position(names))
    (volume,) = dataset.test
    fields = fields_of(model, volume)
    layers = [
        {place: model.build(np.ascontiguousarray(image)) for place, _, _, image in views(volume, z, fields)}
        for z in volume.z_slices
    ]
    rows = []
    for name, way in WAYS.items():
        start = time.perf_counter()
        planes = list(_segment(model, volume, layers, way))
        seconds = (time.perf_counter() - start) / (len(planes) * len(fields))
        rows.append(
            {
                "set": data,
                "system": system,
                "seed": seed,
                "way": name,
                "seconds_per_fov": seconds,
                **_scored(dataset, volume, planes, mapping, model.k),
            }
        )
        print(rows[-1], flush=True)
    return rows


def _scored(
    dataset: Dataset, volume: Volume, planes: Sequence[np.ndarray], mapping: np.ndarray, k: int
) -> dict[str, float]:
    """DSC of the planes by class, and consistency along z."""
    names, codes = list(dataset.classes.values()), list(dataset.classes)
    _, y, x = volume.origin
    whole = np.zeros(volume.image.shape, np.uint8)
    whole[volume.z_slices, y : y + volume.shape[1], x : x + volume.shape[2]] = planes
    tables = NeighbourTables(k, dataset)
    for _ in tables.watch(whole, volume):
        pass
    table = np.zeros((k, len(codes)), np.int64)
    for z, plane in zip(volume.z_slices, planes):
        labels = volume.read_labels(z)
        assert labels is not None
        table += confusion(plane, labels, k, codes, dataset.ignore)
    position = rest_position(names)
    along = z_consistency(tables.to_lists(), {"train": mapping}, position)
    return {
        "dsc": scores(table, mapping, names)["mean"]["dsc"],
        "z_agreement": along["classes"]["train"]["agreement"],
        "z_kappa": along["classes"]["train"]["beyond_chance"],
        "z_kappa_clusters": along["clusters"]["beyond_chance"],
        "z_kappa_labels": along["labels"]["beyond_chance"],
    }


def _page(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: a table for each set and system."""
    parts = [
        "Mean DSC (mapping `train`) and consistency along z: Cohen's kappa between the classes of "
        "neighbouring slices, of the true labels in the heading; mean ± sd over seeds, all of the same images. "
        "The phantom is synthetic.",
        "",
    ]
    for data, system in dict.fromkeys((row["set"], row["system"]) for row in rows):
        here = [row for row in rows if (row["set"], row["system"]) == (data, system)]
        seeds = len({row["seed"] for row in here})
        count = f"{seeds} seed{'s' if seeds > 1 else ''}"
        parts += [f"## {named(data)}, {system}: {count}, kappa of the labels {here[0]['z_kappa_labels']:.3f}", ""]
        lines = []
        for way in WAYS:
            mine = [row for row in here if row["way"] == way]
            numbers = [mean_sd([row[key] for row in mine]) for key in ("dsc", "z_kappa", "z_kappa_clusters")]
            lines.append([way, *numbers])
        parts += [markdown(["", "mean DSC", "kappa of classes", "kappa of clusters"], lines), ""]
    return "\n".join(parts)


def main() -> None:
    """The command line; the page is rewritten after every training."""
    parser = argparse.ArgumentParser(COMMAND, description=__doc__.partition("\n")[0])
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--systems", nargs="+", default=["sccs_plus", "sccs"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/depth"))
    args = parser.parse_args()
    args.typed = typed(COMMAND, None)
    rows = []
    for system in args.systems:
        for data in args.sets:
            for seed in args.seeds:
                rows += measure(system, data, seed)
                origin, values = Origin.here(args.typed, seeds=args.seeds), [list(row.values()) for row in rows]
                publish(args.out, "depth", "Depth", origin, _page(rows), list(rows[0]), values)


if __name__ == "__main__":
    main()
