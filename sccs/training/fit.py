"""Training of a model from volumes: fit features, build the graphs of all training FOVs, fit embedder and clusterer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from registry.base import Part, UserError
from registry.spg.dgl_adapter import dgl
from registry.spg.graphs import Nodes, RegionGraph
from sccs.data.volumes import FOV, Dataset
from sccs.model.fovs import anchor_score, fit_features, node_labels, pooled, training_fovs
from sccs.model.model import Model
from sccs.system.cache import report_growth
from sccs.system.log import RunLog
from sccs.training.trainer import Trainer, agreement

LEAST_AGREEMENT = 0.95  # of a head with its teacher; below this, we warn


@dataclass
class TrainingGraphs:
    """The graphs of the training FOVs, the anchor's index and FOV (without labels), and each graph's statistics."""

    graphs: list[RegionGraph]
    index: int
    anchor: FOV | None = None
    diagnostics: list[dict[str, Any]] = field(default_factory=list)


def make_graphs(model: Model, dataset: Dataset, log: RunLog) -> TrainingGraphs:
    """Fit the features, then build the graph of every training FOV. Raises UserError if no graph has k nodes."""
    check_batch(model.recipe.train.batch, dataset)
    fit_features(model, dataset)
    for part in (model.features, *model.features.parts):
        _log_curve(part, log)
    keys, nodes, index, anchor = _pool_all(model, dataset, log)
    report_growth(log)
    model.graph.fit(nodes)
    graphs = []
    nodes.reverse()
    while nodes:  # keeping both nodes and graphs of all FOVs would double the memory
        graphs.append(model.graph.connect(nodes.pop()).to(model.device))
    diagnostics = [{"key": key, **graph.diagnostics()} for key, graph in zip(keys, graphs)]
    warn_of_graphs(model, diagnostics, log)
    check_sizes(model, graphs, diagnostics[index])
    if model.graph.cacheable:  # a graph of pixels has no edges
        log.info(f"graphs by DGL {dgl.__version__}; product with the normalised affinity: {graphs[index].product}")
    log.info(f"anchor graph: {anchor.key}")
    return TrainingGraphs(graphs, index, anchor, diagnostics)


def check_sizes(model: Model, graphs: Sequence[RegionGraph], anchor: dict[str, Any]) -> None:
    """Raises UserError for values in the recipe that are too large for the graphs. anchor: its statistics."""
    u, most = getattr(model.embedder, "u", 1), max(max(graph.n, graph.feature.shape[1]) for graph in graphs)
    if u > most:
        raise UserError(
            f"embedder.u: {u} coordinates, but the largest training graph has {max(g.n for g in graphs)} nodes of "
            f"{graphs[0].feature.shape[1]} features; lower u, or use finer regions"
        )
    begins_there = model.clusterer.trainable or hasattr(model.clusterer, "anchor")
    if begins_there and anchor["nodes"] < model.k:
        raise UserError(
            f"clusterer.k: {model.k} clusters, but the anchor graph {anchor['key']}, which initialises them, has "
            f"{anchor['nodes']} nodes; lower k, or choose another anchor (data.anchor)"
        )


def _pool_all(model: Model, dataset: Dataset, log: RunLog) -> tuple[list[str], list[Nodes], int, FOV]:
    """Keys and nodes of the training FOVs, the anchor's index, and the anchor; only its image stays in memory."""
    keys: list[str] = []
    nodes: list[Nodes] = []
    scores: list[float] = []
    with log.progress(count_fovs(dataset), "features and graphs") as bar:
        for fov in training_fovs(dataset.train):
            keys.append(fov.key)
            nodes.append(pooled(model, fov))
            scores.append(anchor_score(fov, dataset.anchor))
            if len(scores) == 1 or scores[-1] > max(scores[:-1]):
                anchor = replace(fov, labels=None)
            bar.update(1)
    return keys, nodes, int(np.argmax(scores)), anchor


def count_fovs(dataset: Dataset) -> int:
    """Number of training FOVs of a data set."""
    return sum(volume.count_fovs() for volume in dataset.train)


