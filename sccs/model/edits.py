"""Splits and merges of a trained model's clusters, applied node by node.

A split assigns the nodes of one cluster to the nearest of a few centroids, which are the same for all images; the first
keeps the cluster's number, the others take new ones. A merge gives one cluster the nodes of others, whose numbers are
never reused: the numbers, names and colours of all other clusters do not change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from registry.base import UserError
from registry.numeric.kmeans import kmeans
from registry.numeric.nearest import assign
from sccs.model.parts import MOST_CLUSTERS
from sccs.recipe.stored import Stored, read_json
from sccs.system.files import write_json
from sccs.system.tensors import read_arrays, write_arrays

MEND = "undo the step with `sccs undo`, copy the run again, or remove the line `edits:` from classes.yaml"
Cluster = Annotated[int, Field(ge=0, lt=MOST_CLUSTERS)]


class Edit(Stored):
    """A step. of: the clusters whose nodes it takes; to: the clusters that get them, several only for a split."""

    of: Annotated[list[Cluster], Field(min_length=1)]
    to: Annotated[list[Cluster], Field(min_length=1)]


def gone(edits: Sequence[Edit]) -> list[int]:
    """The clusters that were merged into others."""
    return [cluster for edit in edits if len(edit.to) == 1 for cluster in edit.of]


class Content(Stored):
    """edits.json. model: digest of the model's weights (`sccs.model.folder.digest`). k: its clusters."""

    model: str
    k: Annotated[int, Field(ge=1, le=MOST_CLUSTERS)]
    edits: list[Edit]


@dataclass(frozen=True)
class Edits:
    """k: clusters of the model. edits in order, each with its centroids (m, u) float32; None for a merge."""

    model: str
    k: int
    edits: tuple[Edit, ...] = ()
    centroids: tuple[np.ndarray | None, ...] = ()

    @property
    def clusters(self) -> int:
        """The number of cluster numbers, used or not."""
        return max([self.k, *(1 + max(edit.to) for edit in self.edits)])

    def apply(self, assignment: np.ndarray, Z: np.ndarray) -> np.ndarray:
        """Clusters (n_s,) uint8 after all steps, from the model's `assignment` of nodes with coordinates Z (n_s, u).

        Raises UserError if the centroids have another number of coordinates, so that their file must be damaged.
        """
        found = assignment.copy()
        for edit, centroids in zip(self.edits, self.centroids):
            taken = np.isin(found, edit.of)
            if centroids is None:
                found[taken] = edit.to[0]
            elif centroids.shape[1] != Z.shape[1]:
                raise UserError(f"edits: centroids have {centroids.shape[1]} coordinates, nodes {Z.shape[1]}; {MEND}")
            elif taken.any():
                found[taken] = np.array(edit.to, np.uint8)[assign(Z[taken], centroids)[0]]
        return found

    def split(self, cluster: int, into: int, points: np.ndarray, seed: int) -> Edits:
        """Add a split of a cluster, whose nodes have the coordinates (N, u), into `into` parts by k-means.

        Raises UserError if too few nodes differ, or if there are not enough cluster numbers.
        """
        first = self.clusters
        if first + into - 1 > MOST_CLUSTERS:
            raise UserError(f"--into {into}: {first} of {MOST_CLUSTERS} cluster numbers are taken; split into fewer")
        try:
            centroids = kmeans(points.astype(np.float32), into, seed)[0].astype(np.float32)
        except UserError:
            raise UserError(
                f"--into {into}: too few of the {len(points)} superpixels of cluster {cluster} differ; split into fewer"
            ) from None
        return self._and(Edit(of=[cluster], to=[cluster, *range(first, first + into - 1)]), centroids)

    def merge(self, clusters: Sequence[int]) -> Edits:
        """Add a merge of the clusters into the first one."""
        return self._and(Edit(of=list(clusters[1:]), to=[clusters[0]]), None)

    def _and(self, edit: Edit, centroids: np.ndarray | None) -> Edits:
        return Edits(self.model, self.k, (*self.edits, edit), (*self.centroids, centroids))

    def write(self, stem: Path) -> None:
        """Write `stem`.json and `stem`.safetensors."""
        arrays = {f"centroids.{i}": each for i, each in enumerate(self.centroids) if each is not None}
        write_arrays(stem.with_suffix(".safetensors"), arrays)
        content = Content(model=self.model, k=self.k, edits=list(self.edits))
        write_json(stem.with_suffix(".json"), content.model_dump())

    @staticmethod
    def gone_of(stem: Path) -> list[int]:
        """The clusters that stored edits merged into others. Raises UserError for a missing or damaged file."""
        return gone(read_json(stem.with_suffix(".json"), Content, MEND).edits)

    @classmethod
    def read(cls, stem: Path, k: int) -> Edits:
        """Read the edits of a model of k clusters. Raises UserError for files that are missing, damaged, or foreign."""
        path = stem.with_suffix(".json")
        content = read_json(path, Content, MEND)
        try:
            arrays, _ = read_arrays(stem.with_suffix(".safetensors"))
        except FileNotFoundError:
            raise UserError(f"{stem.with_suffix('.safetensors')}: missing; {MEND}") from None
        if content.k != k:
            raise UserError(f"{path}: k: {content.k} does not fit the model, which has {k} clusters; {MEND}")
        centroids = tuple(arrays.get(f"centroids.{i}") for i in range(len(content.edits)))
        first = k
        for i, (edit, array) in enumerate(zip(content.edits, centroids)):
            fits = edit.to[1:] == list(range(first, first + len(edit.to) - 1)) and {edit.to[0], *edit.of} <= set(
                range(first)
            )
            if array is None:
                fits &= len(edit.to) == 1
            else:
                fits &= array.dtype == np.float32 and array.ndim == 2 and len(array) == len(edit.to) > 1
            if not fits or (array is not None and not np.isfinite(array).all()):
                raise UserError(f"{path}: edits.{i}: does not fit the model; {MEND}")
            first += len(edit.to) - 1
        return cls(content.model, content.k, tuple(content.edits), centroids)
