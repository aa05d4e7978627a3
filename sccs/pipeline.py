"""Data in, labels out, in the order of the paper's Figure 1: features, superpixel graph, embedding, clustering."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

import registry
from registry.base import FeatureMap, FeatureStack, UserError
from registry.spg.graphs import Nodes, RegionGraph
from sccs.data.planes import turn_back
from sccs.data.tiler import WINDOW
from sccs.data.volumes import FOV, Dataset, Volume, voxel_mismatch
from sccs.recipe.grammar import Recipe, load_recipe
from sccs.system.archive import carried, opened
from sccs.system.cache import cached, code_version, fingerprint, report_growth
from sccs.system.device import resolve_device
from sccs.system.files import atomic_path, write_json

STAGES = ("features", "graph", "embed", "cluster")
FORMAT = 1  # of the model folder
SHARED_CODE = ("registry.base", "registry.spg.graphs", "registry.spg.pooling")  # what pooled nodes depend on
MOST_CLUSTERS = 255  # clusters are written as uint8, where 255 is a pixel that was not segmented
SMALLEST_SIDE = 16  # px of a volume, for features that work without a window


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
        if not 1 <= self.k <= MOST_CLUSTERS:
            place = recipe.where("clusterer", "k")
            raise UserError(
                f"{'' if place == 'default' else f'{place}: '}clusterer.k: {self.k} is not within 1 to "
                f"{MOST_CLUSTERS} (segmentations are written as uint8)"
            )
        self.info: dict[str, Any] = {}
        self.diagnostics: list[dict[str, Any]] = []  # of each training graph
        self.seconds: dict[str, float] = {}  # what `fit` took: "graphs" (with features, less if cached), "training"

    @classmethod
    def from_recipe(cls, recipe: str | Path | Mapping, overrides: Sequence[str] = (), **options) -> Pipeline:
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
    def supervised(self) -> list[str]:
        """Names of the parts that are fitted on labels: none, but in the supervised references."""
        return [getattr(self.recipe, role).name for role in registry.ROLES if getattr(self, role).supervised]

    def check_labels(self, dataset: Dataset) -> None:
        """Raises UserError where a part is fitted on labels and no training volume has any."""
        if self.supervised and all(volume.labels is None for volume in dataset.train):
            raise UserError(
                f"data.train: {' and '.join(self.supervised)} must learn from labels, but no training "
                "volume has any; give `labels`, or take an unsupervised recipe such as sccs"
            )

    @property
    def fov(self) -> int | str:
        return self.info.get("fov", 560)

    @property
    def min_side(self) -> int:
        """The shortest side of a volume that the features work on, px: their window, if they have one."""
        return max(getattr(self.features, "window", 1), SMALLEST_SIDE)

    # ------------------------------------------------------------------------------------------------------- graphs
    def extract(self, image: np.ndarray, keep: bool = True) -> FeatureMap | FeatureStack:
        """Features of an image (H, W) float32, standardised per volume.

        They come from the cache if `keep`, but only where nodes do not: nodes tell all that is needed of them, and
        are far smaller.
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
        maps = tuple(
            FeatureMap(arrays[f"values{i}"], float(step), float(offset), image.shape)
            for i, (step, offset) in enumerate(arrays["grids"])
        )
        return FeatureStack(maps) if len(maps) > 1 else maps[0]

    def pool(self, image: np.ndarray, keep: bool = True) -> Nodes:
        """Nodes of an image (H, W), before any training-set statistic enters; from the cache if `keep`."""
        if not keep or not self.graph.cacheable:
            return self.graph.pool(image, self.extract(image, keep))
        return Nodes.from_arrays(
            cached("nodes", self._nodes_key(image), lambda: self.graph.pool(image, self.extract(image)).to_arrays())
        )

    def _features_key(self, image: np.ndarray) -> str | None:
        code = code_version(
            type(self.features), "registry.base", *(type(part).__module__ for part in self.features.parts)
        )
        state = sorted(self.features.get_state().items())
        learned = self.features.fingerprint() or fingerprint(*(thing for item in state for thing in item))
        where = self.device.partition(":")[0]  # a GPU rounds otherwise
        return code and fingerprint(image, self._block("features"), learned, code, where)

    def _nodes_key(self, image: np.ndarray) -> str | None:
        code, features = code_version(type(self.graph), *SHARED_CODE), self._features_key(image)
        return code and features and fingerprint(features, self._block("graph"), code, metadata.version("scikit-image"))

    def _block(self, role: str) -> dict[str, Any]:
        """The part's block with the seed that it really has."""
        block = getattr(self.recipe, role).block()
        return {**block, "seed": getattr(self, role).seed} if "seed" in block else block

    def build(self, image: np.ndarray, keep: bool = True) -> RegionGraph:
        return self.graph.connect(self.pool(image, keep)).to(self.device)

    # ----------------------------------------------------------------------------------------------------- training
    def fit(
        self, data, *, voxel_size=None, log=None, checkpoints: Path | None = None, resume: bool = False, preview=None
    ) -> Pipeline:
        """Train on a Dataset, or on volumes: files, arrays (Z, Y, X) or (Y, X), one or a list of them.

        voxel_size: (z, y, x) nm of arrays, and of files that do not say. checkpoints: folder for the trainer's state.
        preview(step, pipeline, graph, fov): called with the anchor. Raises UserError for data that cannot be used.
        """
        from sccs.system.log import quiet_log
        from sccs.training.trainer import Trainer

        log = log or quiet_log()
        dataset = data if isinstance(data, Dataset) else self._as_dataset(data, voxel_size)
        self.check_labels(dataset)
        if self.supervised:
            log.info(f"supervised: labels of the training volumes are used to train {' and '.join(self.supervised)}")
        first = dataset.train[0]
        self.info = {
            "fov": first.fov,
            "data": dataset.name,
            "voxel_size": first.voxel_size,
            "k": self.k,
            "classes": {str(code): name for code, name in dataset.classes.items()},
            "ignore": dataset.ignore,
        }
        count = sum(len(volume.z_slices) * len(volume.tiles) for volume in dataset.train)
        log.info(f"{count} training FOVs; features: {self.recipe.features.name}, graph: {self.recipe.graph.name}")
        start = time.perf_counter()
        images = TrainingImages(dataset.train)
        if self.features.supervised:
            self.features.fit(images, TrainingLabels(dataset))
        else:
            self.features.fit(images)
        keys, nodes, self.anchor, anchor = self._pool_all(dataset, count, log)
        report_growth(log)
        self.graph.fit(nodes)
        graphs = []
        nodes.reverse()
        while nodes:  # nodes and graphs of all FOVs at once would take twice the memory
            graphs.append(self.graph.connect(nodes.pop()).to(self.device))
        self.diagnostics = [{"key": key, **graph.diagnostics()} for key, graph in zip(keys, graphs)]
        self._warn(log)
        log.info(f"anchor graph: {anchor.key}")
        if hasattr(self.clusterer, "anchor"):
            self.clusterer.anchor = self.anchor
        self.seconds = {"graphs": time.perf_counter() - start}
        start = time.perf_counter()
        self.embedder.fit(graphs)
        trainer = Trainer(
            self.embedder,
            self.clusterer,
            graphs,
            self.recipe.train,
            seed=self.recipe.seed,
            anchor=self.anchor,
            log=log,
            checkpoints=checkpoints,
        )
        trainer.run(resume, None if preview is None else lambda step: preview(step, self, graphs[self.anchor], anchor))
        if not self.clusterer.trainable:
            with torch.no_grad():
                embeddings = [self.embedder.embed(graph) for graph in graphs]
                if self.clusterer.supervised:
                    self.clusterer.fit(graphs, embeddings, node_labels(graphs, dataset))
                else:
                    self.clusterer.fit(graphs, embeddings)
        self.seconds["training"] = time.perf_counter() - start
        return self

    def _pool_all(self, dataset: Dataset, count: int, log) -> tuple[list[str], list[Nodes], int, FOV]:
        """Keys and nodes of the training FOVs, the anchor's index, the anchor: only its image stays in memory."""
        keys, nodes, scores, anchor = [], [], [], None
        with log.progress(count, "features and graphs") as bar:
            for fov in training_fovs(dataset.train):
                keys.append(fov.key)
                nodes.append(self.pool(fov.image))
                scores.append(anchor_score(fov, dataset.anchor))
                if anchor is None or scores[-1] > max(scores[:-1]):
                    anchor = replace(fov, labels=None)
                bar.update(1)
        return keys, nodes, int(np.argmax(scores)), anchor

    def _as_dataset(self, given, voxel_size) -> Dataset:
        one = isinstance(given, (str, os.PathLike, Volume)) or hasattr(given, "shape")
        volumes: list[Volume] = []
        for i, volume in enumerate([given] if one else given):
            named = as_volume(volume, f"volume{i}", voxel_size, min_side=self.min_side)
            if named is not volume and named.name in {other.name for other in volumes}:  # a.tif of two folders
                named.name += f"-{i}"
            volumes.append(named)
        return Dataset("arrays", volumes, [], {})

    def _warn(self, log) -> None:
        """Of graphs in which spectral clustering has little to go by; UserError where no graph has k nodes."""
        largest = max(entry["nodes"] for entry in self.diagnostics)
        if largest < self.k:
            raise UserError(
                f"clusterer.k: {self.k} clusters, but the largest training graph has {largest} "
                f"node{'s' if largest > 1 else ''}; lower k or graph.pixels_per_superpixel, or use larger "
                "FOVs"
            )
        whole = len(self.diagnostics)
        lonely = [entry for entry in self.diagnostics if entry["nodes"] > 1 and entry["isolated"] > entry["nodes"] / 10]
        if lonely and self.recipe.embedder.name != "identity":
            worst = max(lonely, key=lambda entry: entry["isolated"] / entry["nodes"])
            log.warning(
                f"{len(lonely)} of {whole} graphs have many nodes without a neighbour (most: {worst['key']}, "
                f"{worst['isolated']} of {worst['nodes']}); raise graph.kappa or graph.alpha, or take edges: "
                "knn+adjacent with kappa: median"
            )
        crowded = [entry for entry in self.diagnostics if entry["nodes"] > 100 and entry["density"] > 0.9]
        if crowded:
            worst = max(crowded, key=lambda entry: entry["density"])
            log.warning(
                f"{len(crowded)} of {whole} graphs join nearly all pairs of nodes (most: {worst['key']}, "
                f"{worst['density']:.0%}), which smooths everything into one; lower graph.kappa or take "
                "edges: knn+adjacent"
            )
        density, parts = ([entry[name] for entry in self.diagnostics] for name in ("density", "components"))
        log.info(
            f"graphs: {largest} nodes at most, density {np.mean(density):.4f}, "
            f"{np.mean(parts):.1f} components on average"
        )

    # ---------------------------------------------------------------------------------------------------- inference
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

    def segment_slices(self, volume: Volume) -> Iterable[np.ndarray]:
        """Clusters (Y, X) uint8 of every used slice of a volume, one after the other."""
        fovs = volume.fovs()
        for _ in volume.z_slices:
            plane = np.zeros(volume.shape[1:], np.uint8)
            for tile in volume.tiles:
                fov = next(fovs)
                plane[tile.y0 : tile.y1, tile.x0 : tile.x1] = self.segment_fov(fov.image).clusters
            yield plane

    def segment(self, volume, voxel_size: Sequence[float] | None = None) -> np.ndarray:
        """Clusters (Z, Y, X) uint8 of a file, a Volume or an array (Z, Y, X); (Y, X) of an array (Y, X).

        Arrays may be of NumPy, or lazy ones of the kind of Dask's and Zarr's, of which slices are read one at a time.
        voxel_size: (z, y, x) nm of arrays, and of files that do not say. Warns, through the logger "sccs", of pixels
        of another size than those trained on.
        """
        whole = as_volume(volume, "volume", voxel_size, self.fov, self.min_side)
        if (note := voxel_mismatch(whole.voxel_size, self.info.get("voxel_size"))) is not None:
            logging.getLogger("sccs").warning(note)
        labels = np.stack(list(self.segment_slices(whole))).transpose(turn_back(range(3), whole.plane))
        return labels[0] if len(getattr(volume, "shape", ())) == 2 else labels

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
    def load(cls, run: str | Path, device: str | None = None) -> Pipeline:
        """A trained pipeline from a run folder, its `model` folder, or the folder or zip that `sccs export` wrote.

        Raises UserError for what is none of these, is damaged, or brings plug-ins that the user does not trust.
        """
        with opened(run) as folder:
            return cls._restored(folder, run, device)

    @classmethod
    def _restored(cls, folder: Path, run: str | Path, device: str | None) -> Pipeline:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        folder = folder / "model" if (folder / "model").is_dir() else folder
        if not (folder / "model.json").is_file():
            raise UserError(
                f"{run}: no trained model there (model/model.json is missing); give the folder of a finished `sccs run`"
            )
        about = json.loads((folder / "model.json").read_text())
        if about.get("format") != FORMAT:
            raise UserError(f"{run}: model format {about.get('format')}, this version reads {FORMAT}")
        recipe = {key: value for key, value in about["recipe"].items() if key != "data"}
        recipe["plugins"] = carried(recipe.get("plugins", []), folder.parent)
        model = cls.from_recipe(recipe, device=device)
        try:
            for role in registry.ROLES:
                getattr(model, role).set_state(load_file(folder / f"{role}.safetensors"))
        except (FileNotFoundError, SafetensorError) as error:
            raise UserError(f"{run}: the model is incomplete or damaged ({error}); train again") from None
        except (KeyError, ValueError, RuntimeError) as error:  # arrays of other names or shapes than this code keeps
            raise UserError(
                f"{run}: the model's {role} was saved by another version of sccs "
                f"({str(error).splitlines()[0]}); train again"
            ) from None
        for part in (model.embedder, model.clusterer):
            if isinstance(part, torch.nn.Module):
                part.to(model.device).eval()
        model.info = {key: value for key, value in about.items() if key not in ("format", "recipe")}
        return model


