"""`sccs graphs RECIPE|RUN OUT`: the superpixel graphs of a data set as DGL graphs, for your own work.

    OUT/
        graphs.bin     a DGLGraph for each field of view (FOV), as `dgl.save_graphs` writes them
        graphs.json    classes, settings, and for each graph, in the same order: split, volume, z, y, x
        regions.npz    for each graph, by its number: regions (H, W) int32, the node of every pixel

This module imports DGL, so the command line imports it only on demand.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import sccs
from registry.base import UserError
from registry.spg.dgl_adapter import dgl
from registry.spg.graphs import Nodes, RegionGraph
from sccs.data import load_dataset
from sccs.data.volumes import FOV, Dataset
from sccs.model import folder as model_folder
from sccs.model.fovs import check_labels, class_positions, fit_features, label_counts, pooled, training_fovs
from sccs.model.model import Model
from sccs.recipe import Recipe, load_recipe
from sccs.recipe.stored import Stored, parse_json, read_resolved
from sccs.sharing.export import portable
from sccs.system import bounds
from sccs.system.apart import check_apart
from sccs.system.archive import UNREADABLE, is_export
from sccs.system.files import atomic_path, write_json
from sccs.system.lock import held
from sccs.system.log import bar, say

FORMAT = 1  # of the folder
GRAPHS, FACTS, REGIONS = "graphs.bin", "graphs.json", "regions.npz"
FILES = {GRAPHS, FACTS, REGIONS}
MADE_FROM = ("seed", "data", "features", "graph")  # keys of a recipe that the graphs depend on
MEND = "rebuild them with `sccs graphs --overwrite`"


class Place(Stored):
    """The origin of a graph, in graphs.json."""

    split: str
    volume: str
    z: int
    y: int
    x: int


class Facts(Stored):
    """graphs.json."""

    classes: dict[int, str]
    settings: dict[str, Any]
    fovs: list[Place]


class SuperpixelGraphs(dgl.data.DGLDataset):
    """The spGs of the training and test FOVs of a recipe or a run: a `dgl.data.DGLDataset`.

    folder: where they are stored. If they exist, they are read, else made from the source and saved.
    source: a recipe (file, packaged name, dict), whose features and graph part are fitted to its training FOVs; or the
    folder of a finished run, whose data and fitted parts are used. None: only read.
    overrides: ``a.b=c``, as after ``--set``; for a run, only `data` and `device`.
    force_reload: rebuild them, and replace those in the folder. transform: applied to a DGLGraph at each access.

    A graph has the node data `feature` (n_s, 2q), as the embedder gets it, `area` (n_s,), px, `centroid` (n_s, 2),
    (y, x) in px, `grey` (n_s,), and, for FOVs with labels, `labels` (n_s, C), the shares of the classes among the
    node's labelled pixels, in the order of `classes`; zeros if none is labelled. All are float32, as is the edge data
    `affinity` (E,). Edges are stored in both directions, and each node has a self-loop.

    Attributes: `fovs`, a dict with split, volume, z, y, x for each graph; `classes`, code -> name. All graphs are in
    memory; regions are read on demand. Raises UserError if the source or folder cannot be used, or if the folder's
    graphs were made with other settings than the source's.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        source: Any = None,
        overrides: Sequence[str] = (),
        *,
        force_reload: bool = False,
        transform: Callable[[Any], Any] | None = None,
    ):
        self.folder = Path(folder).absolute()
        self._make = None if source is None else _Source(source, overrides)
        foreign = not is_saved(self.folder) or (force_reload and _names(self.folder) != FILES)
        if os.path.lexists(self.folder) and foreign:
            raise UserError(f"{folder}: contains other files, which are never overwritten: choose another name")
        if self._make is not None:
            check_apart(self.folder, self._make.recipe.reads())
        parent = str(self.folder.parent)
        super().__init__(
            name=self.folder.name, raw_dir=parent, save_dir=parent, force_reload=force_reload, transform=transform
        )

    def process(self) -> None:
        """Make the graphs. Raises UserError without a source."""
        if self._make is None:
            raise UserError(f"{self.folder}: saved graphs are missing or damaged; make them with `sccs graphs`")
        self.graphs: list[Any] = []
        self.fovs: list[dict[str, Any]] = []
        self._regions: list[np.ndarray] = []
        model, dataset, made = self._make.graphs()
        self.classes: dict[int, str] = dataset.classes
        for split, fov, graph in made:
            if fov.labels is not None:
                counts = label_counts(graph, class_positions(fov, dataset.classes), len(dataset.classes))
                share = counts / counts.sum(1, keepdims=True).clip(1)
                graph.graph.ndata["labels"] = torch.from_numpy(share.astype(np.float32))
            self.graphs.append(graph.graph)
            self.fovs.append({"split": split, "volume": fov.volume, "z": fov.z, "y": fov.y, "x": fov.x})
            self._regions.append(graph.regions)

    def save(self) -> None:
        """Write the folder atomically."""
        assert self._make is not None  # otherwise `process` has raised
        facts = {
            "format": FORMAT,
            "sccs": sccs.__version__,
            "classes": {str(code): name for code, name in self.classes.items()},
            "settings": self._make.settings,
            "fovs": self.fovs,
        }
        with atomic_path(self.folder) as scratch:
            scratch.mkdir()
            dgl.save_graphs(str(scratch / GRAPHS), self.graphs)
            regions: dict[str, Any] = {str(i): each for i, each in enumerate(self._regions)}
            np.savez_compressed(scratch / REGIONS, **regions)
            write_json(scratch / FACTS, facts)
        self._regions.clear()

    def has_cache(self) -> bool:
        """Whether the folder contains saved graphs. Raises UserError if they have other settings than requested."""
        if not is_saved(self.folder):
            return False
        facts = self._facts()
        if self._make is not None:
            now, then = self._make.settings, facts.settings
            if other := [key for key in MADE_FROM if now[key] != then.get(key)]:
                raise UserError(
                    f"{self.folder}: the graphs there were made with another `{other[0]}`; choose another name, or "
                    "rebuild them (--overwrite, force_reload=True)"
                )
        return True

    def load(self) -> None:
        """Read what `save` wrote; regions are read on demand."""
        facts = self._facts()
        self.graphs, _ = dgl.load_graphs(str(self.folder / GRAPHS))
        self.fovs = [fov.model_dump() for fov in facts.fovs]
        self.classes = facts.classes

    def _facts(self) -> Facts:
        path = self.folder / FACTS
        text = bounds.read_text(path, bounds.JSON)
        if (found := parse_json(text, path, dict[str, Any], MEND).get("format")) != FORMAT:
            raise UserError(f"{self.folder}: graph format {found}, but this version reads {FORMAT}")
        return parse_json(text, path, Facts, MEND)

    def regions(self, index: int) -> np.ndarray:
        """Regions (H, W) int32 of a graph: the node of every pixel."""
        path, key = self.folder / REGIONS, str(range(len(self))[index])
        try:
            bounds.check_file(path)
            with np.load(path) as saved:
                return saved[key]
        except UNREADABLE as error:
            raise UserError(f"{path}: damaged ({error}); {MEND}") from None

    def split(self, name: str) -> list[int]:
        """Numbers of the graphs of the split `train` or `test`. Raises UserError for another name."""
        if name not in ("train", "test"):
            raise UserError(f"split {name!r}: choose train or test")
        return [index for index, fov in enumerate(self.fovs) if fov["split"] == name]

    @property
    def num_classes(self) -> int:
        """Classes of the data set, C."""
        return len(self.classes)

    def __getitem__(self, index: int) -> Any:
        graph = self.graphs[index]
        return graph if self._transform is None else self._transform(graph)

    def __len__(self) -> int:
        return len(self.graphs)


