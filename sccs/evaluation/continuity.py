"""Counts for consistency along z: which cluster and class follows which from one slice to the next."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from sccs.data.volumes import Dataset, Volume


class NeighbourTables:
    """Joint counts of neighbouring slices, summed over the volumes of one part of a data set.

    clusters (k, k): pixels by their cluster in a slice and in the next. labels (C, C): the same for classes, in the
    data set's order. pairs: number of compared pairs of slices, neighbours in the file. If both slices are
    labelled, only pixels with a class in both are counted, so that the two tables cover the same pixels. Pixels that
    are unsegmented in either slice are never counted.
    """

    def __init__(self, k: int, dataset: Dataset):
        self.k, self.dataset = k, dataset
        self.clusters = np.zeros((k, k), np.int64)
        self.labels = np.zeros((len(dataset.classes),) * 2, np.int64)
        self.pairs = 0

    def watch(self, planes: Iterable[np.ndarray], volume: Volume) -> Iterator[np.ndarray]:
        """Count `planes`, the cluster planes (Y, X) uint8 of all slices of the file, while passing them on."""
        used = set(volume.z_slices)
        _, y, x = volume.origin
        window = slice(y, y + volume.shape[1]), slice(x, x + volume.shape[2])
        before: tuple[np.ndarray, np.ndarray | None] | None = None
        for z, plane in enumerate(planes):
            here = None
            if z in used and (z - 1 in used or z + 1 in used):
                here = plane[window], self._positions(volume.read_labels(z))
                if before is not None:
                    self._count(before, here)
            before = here
            yield plane

    def _positions(self, labels: np.ndarray | None) -> np.ndarray | None:
        """Class codes -> positions (Y, X) in the data set's order; -1 for no class."""
        if labels is None:
            return None
        positions = np.full(labels.shape, -1, np.int64)
        for position, code in enumerate(self.dataset.classes):
            positions[labels == code] = position
        return positions

    def _count(self, one: tuple, two: tuple) -> None:
        (a, a_labels), (b, b_labels) = one, two
        self.pairs += 1
        seen = (a < self.k) & (b < self.k)
        if a_labels is not None:
            seen &= (a_labels >= 0) & (b_labels >= 0)
            self.labels += joint(a_labels[seen], b_labels[seen], len(self.labels))
        self.clusters += joint(a[seen], b[seen], self.k)

    def to_lists(self) -> dict[str, Any]:
        """The counts as plain lists, for tables.json."""
        return {"pairs": self.pairs, "clusters": self.clusters.tolist(), "labels": self.labels.tolist()}


def joint(a: np.ndarray, b: np.ndarray, n: int) -> np.ndarray:
    """Counts (n, n) int64 of pairs of values below n in two arrays of one shape."""
    return np.bincount(a.ravel().astype(np.int64) * n + b.ravel(), minlength=n * n).reshape(n, n)


def continuity(table: Sequence[Sequence[int]] | np.ndarray) -> dict[str, float]:
    """From joint counts (n, n): `agreement`, the share of pixels that keep their label from one slice to the next;
    `chance`, the agreement of shuffled pixels; `beyond_chance`, (agreement - chance) / (1 - chance), Cohen's kappa:
    0 for unrelated slices, 1 for equal ones. NaN without pixels, or with a single label."""
    counts = np.asarray(table, np.float64)
    total = counts.sum()
    if total == 0:
        return dict.fromkeys(("agreement", "chance", "beyond_chance"), float("nan"))
    agreement = float(np.trace(counts) / total)
    chance = float(counts.sum(0) @ counts.sum(1) / total**2)
    beyond = (agreement - chance) / (1 - chance) if chance < 1 else float("nan")
    return {"agreement": agreement, "chance": chance, "beyond_chance": beyond}


def z_consistency(tables: Mapping[str, Any], mappings: Mapping[str, np.ndarray], rest: int | None) -> dict[str, Any]:
    """The entry of one part in metrics.json, from the tables of `NeighbourTables.to_lists`, and mappings (k,) by rule.

    Keys: ``pairs``; ``clusters``, `continuity` of the clusters; with labels also ``labels``, that of the true classes,
    and ``classes`` {rule: `continuity` of the clusters' classes, and ``relative``, its `beyond_chance` over that of the
    labels: 1 if the segmentation changes along z just as the tissue does}. {} without neighbouring slices.
    """
    if not tables["pairs"]:
        return {}
    clusters, labels = (np.array(tables[name], np.int64) for name in ("clusters", "labels"))
    found: dict = {"pairs": tables["pairs"], "clusters": continuity(clusters)}
    if labels.any():
        C = len(labels)
        found["labels"], found["classes"] = continuity(labels), {}
        for rule, mapping in mappings.items():
            classes = np.zeros((C + 1, C + 1), np.int64)  # last: clusters without a class
            chosen = np.where(mapping < 0, C if rest is None else rest, mapping)
            np.add.at(classes, (chosen[:, None], chosen[None, :]), clusters)
            measured = continuity(classes)
            truth = found["labels"]["beyond_chance"]
            found["classes"][rule] = {**measured, "relative": measured["beyond_chance"] / truth if truth else None}
    return found
