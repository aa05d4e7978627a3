"""A trained model: a field of view (FOV) in, clusters out (paper, Figure 1); saved to and loaded from a folder."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from registry.base import UserError
from registry.spg.graphs import RegionGraph
from sccs.model import batches, folder
from sccs.model.edits import Edits, gone
from sccs.model.parts import Parts
from sccs.model.segmented import STAGES, Segmented
from sccs.model.teacher import Taught, Teacher
from sccs.recipe import Recipe, history, load_recipe
from sccs.recipe.named import FILE, State, read_state
from sccs.system.archive import MODEL, opened
from sccs.system.device import resolve_device
from sccs.system.files import write_text

if TYPE_CHECKING:
    from typing_extensions import Self

Key = TypeVar("Key")


class Model(Parts):
    """Four parts and what they learned. `info` contains the FOV side, voxel size (nm), classes and more.

    User edits are stored separately: `names` of clusters, from `sccs.recipe.named.read_names`; `edits`, splits and
    merges of clusters; and `taught`, classes from a few labels; the latter two are None if there are none.
    `weights`: digest of what the parts learned, "" before loading.

    `tensors`: whether FOVs are segmented as tensors, in batches (sccs/model/batches.py): by default on every device
    except the CPU, where it may be enabled, too.
    """

    edits: Edits | None = None
    taught: Taught | None = None
    weights = ""
    pixels_at_once = 8 * 560**2  # of the FOVs in a batch on a device, if its memory allows

    def __init__(self, recipe: Recipe):
        super().__init__(recipe)
        self.info: dict[str, Any] = {}
        self.names: dict[int, dict] = {}
        self.tensors = self.device != "cpu" and self.graph.takes_tensors

    @property
    def k(self) -> int:
        """Number of clusters, including those made by splits."""
        return self.edits.clusters if self.edits else super().k

    @property
    def gone(self) -> list[int]:
        """The clusters that the user merged into others."""
        return gone(self.edits.edits) if self.edits else []

    @classmethod
    def from_recipe(cls, recipe: str | Path | Mapping, overrides: Sequence[str] = (), **options: Any) -> Self:
        """From a recipe's file, a packaged recipe's name, or a dict of the same form. Raises UserError."""
        return cls(load_recipe(recipe, overrides, **options))

    @property
    def fov(self) -> int | str:
        """Side of the FOVs that the model was trained on, px, or "full"."""
        return self.info.get("fov", 560)

    @torch.no_grad()
    def segment_fov(self, image: np.ndarray, keep: bool = False) -> Segmented:
        """One FOV (H, W) float32, standardised as its volume -> clusters (H, W), with seconds by stage."""
        if self.tensors and not keep:
            return batches.segment(self, [image])[0]
        tick = self.clock()
        if keep:
            tick()
            graph = self.build(image)
        else:
            features = self.extract(image, keep=False)
            tick()
            graph = self.graph.build(image, features).to(self.device)
        tick()
        Z = self.embedder.embed(graph)  # (n_s, u)
        tick()
        assignment = self.assign(graph, Z)
        clusters = assignment[graph.regions]
        seconds = dict(zip(STAGES, tick()))
        return Segmented(clusters, graph, Z.cpu().numpy(), assignment, seconds)

    def segment_fovs(
        self, images: Iterable[tuple[Key, np.ndarray | None]], keep: bool = False
    ) -> Iterator[tuple[Key, Segmented | None]]:
        """Several FOVs (None: nothing to segment), each with an identifier. With `tensors`, FOVs of one size form
        batches and are returned in that order; one batch is segmented while images of the next are read."""
        if self.tensors and not keep:
            yield from batches.segment_all(self, images)
        else:
            for key, image in images:
                yield key, None if image is None else self.segment_fov(image, keep)

    def clock(self) -> Callable[[], list[float]]:
        """A function that returns the seconds between its calls from now on, including the device's work."""
        times = [time.perf_counter()]

        def tick() -> list[float]:
            if self.device != "cpu":
                torch.cuda.synchronize(self.device)
            times.append(time.perf_counter())
            return np.diff(times).tolist()

        return tick

    def assign(self, graph: RegionGraph, Z: torch.Tensor) -> np.ndarray:
        """The cluster (n_s,) uint8 of each node, given Z (n_s, u), after all splits and merges."""
        assignment = self.as_clustered(graph, Z).cpu().numpy()
        return self.edits.apply(assignment, Z.cpu().numpy()) if self.edits else assignment

    def as_clustered(self, graph: RegionGraph, Z: torch.Tensor) -> torch.Tensor:
        """The clusterer's cluster (n_s,) uint8 of each node, on the device of Z."""
        return self.clusterer.predict(graph, Z).argmax(1).to(torch.uint8)

    @torch.no_grad()
    def judge(self, result: Segmented) -> np.ndarray:
        """P (n_s, C) float32 of the teacher's classes for the nodes of one FOV, regardless of cluster names."""
        assert self.taught is not None  # checked by the caller
        return self.taught.teacher.judge(result.graph, torch.from_numpy(result.Z).to(self.device))

    def probabilities(self, result: Segmented) -> np.ndarray:
        """P (n_s, C) float32 of the classes of `taught` for the nodes of one FOV; rows sum to one."""
        assert self.taught is not None  # checked by the caller
        return self.taught.blended(self.judge(result), result.assignment)

    def check_trained(self) -> None:
        """Raises UserError for a model that was neither trained nor loaded."""
        if not self.info:
            raise UserError("the model is not trained yet: call fit, or load a trained one with sccs.load")

    def save(self, where: str | os.PathLike[str]) -> None:
        """Save the model as safetensors and JSON: `where`/model.json and one file for each part.

        Names, splits, merges and labels, if there are any, are saved for `load`: beside a folder called `model`, as in
        a run, or in `where`. Raises UserError, without writing anything, for an untrained model, and where they would
        replace the steps of a run.
        """
        self.check_trained()
        where = Path(where)
        home = where.parent if where.name == "model" else where
        made = bool(self.names or self.edits or self.taught)
        if made and (home / history.FOLDER).exists():
            raise UserError(f"{home}: is a run with steps of its own; save to another folder")
        folder.write(where, self, self.info)
        self.weights = folder.digest(where)
        if self.edits is not None:
            self.edits = replace(self.edits, model=self.weights)
        if self.taught is not None:
            self.taught.teacher.model = self.weights
        if made:
            self.keep_made(home)

    @classmethod
    def load(
        cls, run: str | os.PathLike[str], device: str | None = None, taught: bool = True, made: Path | None = None
    ) -> Self:
        """A trained model from a run folder, its `model` folder, or the folder or zip that `sccs export` wrote.

        Includes the run's names, splits, merges and labels; taught: False omits the labels. made: another folder that
        contains them, written by `keep_made`.

        Raises UserError if it is none of these, is damaged, has plug-ins that the user does not trust, or was retrained
        since it was split, merged or taught.
        """
        if device is not None:
            resolve_device(device)  # before the run is read, which is not to blame
        with opened(run) as place:
            weights, recipe, info = folder.read(place, run)
            try:
                model = cls.from_recipe(recipe, device=device)
            except UserError as error:
                raise UserError(f"{run}: {MODEL}: {error}") from None
            folder.restore(model, weights, run)
            model.info = info
            home = made or (weights.parent if weights.name == "model" else weights)
            state = read_state(home)
            model.weights = folder.digest(weights)
            model._take(home, state, run, taught)
            return model

    def _take(self, home: Path, state: State, run: str | os.PathLike[str], taught: bool) -> None:
        """Load the splits, merges and labels that a state refers to in the folder `home`."""
        self.names = state.clusters
        if state.edits is not None:
            edits = Edits.read(home / state.edits, super().k)
            self._check_same(edits.model, run, "split and merged", "undo that with `sccs undo`")
            self.edits = edits
        if state.teacher is not None and taught:
            teacher = Teacher.read(home / state.teacher)
            self._check_same(teacher.model, run, "taught", "teach it with --anew, or undo that with `sccs undo`")
            self.taught = Taught.of(teacher, state.clusters, self.k)

    def keep_made(self, home: Path) -> None:
        """Write the model's names, splits, merges and labels into a folder, for `load`."""
        state = State(self.names)
        if self.edits is not None:
            self.edits.write(home / "edits")
            state = replace(state, edits="edits")
        if self.taught is not None:
            self.taught.teacher.write(home / "teacher")
            state = replace(state, teacher="teacher")
        write_text(home / FILE, state.text())

    def _check_same(self, weights: str, run: str | os.PathLike[str], what: str, mend: str) -> None:
        if weights != self.weights:
            raise UserError(f"{run}: its model has changed since it was {what}; {mend}")