class _Source:
    """A recipe or a run, and how to make its graphs. Raises UserError if it is neither, or has no data."""

    def __init__(self, source: Any, overrides: Sequence[str]):
        self.weights: Path | None = None  # of a run
        place = Path(source) if isinstance(source, (str, os.PathLike)) else None
        if place is not None and is_export(place):
            raise UserError(f"{source}: an export does not include its training data; give the run, or a recipe")
        if place is not None and (place / "resolved.yaml").is_file():
            self.recipe = self._of_run(place, overrides)
        else:
            self.recipe = load_recipe(source, overrides)
        if self.recipe.data is None:
            raise UserError(f"{self.recipe.name}: the recipe has no `data` block; see `sccs list datasets`")
        resolved = self.recipe.resolved()
        self.settings: dict[str, Any] = json.loads(json.dumps(portable({key: resolved.get(key) for key in MADE_FROM})))

    def _of_run(self, run: Path, overrides: Sequence[str]) -> Recipe:
        """The run's recipe, with its data."""
        for option in overrides:
            if option.partition("=")[0].partition(".")[0] not in ("data", "device"):
                raise UserError(f"--set {option}: only `data` and `device` of a run can be changed; give the recipe")
        self.weights, recipe, _ = model_folder.read(run, run)
        data = read_resolved(run)[0].get("data")
        return load_recipe({**recipe, "data": data}, overrides)

    def graphs(self) -> tuple[Model, Dataset, Iterator[tuple[str, FOV, RegionGraph]]]:
        """The model, the data set, and an iterator over (split, FOV, RegionGraph) of each FOV."""
        model = Model(self.recipe)
        assert self.recipe.data is not None  # as the constructor has seen
        dataset = load_dataset(self.recipe.data, Path.cwd(), self.recipe.seed, model.min_side)
        if self.weights is not None:
            model_folder.restore(model, self.weights, self.weights.parent)
        elif model.features.supervised:
            check_labels(model, dataset)
        return model, dataset, self._walk(model, dataset)

    def _walk(self, model: Model, dataset: Dataset) -> Iterator[tuple[str, FOV, RegionGraph]]:
        splits = {"train": dataset.train, "test": dataset.test}
        total = sum(volume.count_fovs() for volumes in splits.values() for volume in volumes)
        nodes: list[Nodes] = []
        if self.weights is None:
            fit_features(model, dataset)
            nodes += [pooled(model, fov) for fov in training_fovs(dataset.train)]
            model.graph.fit(nodes)
        known = iter(nodes)  # training FOVs come first
        with bar(total, "graphs", "FOV") as shown:
            for split, volumes in splits.items():
                for fov in training_fovs(volumes):
                    yield split, fov, model.graph.connect(next(known, None) or pooled(model, fov))
                    shown.update(1)


def is_saved(folder: Path) -> bool:
    """Whether there is a folder with saved graphs."""
    return _names(folder) >= FILES


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def main(source: str, out: str, overrides: Sequence[str] = (), *, overwrite: bool = False) -> None:
    """`sccs graphs`: make the graphs of a recipe or a run, and describe them.

    Raises UserError, and leaves nothing behind, if the source cannot be used or `out` exists (with `overwrite`, only if
    it contains anything else).
    """
    with held(out, "sccs graphs"):
        if os.path.lexists(out) and not overwrite:
            raise UserError(f"{out}: already exists; choose another name, or pass --overwrite")
        check_apart(out, {"RUN": [source]}, within=False)
        made = SuperpixelGraphs(out, source, overrides, force_reload=True)
    counts = ", ".join(f"{len(made.split(name))} {name}" for name in ("train", "test"))
    nodes, edges = (sum(numbers) for numbers in zip(*((g.num_nodes(), g.num_edges()) for g in made.graphs)))
    labelled = sum("labels" in graph.ndata for graph in made.graphs)
    say(f"{out}: {len(made)} graphs ({counts}; {labelled} with labels), {nodes} nodes, {edges} edges; see docs/dgl.md")