def check_batch(batch: int, dataset: Dataset) -> None:
    """Raises UserError if an iteration would see a training graph more than once."""
    if batch > (graphs := count_fovs(dataset)):
        raise UserError(
            f"train.batch: {batch} graphs per iteration, but the training data has {graphs}, one for each field of "
            f"view; use {graphs} or less"
        )


def train_parts(
    model: Model,
    made: TrainingGraphs,
    log: RunLog,
    dataset: Dataset | None = None,
    *,
    checkpoints: Path | None = None,
    resume: bool = False,
    preview: Callable[[int], Any] | None = None,
) -> None:
    """Fit embedder and clusterer to the graphs; trainable parts by the trainer, with checkpoints. dataset: has the
    labels for a supervised clusterer."""
    if hasattr(model.clusterer, "anchor"):
        model.clusterer.anchor = made.index
    model.embedder.fit(made.graphs)
    trainer = Trainer(
        model.embedder,
        model.clusterer,
        made.graphs,
        model.recipe.train,
        seed=model.recipe.seed,
        anchor=made.index,
        log=log,
        checkpoints=checkpoints,
    )
    trainer.run(resume, preview)
    if not model.clusterer.trainable:
        with torch.no_grad():
            embeddings = [model.embedder.embed(graph) for graph in made.graphs]
            labels = [node_labels(made.graphs, dataset)] if model.clusterer.supervised and dataset is not None else []
            model.clusterer.fit(made.graphs, embeddings, *labels)
        _log_curve(model.clusterer, log)
    share = agreement(model.embedder, model.clusterer, made.graphs)
    if share is None:
        return
    model.info["agreement"] = share
    log.info(f"the clustering head agrees with its teacher on {share:.1%} of the training nodes")
    if share < LEAST_AGREEMENT:
        log.warning(
            f"the clustering head is undertrained: it agrees with its teacher on only {share:.0%} of the training "
            f"nodes; raise train.iterations ({model.recipe.train.iterations})"
        )


def _log_curve(part: Part, log: RunLog) -> None:
    """Log the scalars of a part that trains itself."""
    for step, values in getattr(part, "curve_", ()):
        log.scalars(values, step)


def warn_of_graphs(model: Model, diagnostics: Sequence[dict[str, Any]], log: RunLog) -> None:
    """Warn of graphs that are unsuitable for spectral clustering. Raises UserError if no graph has k nodes."""
    largest = max(entry["nodes"] for entry in diagnostics)
    if largest < model.k:
        raise UserError(
            f"clusterer.k: {model.k} clusters, but the largest training graph has {largest} "
            f"node{'s' if largest > 1 else ''}; lower k or graph.pixels_per_superpixel, or use larger "
            "FOVs"
        )
    whole = len(diagnostics)
    lonely = [entry for entry in diagnostics if entry["nodes"] > 1 and entry["isolated"] > entry["nodes"] / 10]
    if lonely and model.name_of("embedder") != "identity":
        worst = max(lonely, key=lambda entry: entry["isolated"] / entry["nodes"])
        log.warning(
            f"{len(lonely)} of {whole} graphs have many nodes without a neighbour (most: {worst['key']}, "
            f"{worst['isolated']} of {worst['nodes']}); raise graph.kappa or graph.alpha, or use edges: "
            "knn+adjacent with kappa: median"
        )
    crowded = [entry for entry in diagnostics if entry["nodes"] > 100 and entry["density"] > 0.9]
    if crowded:
        worst = max(crowded, key=lambda entry: entry["density"])
        log.warning(
            f"{len(crowded)} of {whole} graphs join nearly all pairs of nodes (most: {worst['key']}, "
            f"{worst['density']:.0%}), which smooths away all differences; lower graph.kappa or use "
            "edges: knn+adjacent"
        )
    density, parts = ([entry[name] for entry in diagnostics] for name in ("density", "components"))
    log.info(
        f"graphs: at most {largest} nodes, density {np.mean(density):.4f}, {np.mean(parts):.1f} components on average"
    )