class TrainingImages:
    """The images (H, W) of all training FOVs, read anew each time that one goes through them."""

    def __init__(self, volumes: Sequence[Volume]):
        self.volumes = volumes

    def __iter__(self) -> Iterator[np.ndarray]:
        return (fov.image for fov in training_fovs(self.volumes))


class TrainingLabels:
    """For each of `TrainingImages`, positions (H, W) int32 of classes in the data set's order; -1: no label."""

    def __init__(self, dataset: Dataset):
        self.dataset = dataset

    def __iter__(self) -> Iterator[np.ndarray]:
        for fov in training_fovs(self.dataset.train):
            positions = np.full(fov.image.shape, -1, np.int32)
            if fov.labels is not None:
                for position, code in enumerate(self.dataset.classes):
                    positions[fov.labels == code] = position
            yield positions


def node_labels(graphs: Sequence[RegionGraph], dataset: Dataset) -> list[np.ndarray]:
    """For each graph (n_s, C) int64, the pixels of each class in each node."""
    C = len(dataset.classes)
    counts = []
    for graph, positions in zip(graphs, TrainingLabels(dataset)):
        seen = positions >= 0
        cells = graph.regions[seen].astype(np.int64) * C + positions[seen]
        counts.append(np.bincount(cells, minlength=graph.n * C).reshape(graph.n, C))
    return counts


