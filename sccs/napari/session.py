"""The plug-in's work, without a window: train on an array, segment, name, teach, undo, save.

Long jobs report progress and can be cancelled (`sccs.napari.watch`); a cancelled job changes neither the session
nor any file.
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from registry.base import UserError
from sccs.data.schema import LONGEST_NAME
from sccs.data.volumes import Dataset, Volume
from sccs.data.writers import check_output, write_labels
from sccs.evaluation.legend import UNNAMED, Legend, class_codes, cluster_legend
from sccs.inference.labels import Classes, Slice, fields_of, segment_slice
from sccs.inference.segment import taught_meaning
from sccs.inference.teach import take
from sccs.model.folder import digest
from sccs.napari.watch import Watch, WatchedLog, WatchedVolume, unwatched, watched_iterations
from sccs.recipe import load_recipe
from sccs.system.colours import cluster_colours
from sccs.system.files import atomic_path
from sccs.system.lock import BRIEFLY, held

if TYPE_CHECKING:
    from sccs.napari.teaching import Teaching
    from sccs.pipeline import Pipeline


class Session:
    """One image, one model, its clusters and their names.

    run: folder of the trained run, None at first. clusters: (Z, Y, X) or (Y, X) uint8 of the image segmented last,
    None at first. voxel_size: (z, y, x) nm of that image, None if unknown. taught: its class codes and their meaning,
    if the run was taught a few labels; else None.
    """

    def __init__(self) -> None:
        self.run: Path | None = None
        self.clusters: np.ndarray | None = None
        self.voxel_size: tuple[float, ...] | None = None
        self.taught: tuple[np.ndarray, Legend] | None = None
        self._model: Pipeline | None = None
        self._volume: tuple[Any, Any, Volume] | None = None

    def train(
        self,
        image: Any,
        run: str | Path,
        *,
        recipe: str | Path | Mapping = "sccs_plus",
        overrides: Sequence[str] = (),
        voxel_size: Sequence[float] | None = None,
        name: str = "image",
        slices: int | None = None,
        fov: int | str = 560,
        device: str | None = None,
        watch: Watch = unwatched,
    ) -> Path:
        """Train on an array (Z, Y, X) or (Y, X) into the new run folder `run`, which is returned.

        recipe, overrides, device: as for `sccs run`; the image replaces the recipe's data. voxel_size: (z, y, x) nm.
        name: of the image, in the run. slices: how many evenly spaced ones to train on, None: all. The folder appears
        when it is complete. Raises UserError if the image cannot be used for training.
        """
        from sccs.pipeline import Pipeline
        from sccs.products import make_products
        from sccs.run_folder import check_folder, prepare_folder
        from sccs.training.trainer import check_length

        run = Path(run)
        check_folder(run, resume=False, overwrite=False)
        model = Pipeline(replace(load_recipe(recipe, overrides, device=device), data=None, source=None))
        check_length(model.embedder, model.clusterer, model.recipe.train.iterations)
        volume = WatchedVolume(
            file_name(name),
            as_stack(image),
            watch=watch,
            path=name,
            voxel_size=voxel_size,
            fov=fov,
            max_slices=slices,
            min_side=model.min_side,
        )
        dataset = Dataset("napari", [volume], [], {})
        start = time.perf_counter()
        with suppress(OSError):  # `held` reports it
            run.parent.mkdir(parents=True, exist_ok=True)
        with held(run, "napari"), atomic_path(run) as scratch:
            prepare_folder(model.recipe, scratch, model.device, resume=False)
            log = WatchedLog(scratch, watch)
            with log, watched_iterations(log):
                model.fit(dataset, log=log)
                model.save(scratch / "model")
                make_products(model, dataset, scratch, log, training_seconds=time.perf_counter() - start)
        model.weights = digest(run / "model")
        self.run, self._model, self._volume, self.taught = run, model, None, None
        return run

    def open(self, run: str | Path, device: str | None = None) -> None:
        """Load the model of a finished run. Raises UserError if the folder is not one."""
        from sccs.pipeline import Pipeline

        self._model = Pipeline.load(run, device)
        self.run, self.taught = Path(run), None

    @property
    def model(self) -> Pipeline:
        """The `sccs.Pipeline` that was trained or opened last. Raises UserError if there is none."""
        if self._model is None:
            raise UserError("there is no model yet: train one, or enter the folder of a finished run")
        return self._model

    def segment(self, image: Any, *, voxel_size: Sequence[float] | None = None, watch: Watch = unwatched) -> np.ndarray:
        """Clusters uint8 of an array (Z, Y, X) or (Y, X), in its shape, as `Pipeline.segment`.

        Raises UserError for any other image.
        """
        volume, shown = self._standardised(image, voxel_size), self._taught_meaning()
        clusters = np.empty(volume.shape, np.uint8)
        classes = clusters.copy()
        for z, found in enumerate(self._segmented(volume, volume.z_slices, shown, watch)):
            clusters[z] = found.plane(found.labels)
            classes[z] = 0 if shown is None else found.plane()[..., 0]
        self.clusters = clusters.reshape(image.shape)
        self.taught = None if shown is None else (classes.reshape(image.shape), shown[1])
        self.voxel_size = volume.voxel_size
        return self.clusters

    def preview(
        self, image: Any, z: int, *, voxel_size: Sequence[float] | None = None, watch: Watch = unwatched
    ) -> np.ndarray:
        """Clusters (Y, X) uint8 of slice z alone, as `segment` computes them; nothing is stored."""
        volume = self._standardised(image, voxel_size)
        (found,) = self._segmented(volume, [z], None, watch)
        return found.plane()

    def segment_into(
        self,
        path: str | Path,
        image: Any,
        *,
        voxel_size: Sequence[float] | None = None,
        translation: Sequence[float] = (0.0, 0.0, 0.0),
        watch: Watch = unwatched,
    ) -> tuple[list[Any], Legend]:
        """`segment` an array (Z, Y, X) into an OME-Zarr, with a few slices in memory at a time: class codes if the run
        was taught, else clusters.

        Returns the levels of its pyramid, lazy Zarr arrays, finest first, and the meaning of its labels. An existing
        file is replaced when the new one is complete. Raises UserError as `segment` does.
        """
        from sccs.data.label_store import open_level, write_store
        from sccs.data.pyramid import pyramid

        volume, shown = self._standardised(image, voxel_size), self._taught_meaning()
        kind, legend = ("clusters", self.cluster_legend()) if shown is None else ("classes", shown[1])
        found = self._segmented(volume, volume.z_slices, shown, watch)
        planes = (each.plane().reshape(each.fields.sides) for each in found)
        store = {"names": legend.names, "colours": legend.colours, "translation": translation}
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with held(path, "napari"):
            write_store(path, planes, volume.shape, kind, voxel_size=voxel_size, overwrite=True, **store)
        levels = range(len(pyramid(volume.shape, voxel_size)))
        return [open_level(path, kind, level) for level in levels], legend

    def _segmented(
        self, volume: Volume, slices: Sequence[int], shown: tuple[Classes, Legend] | None, watch: Watch
    ) -> Iterator[Slice]:
        fields = fields_of(self.model, volume)
        total, steps = len(slices) * len(fields), itertools.count()

        def done() -> None:
            watch(next(steps), total, "segmenting")

        done()
        for z in slices:
            yield segment_slice(self.model, volume, z, fields, shown=shown and shown[0], done=done)

    def _taught_meaning(self) -> tuple[Classes, Legend] | None:
        return None if self.model.taught is None else taught_meaning(self.model)

    def _standardised(self, image: Any, voxel_size: Sequence[float] | None) -> Volume:
        """An array as a Volume; the last one is cached, as computing mean and deviation takes time."""
        model, size = self.model, voxel_size and tuple(voxel_size)
        known = self._volume
        if known is None or known[0] is not image or known[1] != (size, model.fov, model.min_side):
            volume = Volume("image", as_stack(image), voxel_size=size, fov=model.fov, min_side=model.min_side)
            self._volume = known = image, (size, model.fov, model.min_side), volume
        return known[2]

    # ---------------------------------------------------------------------------------------------------- user edits
    def teaching(self, image: Any, name: str, *, voxel_size: Sequence[float] | None = None) -> Teaching:
        """A Teaching of the model by strokes on an image, an array (Z, Y, X) or (Y, X); `name`: of the image, in files.

        Earlier strokes of this run are restored, but only teach after `Teaching.open`.
        """
        from sccs.napari.teaching import Teaching

        model, volume = self.model, self._standardised(image, voxel_size)
        assert self.run is not None
        return Teaching(self.run, model, volume, file_name(name))

    def undo(self) -> str:
        """Undo the run's last step, reload the model, and return the step's command. Raises UserError if there is
        no step."""
        from sccs.steps import undo

        assert self.model is not None and self.run is not None  # otherwise `model` raises
        step = undo(self.run, device=self.model.device)
        self.open(self.run, self.model.device)
        return step.command

    def gallery(self, count: int = 3) -> dict[int, np.ndarray]:
        """Pictures (H, W, 3) uint8 of the clusters in the run's slices, each with `count` typical places side by side,
        as in the report."""
        from sccs.report.crops import cluster_crops
        from sccs.report.figures import read_run
        from sccs.report.page_pictures import shown_views

        if self.run is None:
            return {}
        views = shown_views(read_run(self.run).views)
        found = {c: cluster_crops(views, c, colour, count) for c, colour in enumerate(cluster_colours(self.model.k))}
        return {c: np.concatenate([crop.picture for crop in crops], 1) for c, crops in found.items() if crops}

    # -------------------------------------------------------------------------------------------------------- names
    @property
    def names(self) -> dict[int, dict]:
        """{cluster: {"name": ..., "colour": "#rrggbb"}} of the clusters named in this run."""
        from sccs.evaluation.naming import read_names

        return {c: entry for c, entry in read_names(self.run).items() if c < self.model.k} if self.run else {}

    def name(self, cluster: int, text: str) -> None:
        """Name a cluster `text`, NAME or NAME:#rrggbb, in the run's `classes.yaml`; clusters of one name are merged.

        Raises UserError for an empty name or a missing cluster.
        """
        from sccs.evaluation.naming import name_clusters, parse_assignments

        if not text.strip():
            raise UserError("the name is empty: enter one, such as nucleus")
        names, colours = parse_assignments([f"{cluster}={text}"], self.model.k)
        assert self.run is not None
        if cluster in self.model.gone:
            raise UserError(f"cluster {cluster} was merged into another: name that one")
        with held(self.run, "napari", wait=BRIEFLY):
            self.model.names = name_clusters(self.run, names, colours)
        if self.model.taught is not None:
            take(self.model, self.model.taught.teacher)

    def cluster_legend(self) -> Legend:
        """Names and colours of the clusters."""
        return cluster_legend(self.names, self.model.k, self.model.gone)

    def class_table(self) -> tuple[np.ndarray, Legend]:
        """Table (k,) uint8 from clusters to class codes, as `sccs segment --classes` writes them, and their meaning.

        Raises UserError if no cluster has a name.
        """
        if not self.names:
            raise UserError("no cluster has a name yet: click on a region and give it one")
        info = self.model.info
        known = {int(code): name for code, name in info.get("classes", {}).items()}
        return class_codes(self.names, self.model.k, known, info.get("ignore"), self.model.recipe.evaluation.rest)

    def classes(self) -> tuple[np.ndarray, Legend]:
        """The image as class codes, uint8 in its shape: by the teacher, else by the names of clusters. Raises
        UserError as `class_table` does."""
        if self.clusters is None:
            raise UserError("there are no clusters yet: segment an image first")
        if self.taught is not None:
            return self.taught
        table, legend = self.class_table()
        codes = np.full(256, UNNAMED, np.uint8)  # unsegmented pixels stay so
        codes[: len(table)] = table
        return codes[self.clusters], legend


def save(
    path: str | Path,
    labels: np.ndarray,
    *,
    voxel_size: Sequence[float] | None,
    legend: Legend,
    overwrite: bool = False,
    watch: Watch = unwatched,
) -> Path:
    """Save labels (Z, Y, X) or (Y, X) of 0..255 to .tif, .tiff or .ome.zarr, with voxel size (nm), names and colours.

    The file appears when it is complete. Raises UserError for another suffix, for an existing file unless
    `overwrite`, and for invalid labels.
    """
    path = check_output(Path(path).expanduser(), overwrite, "tick `replace` (from Python: overwrite=True)")
    stack = as_stack(labels)
    if stack.dtype.kind not in "biu" or stack.min() < 0 or stack.max() > 255:
        raise UserError(f"{path}: labels are {stack.dtype} up to {stack.max()}, but must be integers from 0 to 255")

    def planes() -> Iterator[np.ndarray]:
        for z, plane in enumerate(stack):
            watch(z, len(stack), "writing")
            yield np.asarray(plane)

    with suppress(OSError):  # `held` reports it
        path.parent.mkdir(parents=True, exist_ok=True)
    with held(path, "napari"):
        write_labels(
            path, planes(), stack.shape, voxel_size, names=legend.names, colours=legend.colours, overwrite=overwrite
        )
    return path


def as_stack(image: Any) -> Any:
    """An array (Z, Y, X) unchanged, or (Y, X) as a single slice. Raises UserError for any other shape."""
    if len(image.shape) not in (2, 3):
        raise UserError(f"the image has shape {tuple(image.shape)}: SCCS needs a grey volume (Z, Y, X) or plane (Y, X)")
    return image if len(image.shape) == 3 else image[None]


def file_name(text: str) -> str:
    """A layer's name as a file name."""
    name = re.sub(r"\W+", "_", text).strip("_")
    return name.encode()[:LONGEST_NAME].decode(errors="ignore") or "image"


def new_run(base: str | Path, name: str) -> Path:
    """A free path in `base` for a run on the image `name`; nothing is created."""
    plain = Path(base).expanduser() / f"{file_name(name)}-{datetime.now():%Y%m%d-%H%M%S}"
    numbered = (plain.with_name(f"{plain.name}-{i}") for i in range(2, 1000))
    return next(path for path in (plain, *numbered) if not path.exists())
