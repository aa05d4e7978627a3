"""Data in, labels out, in the order of the paper's Figure 1: features, superpixel graph, embedding, clustering."""
from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Iterable, Mapping, Sequence

import numpy as np
import torch

import registry
from registry.base import FeatureMap, UserError
from registry.graphs import Nodes, RegionGraph
from sccs.cache import cached, code_version, fingerprint
from sccs.data.volumes import FOV, Dataset, Volume
from sccs.device import resolve_device
from sccs.files import atomic_path, write_json
from sccs.recipe import Recipe, load_recipe

STAGES = ("features", "graph", "embed", "cluster")
FORMAT = 1  # of the model folder
SHARED_CODE = ("registry.base", "registry.graphs", "registry.pooling")  # what pooled nodes depend on


@dataclass
class Segmented:
    """What the pipeline makes of one FOV (H, W) with n_s superpixels."""

    clusters: np.ndarray  # (H, W) uint8
    graph: RegionGraph
    Z: np.ndarray  # (n_s, u) float32
    assignment: np.ndarray  # (n_s,) uint8, the cluster of each node
    seconds: dict[str, float] = field(default_factory=dict)  # by stage


class Pipeline:
    """Four parts, one of each role, and what they learned.

    >>> model = Pipeline.from_recipe("sccs").fit([train_volume])   # doctest: +SKIP
    >>> labels = model.segment(volume)                             # (Z, Y, X) uint8
    """

    def __init__(self, recipe: Recipe):
        self.recipe = recipe
        self.device = resolve_device(recipe.device)
        self.features, self.graph, self.embedder, self.clusterer = (self._build(role) for role in registry.ROLES)
        self.info: dict[str, Any] = {}

    @classmethod
    def from_recipe(cls, recipe: str | Path | Mapping, overrides: Sequence[str] = (), **options) -> "Pipeline":
        """From a recipe's file, a packaged recipe's name, or a dict of the same form. Raises UserError."""
        return cls(load_recipe(recipe, overrides, **options))

    def _build(self, role: str):
        choice = getattr(self.recipe, role)
        if choice is None:
            raise UserError(f"{self.recipe.name}: the recipe names no `{role}`; `sccs list {role}` shows the choice")
        part = choice.build()
        if getattr(part, "seed", 0) is None:
            part.seed = self.recipe.seed
        if hasattr(part, "device"):
            part.device = self.device
        return part

    @property
    def k(self) -> int:
        return self.clusterer.k

    @property
    def fov(self) -> int | str:
        return self.info.get("fov", 560)

    # ------------------------------------------------------------------------------------------------------- graphs
    def extract(self, image: np.ndarray, keep: bool = True) -> FeatureMap:
        """Features of an image (H, W) float32, standardised per volume; from the cache if `keep`."""
        if not keep:
            return self.features.extract(image)
        made: list[FeatureMap] = []

        def make() -> dict[str, np.ndarray]:
            made.append(self.features.extract(image))
            return {"values": made[0].values, "grid": np.array([made[0].step, made[0].offset])}

        arrays = cached("features", self._features_key(image), make)
        step, offset = arrays["grid"]
        return FeatureMap(arrays["values"], float(step), float(offset), image.shape)

    def pool(self, image: np.ndarray, keep: bool = True) -> Nodes:
        """Nodes of an image (H, W), before any training-set statistic enters; from the cache if `keep`."""
        if not keep or not self.graph.cacheable:
            return self.graph.pool(image, self.extract(image, keep))
        key = fingerprint(self._features_key(image), self.recipe.graph.block(),
                          code_version(type(self.graph).__module__, *SHARED_CODE))
        return Nodes.from_arrays(cached("nodes", key, lambda: self.graph.pool(image, self.extract(image)).to_arrays()))

    def _features_key(self, image: np.ndarray) -> str:
        return fingerprint(image, self.recipe.features.block(), self.features.fingerprint(),
                           code_version(type(self.features).__module__, "registry.base"))

    def build(self, image: np.ndarray, keep: bool = True) -> RegionGraph:
        return self.graph.connect(self.pool(image, keep)).to(self.device)

    # ----------------------------------------------------------------------------------------------------- training
    def fit(self, data: Dataset | Sequence, *, voxel_size=None, log=None, checkpoints: Path | None = None,
            resume: bool = False, preview=None) -> "Pipeline":
        """Train without labels, on a data set or on arrays (Z, Y, X) or (Y, X).

        checkpoints: folder for the trainer's state. preview(step, pipeline, graph, fov): called with the anchor.
        """
        from sccs.log import quiet_log
        from sccs.trainer import Trainer

        log = log or quiet_log()
        dataset = data if isinstance(data, Dataset) else self._as_dataset(data, voxel_size)
        fovs = [fov for volume in dataset.train for fov in volume.fovs()]
        self.info = {"fov": dataset.train[0].fov, "data": dataset.name, "voxel_size": dataset.train[0].voxel_size,
                     "classes": {str(code): name for code, name in dataset.classes.items()}, "k": self.k}
        log.info(f"{len(fovs)} training FOVs; features: {self.recipe.features.name}, graph: {self.recipe.graph.name}")
        self.features.fit([fov.image for fov in fovs])
        nodes = []
        with log.progress(len(fovs), "features and graphs") as bar:
            for fov in fovs:
                nodes.append(self.pool(fov.image))
                bar.update(1)
        self.graph.fit(nodes)
        graphs = [self.graph.connect(each).to(self.device) for each in nodes]
        self.diagnostics = [{"key": fov.key, **graph.diagnostics()} for fov, graph in zip(fovs, graphs)]
        self._warn(log, max(graph.n for graph in graphs))
        self.anchor = choose_anchor(fovs, dataset.anchor)
        log.info(f"anchor graph: {fovs[self.anchor].key}")
        if hasattr(self.clusterer, "anchor"):
            self.clusterer.anchor = self.anchor
        self.embedder.fit(graphs)
        trainer = Trainer(self.embedder, self.clusterer, graphs, self.recipe.train, seed=self.recipe.seed,
                          anchor=self.anchor, log=log, checkpoints=checkpoints)
        trainer.run(resume, None if preview is None else
                    lambda step: preview(step, self, graphs[self.anchor], fovs[self.anchor]))
        if not self.clusterer.trainable:
            with torch.no_grad():
                self.clusterer.fit(graphs, [self.embedder.embed(graph) for graph in graphs])
        return self

    def _as_dataset(self, volumes: Sequence, voxel_size) -> Dataset:
        if isinstance(volumes, np.ndarray):
            volumes = [volumes]
        named = [volume if isinstance(volume, Volume) else as_volume(volume, f"volume{i}", voxel_size)
                 for i, volume in enumerate(volumes)]
        return Dataset("arrays", named, [], {})

    def _warn(self, log, largest: int) -> None:
        if largest < self.k:
            raise UserError(f"clusterer.k: {self.k} clusters, but the largest training graph has {largest} nodes; "
                            "lower k or graph.pixels_per_superpixel, or use larger FOVs")
        for entry in self.diagnostics:
            n, isolated, density = entry["nodes"], entry["isolated"], entry["density"]
            if n > 1 and isolated > n / 10 and self.recipe.embedder.name != "identity":
                log.warning(f"graph {entry['key']}: {isolated} of {n} nodes have no neighbour; raise graph.kappa or "
                            "graph.alpha, or take edges: knn+adjacent with kappa: median")
            elif n > 100 and density > 0.9:
                log.warning(f"graph {entry['key']}: {density:.0%} of all pairs are joined, which smooths everything "
                            "into one; lower graph.kappa or take edges: knn+adjacent")
        density, parts = ([entry[name] for entry in self.diagnostics] for name in ("density", "components"))
        log.info(f"graphs: {largest} nodes at most, density {np.mean(density):.4f}, "
                 f"{np.mean(parts):.1f} components on average")

    # ---------------------------------------------------------------------------------------------------- inference
    @torch.no_grad()
    def segment_fov(self, image: np.ndarray, keep: bool = False) -> Segmented:
        """One FOV (H, W) float32, standardised as its volume -> clusters (H, W), with seconds by stage."""
        clock = [time.perf_counter()]

        def tick() -> None:
            if self.device != "cpu":
                torch.cuda.synchronize()
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

    def segment_slices(self, volume: Volume) -> Iterable[np.ndarray]:
        """Clusters (Y, X) uint8 of every used slice of a volume, one after the other."""
        fovs = volume.fovs()
        for _ in volume.z_slices:
            plane = np.zeros(volume.shape[1:], np.uint8)
            for tile in volume.tiles:
                fov = next(fovs)
                plane[tile.y0:tile.y1, tile.x0:tile.x1] = self.segment_fov(fov.image).clusters
            yield plane

    def segment(self, volume, voxel_size: Sequence[float] | None = None) -> np.ndarray:
        """Clusters (Z, Y, X) uint8 of an array (Z, Y, X), or (Y, X) of one (Y, X). voxel_size: (z, y, x) nm."""
        whole = as_volume(volume, "volume", voxel_size, self.fov)
        labels = np.stack(list(self.segment_slices(whole)))
        return labels[0] if np.ndim(volume) == 2 else labels

    # -------------------------------------------------------------------------------------------------------- files
    def save(self, folder: Path) -> None:
        """The model as safetensors and JSON: `folder`/model.json and one file for each part with state."""
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        for role in registry.ROLES:
            state = {name: np.ascontiguousarray(value) for name, value in getattr(self, role).get_state().items()}
            with atomic_path(folder / f"{role}.safetensors") as scratch:
                save_file(state, scratch)
        write_json(folder / "model.json", {"format": FORMAT, "recipe": self.recipe.resolved(), **self.info})

    @classmethod
    def load(cls, run: str | Path, device: str | None = None) -> "Pipeline":
        """A trained pipeline from a run folder or its `model` folder. Raises UserError for what is none."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        folder = Path(run)
        folder = folder / "model" if (folder / "model").is_dir() else folder
        if not (folder / "model.json").is_file():
            raise UserError(f"{run}: no trained model there (model/model.json is missing); "
                            "give the folder of a finished `sccs run`")
        about = json.loads((folder / "model.json").read_text())
        if about.get("format") != FORMAT:
            raise UserError(f"{folder}: model format {about.get('format')}, this version reads {FORMAT}")
        recipe = {key: value for key, value in about["recipe"].items() if key != "data"}
        model = cls.from_recipe(recipe, device=device)
        try:
            for role in registry.ROLES:
                getattr(model, role).set_state(load_file(folder / f"{role}.safetensors"))
        except (FileNotFoundError, SafetensorError) as error:
            raise UserError(f"{folder}: the model is incomplete or damaged ({error}); train again") from None
        for part in (model.embedder, model.clusterer):
            if isinstance(part, torch.nn.Module):
                part.to(model.device).eval()
        model.info = {key: value for key, value in about.items() if key not in ("format", "recipe")}
        return model


def as_volume(array, name: str, voxel_size=None, fov: int | str = 560) -> Volume:
    """An array (Z, Y, X) or (Y, X) as a Volume; anything with a shape that reads by slices will do."""
    if len(array.shape) not in (2, 3):
        raise UserError(f"{name}: an array of shape {tuple(array.shape)} is no volume (Z, Y, X) and no image (Y, X)")
    if len(array.shape) == 2:
        array = np.asarray(array)[None]
    return Volume(name, array, path=name, voxel_size=voxel_size, fov=fov)


def choose_anchor(fovs: Sequence[FOV], wanted: str | None) -> int:
    """Index of the anchor FOV: the one asked for, else the one whose intensities are most diverse (entropy)."""
    if wanted is not None:
        return [fov.key for fov in fovs].index(wanted)

    def entropy(fov: FOV) -> float:
        counts, _ = np.histogram(fov.image, bins=64, range=(-4, 4))
        p = counts[counts > 0] / max(counts.sum(), 1)
        return float(-(p * np.log(p)).sum())

    return int(np.argmax([entropy(fov) for fov in fovs]))