def training_fovs(volumes: Sequence[Volume]) -> Iterator[FOV]:
    return (fov for volume in volumes for fov in volume.fovs())


def as_volume(given, name: str, voxel_size=None, fov: int | str = 560, min_side: int = WINDOW) -> Volume:
    """A file or an array (Z, Y, X) or (Y, X) as a Volume; anything with a shape that reads by slices will do.

    A file's volume is named after it. Raises UserError for what is none of these.
    """
    if isinstance(given, Volume):
        return given
    if isinstance(given, (str, os.PathLike)):
        from sccs.data.loading import stem
        from sccs.data.readers import open_image

        source = open_image(given, voxel_size=voxel_size)
        return Volume(
            stem(os.fspath(given)),
            source.array,
            path=source.path,
            voxel_size=source.voxel_size,
            fov=fov,
            min_side=min_side,
        )
    if not hasattr(given, "shape"):
        raise UserError(f"{name}: a {type(given).__name__} is no image; give a file's path or an array (Z, Y, X)")
    if len(given.shape) not in (2, 3):
        raise UserError(f"{name}: an array of shape {tuple(given.shape)} is no volume (Z, Y, X) and no image (Y, X)")
    if len(given.shape) == 2:
        given = np.asarray(given)[None]
    return Volume(name, given, path=name, voxel_size=voxel_size, fov=fov, min_side=min_side)


def anchor_score(fov: FOV, wanted: str | None) -> float:
    """The anchor FOV is the one of the highest score: the one asked for, else the one whose intensities are most
    diverse (entropy of their histogram)."""
    if wanted is not None:
        return float(fov.key == wanted)
    counts, _ = np.histogram(fov.image, bins=64, range=(-4, 4))
    p = counts[counts > 0] / max(counts.sum(), 1)
    return float(-(p * np.log(p)).sum())
