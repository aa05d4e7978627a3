"""Data in, labels out, in the order of the paper's Figure 1: features, superpixel graph, embedding, clustering."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from registry.base import UserError
from sccs.data.given import as_array, as_dataset, as_volume
from sccs.data.planes import turn_back
from sccs.data.volumes import Dataset, Volume, voxel_mismatch
from sccs.evaluation.legend import taught_codes
from sccs.inference.labels import Classes, Probabilities, Shown, look_up, segment_slices
from sccs.inference.segment import named_meaning
from sccs.inference.sparse import from_array, named_codes, read_image
from sccs.inference.teach import class_names, take, teach, touched
from sccs.inference.teach import classes as named_classes
from sccs.model.fovs import check_labels
from sccs.model.model import Model
from sccs.model.teacher import Taught
from sccs.recipe import Recipe
from sccs.system.log import RunLog, quiet_log
from sccs.training.fit import count_fovs, make_graphs, train_parts

if TYPE_CHECKING:
    from typing_extensions import Self


class Pipeline(Model):
    """Four parts, one for each role, and what they learned.

    >>> volume = np.random.default_rng(0).normal(size=(2, 96, 100))  # (Z, Y, X)
    >>> recipe = {"extends": "kmeans", "features": "intensity", "clusterer": {"name": "kmeans", "k": 3}}
    >>> model = Pipeline.from_recipe(recipe, device="cpu").fit(volume)
    >>> labels = model.segment(volume)
    >>> labels.shape, labels.dtype, model.k
    ((2, 96, 100), dtype('uint8'), 3)
    """

    def __init__(self, recipe: Recipe):
        super().__init__(recipe)
        self.diagnostics: list[dict[str, Any]] = []  # of each training graph
        self.seconds: dict[str, float] = {}  # spent in `fit`: "graphs" (with features, less if cached), "training"

    def fit(
        self,
        data: Any,
        *,
        voxel_size: Sequence[float] | float | None = None,
        log: RunLog | None = None,
        checkpoints: Path | None = None,
        resume: bool = False,
        preview: Callable[..., Any] | None = None,
    ) -> Self:
        """Train on a Dataset, or on one or several volumes: files, or arrays (Z, Y, X) or (Y, X).

        voxel_size: nm, (z, y, x) or one number, for arrays and for files that do not give it. checkpoints: folder
        for the trainer's state.
        preview(step, pipeline, graph, fov): called with the anchor. Raises UserError if the data cannot be used.
        """
        log = log or quiet_log()
        dataset = data if isinstance(data, Dataset) else as_dataset(data, voxel_size, self.min_side)
        self.edits, self.taught, self.names = None, None, {}
        check_labels(self, dataset)
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
            "masked": any(volume.mask is not None for volume in dataset.train),
        }
        features, graph = self.name_of("features"), self.name_of("graph")
        log.info(f"{count_fovs(dataset)} training FOVs; features: {features}, graph: {graph}")
        start = time.perf_counter()
        made = make_graphs(self, dataset, log)
        self.anchor, self.diagnostics = made.index, made.diagnostics
        self.seconds = {"graphs": time.perf_counter() - start}
        start = time.perf_counter()
        shown = None
        if preview is not None:
            shown = lambda step: preview(step, self, made.graphs[made.index], made.anchor)  # noqa: E731
        train_parts(self, made, log, dataset, checkpoints=checkpoints, resume=resume, preview=shown)
        self.seconds["training"] = time.perf_counter() - start
        return self

    def segment_slices(self, volume: Volume, done: Callable[[], object] = lambda: None) -> Iterator[np.ndarray]:
        """Yields clusters (Y, X) uint8 of every used slice of a volume, as `segment` computes them.

        Calls done() after every FOV.
        """
        return segment_slices(self, volume, done=done)

    def segment(self, volume: Any, voxel_size: Sequence[float] | float | None = None) -> np.ndarray:
        """Clusters (Z, Y, X) uint8 of a file, a Volume or an array (Z, Y, X); (Y, X) of an array (Y, X).

        They equal those of `sccs segment` (sccs/inference/labels.py): FOVs overlap and are stitched; 255, "not
        segmented", fills FOVs of a single grey value.

        Arrays may be NumPy's, or lazy ones such as Dask's and Zarr's, which are read slice by slice.
        voxel_size: nm, (z, y, x) or one number, for arrays and for files that do not give it. Warns, through the
        logger "sccs", if the pixel size differs from that of the training images.
        """
        return self._shown(volume, voxel_size, None)

    def _shown(self, volume: Any, voxel_size: Sequence[float] | float | None, shown: Shown | None) -> np.ndarray:
        self.check_trained()
        whole = as_volume(volume, "volume", voxel_size, self.fov, self.min_side)
        if (note := voxel_mismatch(whole.voxel_size, self.info.get("voxel_size"))) is not None:
            logging.getLogger("sccs").warning(note)
        planes = np.stack(list(segment_slices(self, whole, shown=shown)))
        labels = planes.transpose(*turn_back(range(3), whole.plane), *range(3, planes.ndim))
        return labels[0] if len(getattr(volume, "shape", ())) == 2 else labels

    # --------------------------------------------------------------------------------------------------- a few labels
    def teach(
        self,
        labels: Any,
        image: Any,
        *,
        classes: Mapping[int, str] | None = None,
        voxel_size: Sequence[float] | float | None = None,
        head: str | None = None,
        anew: bool = False,
    ) -> Self:
        """Learn from a few labelled pixels of an image, in addition to earlier labels, unless `anew` forgets them.

        labels: codes in the shape of the image, (Z, Y, X) or (Y, X), an array or a file; 0 and 255 mean unlabelled.
        image: as for `segment`. classes: code -> name, in addition to those of the run's data. head: the clusterer
        that is fitted to the sparse labels (`label_spreading`).

        Afterwards `classes_` lists the known classes, in the order of `predict_proba`. A run folder does not change;
        use `sccs teach` for that. Raises UserError for labels of another shape, a class without a name, labels of a
        single class, no labels, and labels outside the region.
        """
        whole = as_volume(image, "image", voxel_size, self.fov, self.min_side)
        self.check_trained()
        codes = named_codes({} if classes is None else classes, "classes")
        known = class_names(self, codes, anew)
        if isinstance(labels, (str, os.PathLike)):
            points = read_image(labels, known, whole.file_shape)
        else:
            points = from_array(as_array(labels, "labels"), known, "labels", whole.file_shape)
        lesson = touched(self, [(points, [whole])], len(known.names))
        teacher = teach(self, lesson, named_classes(self, known), points.where, head=head, anew=anew)
        teacher.codes |= codes
        take(self, teacher)
        return self

    @property
    def classes_(self) -> list[str]:
        """Class names of a taught model, including those of named clusters. Raises UserError if there are none."""
        return list(self._taught().names)

    def predict(self, volume: Any, voxel_size: Sequence[float] | float | None = None) -> np.ndarray:
        """Class codes uint8 of an image, as `sccs segment --classes` writes them; arguments and shape as for `segment`.

        The teacher assigns them, or without one the names of the clusters; 255 means not segmented. Raises UserError
        for a model with neither teacher nor names.
        """
        if self.taught is None and self.names:
            return look_up(named_meaning(self)[0])[self._shown(volume, voxel_size, None)]
        taught = self._taught()
        of_data = {int(code): name for code, name in self.info.get("classes", {}).items()}
        codes, _ = taught_codes(taught.names, taught.colours, of_data, self.info.get("ignore"), taught.teacher.codes)
        return self._shown(volume, voxel_size, Classes(codes))[..., 0]

    def predict_proba(self, volume: Any, voxel_size: Sequence[float] | float | None = None) -> np.ndarray:
        """Probabilities (Z, Y, X, C) float32 of the classes `classes_`, or (Y, X, C) for an array (Y, X).

        Arguments as for `segment`. They sum to one; all are zero where nothing is segmented. Raises UserError for a
        model that was not taught.
        """
        self._taught()
        return self._shown(volume, voxel_size, Probabilities())

    def _taught(self) -> Taught:
        if self.taught is None:
            raise UserError("the model has not been taught yet: label a few pixels, and call teach(labels, image)")
        return self.taught
