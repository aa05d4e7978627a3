"""Where SCCS+ with the MAE loses to a linear probe: in its features, in its embedding, or by the number of clusters.

    SCCS_DATA=DIR python -m benchmarks.studies.limits [--data platelet hela cdeep3m vnc phantom] [--seeds 0 1 2]
                                                      [--steps 800] [--jobs 1] [--out benchmarks/results/leads]
                                                      [--set a.b=c ...]

On training images alone, cut in halves by place as `python -m benchmarks.studies.leads --halves` does (up to three
divisions of a set): one half is used for training, the other is scored. For several node features: the linear probe on
them, the probe on the coordinates Z (n_s, u), and 64, 32, 16 and 8 clusters of Z, each cluster mapped to a class by the
labels of the half trained on. The drop from the first to the second is due to the embedding, that from the second to
the third to clustering, and that from 64 to 8 clusters to their number. The features include those of a small net that
is trained here, without labels, on the images of both halves (`features: contrast`).

--jobs: number of sets processed at once, each in a process with one thread. Writes OUT/limits.md and OUT/limits.csv.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from benchmarks.harness import SETS, job
from benchmarks.pages import Origin, markdown, mean_sd, named, publish, typed
from benchmarks.studies.steps import HOPS, Arrays, U, principal
from benchmarks.studies.views import Views, halves, views_of
from registry.clusterer.linear_probe import LinearProbe
from registry.embedder.lgc_principal import LGCPrincipal
from registry.features.contrast import Contrast
from registry.numeric.kmeans import kmeans
from registry.numeric.nearest import assign
from registry.spg.graphs import Nodes, RegionGraph
from registry.spg.pooling import pool
from sccs.evaluation.mappings import fit_mapping
from sccs.evaluation.scores import scores
from sccs.evaluation.tables import rest_position
from sccs.system.exits import guard

COMMAND = "python -m benchmarks.studies.limits"
CLUSTERS = (64, 32, 16, 8)
DIVISIONS = 3  # of a set into halves, at most
FEATURES = {  # which blocks of the node features: 0 the MAE's, 1 the filters', 2 the net's
    "MAE and filters (SCCS+)": (0, 1),
    "MAE": (0,),
    "contrastive net": (2,),
    "contrastive net and filters": (2, 1),
    "all three": (0, 1, 2),
}
STAGES = ("probe on the features", "probe on Z", *(f"{k} clusters" for k in CLUSTERS))


def _with_net(found: Views, steps: int, seed: int) -> Views:
    """The views, with the net's features as a third block of their nodes."""
    grey = np.concatenate([view.image.ravel() for view in found.views])
    mean, deviation = grey.mean(), max(grey.std(), 1e-6)
    images = [((view.image - mean) / deviation).astype(np.float32) for view in found.views]
    net = Contrast(steps=steps, seed=seed)
    net.fit(images)
    views = []
    for view, image in zip(found.views, images):
        assert view.nodes.blocks is not None
        more = pool(net.extract(image), view.nodes.regions)
        nodes = replace(
            view.nodes,
            feature=np.concatenate([view.nodes.feature, more], 1),
            blocks=np.append(view.nodes.blocks, more.shape[1]),
        )
        views.append(replace(view, nodes=nodes))
    return replace(found, views=views)


def only(nodes: Nodes, blocks: Sequence[int]) -> Nodes:
    """The nodes with some of their blocks of features, in that order."""
    assert nodes.blocks is not None
    parts = np.split(nodes.feature, np.cumsum(nodes.blocks)[:-1], axis=1)
    return replace(nodes, feature=np.concatenate([parts[b] for b in blocks], 1), blocks=nodes.blocks[list(blocks)])


def _probed(values: Arrays, graphs: Sequence[RegionGraph], found: Views) -> Arrays:
    """Classes (n_s,) by a linear probe trained on the first half's labels."""
    probe = LinearProbe(k=max(8, len(found.classes)))
    Z, seen = [torch.as_tensor(each) for each in values], found.seen
    probe.fit(graphs[:seen], Z[:seen], [view.counts for view in found.views[:seen]])
    return [probe.predict(graph, each).argmax(1).numpy() for graph, each in zip(graphs, Z)]


