"""A trained model: a field of view (FOV) in, clusters out (paper, Figure 1); saved to and loaded from a folder."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from registry.base import UserError
from registry.spg.graphs import RegionGraph
from sccs.model import folder
from sccs.model.parts import Parts
from sccs.recipe import Recipe, load_recipe
from sccs.system.archive import MODEL, opened

if TYPE_CHECKING:
    from typing_extensions import Self

STAGES = ("features", "graph", "embed", "cluster")


@dataclass
class Segmented:
    """What a model makes of one FOV (H, W) with n_s superpixels."""

    clusters: np.ndarray  # (H, W) uint8
    graph: RegionGraph
    Z: np.ndarray  # (n_s, u) float32
    assignment: np.ndarray  # (n_s,) uint8, the cluster of each node
    seconds: dict[str, float] = field(default_factory=dict)  # by stage


class Model(Parts):
    """Four parts and what they learned. `info` holds what else a model knows: FOV side, voxel size (nm), classes."""

    def __init__(self, recipe: Recipe):
        super().__init__(recipe)
        self.info: dict[str, Any] = {}

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
        clock = [time.perf_counter()]

        def tick() -> None:
            if self.device != "cpu":
                torch.cuda.synchronize(self.device)
            clock.append(time.perf_counter())

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
        P = self.clusterer.predict(graph, Z)  # (n_s, k)
        assignment = P.argmax(1).to(torch.uint8).cpu().numpy()
        clusters = assignment[graph.regions]
        tick()
        return Segmented(clusters, graph, Z.cpu().numpy(), assignment, dict(zip(STAGES, np.diff(clock).tolist())))

    def save(self, where: Path) -> None:
        """The model as safetensors and JSON: `where`/model.json and one file for each part."""
        folder.write(where, self, self.info)

    @classmethod
    def load(cls, run: str | os.PathLike[str], device: str | None = None) -> Self:
        """A trained model from a run folder, its `model` folder, or the folder or zip that `sccs export` wrote.

        Raises UserError for what is none of these, is damaged, or brings plug-ins that the user does not trust.
        """
        with opened(run) as place:
            weights, recipe, info = folder.read(place, run)
            try:
                model = cls.from_recipe(recipe, device=device)
            except UserError as error:
                raise UserError(f"{run}: {MODEL}: {error}") from None
            folder.restore(model, weights, run)
            model.info = info
            return model
