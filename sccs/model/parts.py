"""The four parts that a recipe names, and the output of the first two: features, nodes, the graph (spG).

Features and nodes of training images come from the cache, by content: image, recipe blocks, learned state and code. So
does what features learn from training images in many steps.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from importlib import metadata
from typing import Any

import numpy as np

import registry
from registry.base import Clusterer, Embedder, FeatureMap, Features, FeatureStack, GraphBuilder, UserError
from registry.spg.graphs import Nodes, RegionGraph
from sccs.recipe import Recipe
from sccs.system.cache import cached, code_version, fingerprint
from sccs.system.device import resolve_device

SHARED_CODE = ("registry.base", "registry.spg.graphs", "registry.spg.pooling")  # code that pooled nodes depend on
log = logging.getLogger(__name__)
MOST_CLUSTERS = 255  # clusters are written as uint8, and 255 means not segmented
SMALLEST_SIDE = 16  # px of a volume, for features that work without a window


class Parts:
    """One part of each role, built from a recipe; each knows the run's seed and device.

    Raises UserError if the recipe lacks a role, or if uint8 cannot represent its clusters.
    """

    features: Features
    graph: GraphBuilder
    embedder: Embedder
    clusterer: Clusterer

    def __init__(self, recipe: Recipe):
        self.recipe = recipe
        self.device = resolve_device(recipe.device)
        self.features, self.graph, self.embedder, self.clusterer = (self._part(role) for role in registry.ROLES)
        if not 1 <= self.k <= MOST_CLUSTERS:
            place = recipe.where("clusterer", "k")
            raise UserError(
                f"{'' if place == 'default' else f'{place}: '}clusterer.k: {self.k} is not within 1 to "
                f"{MOST_CLUSTERS} (segmentations are written as uint8)"
            )

    def __repr__(self) -> str:
        parts = ", ".join(f"{role}={self.name_of(role)}" for role in registry.ROLES)
        return f"{type(self).__name__}({parts}, k={self.k}, device={self.device})"

    def _part(self, role: str) -> Any:
        choice = getattr(self.recipe, role)
        if choice is None:
            raise UserError(f"{self.recipe.name}: the recipe names no `{role}`; `sccs list {role}` lists the choices")
        part = choice.build()
        if getattr(part, "seed", 0) is None:
            part.seed = self.recipe.seed
        if hasattr(part, "device"):
            part.device = self.device
        return part

    @property
    def k(self) -> int:
        """Number of clusters."""
        return self.clusterer.k

    @property
    def supervised(self) -> list[str]:
        """Names of the parts that are fitted to labels; none except in the supervised references."""
        return [self.name_of(role) for role in registry.ROLES if getattr(self, role).supervised]

    def name_of(self, role: str) -> str:
        """The name under which the part of a role is registered."""
        return getattr(self.recipe, role).name

    @property
    def min_side(self) -> int:
        """The shortest side of a volume that the features work on, px: their window, if they have one."""
        return max(getattr(self.features, "window", 1), SMALLEST_SIDE)

    def learn(self, images: Iterable[np.ndarray]) -> None:
        """Fit the features to training images (H, W), without labels; what they learn in `steps` is cached."""
        if not any(hasattr(part, "steps") for part in (self.features, *self.features.parts)):
            self.features.fit(images)
            return

        learned = []

        def make() -> dict[str, np.ndarray]:
            self.features.fit(images)
            learned.append(self.features.get_state())
            return learned[0]

        keys = [self._features_key(image) for image in images]
        self.features.set_state(cached("learned", None if None in keys else fingerprint(keys), make))
        if not learned:
            log.info("features were already learned from these images: using the cache")

    def extract(self, image: np.ndarray, keep: bool = True) -> FeatureMap | FeatureStack:
        """Features of an image (H, W) float32, standardised per volume.

        They are cached if `keep`, unless nodes are: nodes contain all that is needed, and are far smaller.
        """
        if not keep or self.graph.cacheable:
            return self.features.extract(image)

        def make() -> dict[str, np.ndarray]:
            features = self.features.extract(image)
            maps = features.maps if isinstance(features, FeatureStack) else (features,)
            return {
                **{f"values{i}": each.values for i, each in enumerate(maps)},
                "grids": np.array([[each.step, each.offset] for each in maps]),
            }

        arrays = cached("features", self._features_key(image), make)
        H, W = image.shape
        maps = tuple(
            FeatureMap(arrays[f"values{i}"], float(step), float(offset), (H, W))
            for i, (step, offset) in enumerate(arrays["grids"])
        )
        return FeatureStack(maps) if len(maps) > 1 else maps[0]

    def pool(self, image: np.ndarray, keep: bool = True) -> Nodes:
        """Nodes of an image (H, W), before any training-set statistics; cached if `keep`."""
        if not keep or not self.graph.cacheable:
            return self.graph.pool(image, self.extract(image, keep))
        return Nodes.from_arrays(
            cached("nodes", self._nodes_key(image), lambda: self.graph.pool(image, self.extract(image)).to_arrays())
        )

    def build(self, image: np.ndarray, keep: bool = True) -> RegionGraph:
        """The spG of an image (H, W), on the run's device; its nodes are cached if `keep`."""
        return self.graph.connect(self.pool(image, keep)).to(self.device)

    def _features_key(self, image: np.ndarray) -> str | None:
        kind: type = type(self.features)
        code = code_version(kind, "registry.base", *(type(part).__module__ for part in self.features.parts))
        state = sorted(self.features.get_state().items())
        learned = self.features.fingerprint() or fingerprint(*(thing for item in state for thing in item))
        where = self.device.partition(":")[0]  # GPUs round differently
        return code and fingerprint(image, self._block("features"), learned, code, where)

    def _nodes_key(self, image: np.ndarray) -> str | None:
        kind: type = type(self.graph)
        code, features = code_version(kind, *SHARED_CODE), self._features_key(image)
        return code and features and fingerprint(features, self._block("graph"), code, metadata.version("scikit-image"))

    def _block(self, role: str) -> dict[str, Any]:
        """The part's block with its actual seed."""
        block = getattr(self.recipe, role).block()
        return {**block, "seed": getattr(self, role).seed} if "seed" in block else block
