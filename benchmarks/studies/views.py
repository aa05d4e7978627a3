"""Training images as studies of SCCS+ see them: fields of view (FOVs) as nodes with counts of classes, in halves."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from benchmarks.harness import expanded, job
from registry.base import UserError
from registry.spg.graphs import Nodes
from sccs.data import load_dataset
from sccs.evaluation.mappings import fit_mapping
from sccs.evaluation.scores import consistency, scores
from sccs.evaluation.tables import confusion, rest_position
from sccs.model.fovs import anchor_score

FURTHER = {"cdeep3m": [2, 8, 2], "vnc": [2, 6, 2]}  # z of slices of the training part that `quick` leaves out
PHANTOM_SLICES = 3  # of each training volume; `quick` has one
DIVISIONS = 6  # of a set into halves, at most


@dataclass
class View:
    """A training FOV: nodes, image (H, W), pixels of each class in each region (n_s, C), volume and corner (y, x), its
    score as an anchor."""

    nodes: Nodes
    image: np.ndarray
    counts: np.ndarray
    place: tuple[str, int, int] = ("", 0, 0)
    score: float = 0.0


@dataclass
class Views:
    """The views of one set; the first `seen` are those used for training."""

    classes: list[str]
    views: list[View]
    seen: int

    @property
    def anchor(self) -> int:
        """Index of the anchor among the FOVs trained on."""
        return int(np.argmax([view.score for view in self.views[: self.seen]]))


def views_of(data: str, overrides: Sequence[str], system: str = "sccs_plus") -> Views:
    """The set's training FOVs as the system's nodes: those of `quick`, then the further ones."""
    wanted = job(system, data, 0, "quick", overrides)
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
                assert fov.labels is not None
                nodes = pipeline.pool(fov.image)
                counts = confusion(nodes.regions, fov.labels, nodes.n, list(dataset.classes), dataset.ignore)
                place = fov.volume, fov.y, fov.x
                views.append(View(nodes, np.asarray(fov.image, np.float32), counts, place, anchor_score(fov, None)))
        if source is dataset:
            seen = len(views)
    return Views(list(dataset.classes.values()), views, seen)


def halves(found: Views, most: int = DIVISIONS) -> list[Views]:
    """Up to `most` divisions of the FOVs by place: those of one half of the places come first.

    Raises UserError if there is only one place.
    """
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


def judged(clusters: Sequence[np.ndarray], found: Views, k: int) -> dict[str, float]:
    """DSC of clusters (n_s,) of all FOVs, with the mapping of those used for training: `training` on these, `further`
    on the others (the same if there are none), and the `gap` of the latter to a mapping for each image."""
    tables = []
    for assignment, view in zip(clusters, found.views):
        table = np.zeros((k, len(found.classes)), np.int64)
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