def scored(assigned: Arrays, k: int, found: Views, mapped: bool) -> float:
    """Mean DSC over classes on the views that were not trained on; without `mapped`, `assigned` are classes."""
    tables = np.zeros((len(assigned), k, len(found.classes)), np.int64)
    for table, each, view in zip(tables, assigned, found.views):
        np.add.at(table, each, view.counts)
    mapping = np.arange(k)
    if mapped:
        mapping = fit_mapping("train", tables[: found.seen].sum(0), rest=rest_position(found.classes, None))
    return scores(tables[found.seen :].sum(0), mapping, found.classes)["mean"]["dsc"]


def _stages(found: Views, blocks: Sequence[int], seeds: Sequence[int]) -> dict[str, list[float]]:
    """DSC by stage, for each seed, of one division."""
    builder = job("sccs_plus_mae", "phantom", 0, "quick").pipeline.graph
    nodes = [only(view.nodes, blocks) for view in found.views]
    builder.fit(nodes[: found.seen])
    graphs = [builder.connect(each) for each in nodes]
    walk = LGCPrincipal(u=U, hops=HOPS, normalisation="walk")
    Z = principal([walk._propagated(graph, graph.feature, HOPS) for graph in graphs], found.seen)
    result = {}
    for name, values in zip(STAGES, ([graph.feature.numpy() for graph in graphs], Z)):
        value = scored(_probed(values, graphs, found), len(found.classes), found, False)
        result[name] = [value] * len(seeds)
    for k in CLUSTERS:
        result[f"{k} clusters"] = []
        for seed in seeds:
            means = kmeans(np.concatenate(Z[: found.seen]), k, seed)[0]
            assigned = [assign(z, means)[0] for z in Z]
            result[f"{k} clusters"].append(scored(assigned, k, found, True))
    return result


def of_set(data: str, seeds: Sequence[int], steps: int, overrides: Sequence[str]) -> dict[str, dict[str, list[float]]]:
    """DSC of a set by features and stage, for each seed: means over the divisions."""
    found = _with_net(views_of(data, overrides, "sccs_plus_mae"), steps, 0)
    divisions = halves(found, DIVISIONS)
    answer = {}
    for name, blocks in FEATURES.items():
        each = [_stages(division, blocks, seeds) for division in divisions]
        answer[name] = {stage: np.mean([one[stage] for one in each], 0).tolist() for stage in STAGES}
        print(f"{data:9} {name:28}" + "  ".join(f"{s} {np.mean(v):.3f}" for s, v in answer[name].items()), flush=True)
    return answer


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(COMMAND, description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--data", nargs="+", default=list(SETS), choices=SETS, metavar="SET")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="of the clusters")
    parser.add_argument("--steps", type=int, default=800, help="of the net's training")
    parser.add_argument("--jobs", type=int, default=1, help="number of sets processed at once")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/leads"))
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="a.b=c", dest="overrides")
    args = parser.parse_args(argv)
    args.typed = typed(COMMAND, argv)
    given = args.seeds, args.steps, args.overrides
    if args.jobs > 1:
        os.environ["OMP_NUM_THREADS"] = "1"  # of the processes below
        with ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn")) as workers:
            jobs = [workers.submit(of_set, data, *given) for data in args.data]
            results = {data: each.result() for data, each in zip(args.data, jobs)}
    else:
        results = {data: of_set(data, *given) for data in args.data}
    print(_written(args, results))
    return 0


def _written(args: argparse.Namespace, results: dict[str, dict[str, dict[str, list[float]]]]) -> Path:
    rows = [
        [
            name,
            *(mean_sd(np.mean([results[data][name][stage] for data in results], axis=0).tolist()) for stage in STAGES),
        ]
        for name in FEATURES
    ]
    for row in rows:  # probes have no seed
        row[1:3] = [cell.partition(" ")[0] for cell in row[1:3]]
    sets = ", ".join(map(named, results))
    text = (
        f"Mean of {sets}, ± standard deviation over seeds of the clusters. Mean DSC over classes on the half of the "
        f"training places that was not trained on, its clusters mapped by the other half's labels (rule `train`); "
        f"{args.steps} steps of the net.\n\n" + markdown(["features of a node", *STAGES], rows)
    )
    values = [
        [name, data, stage, seed, f"{value:.6g}"]
        for data, found in results.items()
        for name, by in found.items()
        for stage, each in by.items()
        for seed, value in zip(args.seeds, each)
    ]
    origin, heads = Origin.here(args.typed, seeds=args.seeds), ["features", "set", "stage", "seed", "dsc"]
    return publish(args.out, "limits", "What limits SCCS+", origin, text, heads, values)


if __name__ == "__main__":
    sys.exit(guard(main)())
