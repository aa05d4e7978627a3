"""What the plug-in does, without a window: train on an array, segment, name, merge, save.

Long jobs are watched, and stopped at will (`sccs.napari.watch`): a job that is stopped changes neither the session nor
any file.
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
from sccs.inference.blocks import overlapping
from sccs.napari.watch import Watch, WatchedLog, WatchedVolume, unwatched, watched_iterations
from sccs.recipe import load_recipe
from sccs.system.files import atomic_path
from sccs.system.lock import BRIEFLY, held

if TYPE_CHECKING:
    from sccs.pipeline import Pipeline


class Session:
    """One image, one model, its clusters and their names.

    run: folder of the trained run, None before there is one. clusters: (Z, Y, X) or (Y, X) uint8, of the image that was
    segmented last, None before. voxel_size: (z, y, x) nm of that image, None where nobody knows.
    """

    def __init__(self) -> None:
        self.run: Path | None = None
        self.clusters: np.ndarray | None = None
        self.voxel_size: tuple[float, ...] | None = None
        self._model: Pipeline | None = None

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

        recipe, overrides, device: as for `sccs run`; the recipe's data are replaced by the image. voxel_size:
        (z, y, x) nm. name: what the image is called in the run. slices: how many evenly spaced ones to learn from,
        None: all. The folder appears when it is complete. Raises UserError for what cannot be trained on.
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
        with suppress(OSError):  # of which `held` tells
            run.parent.mkdir(parents=True, exist_ok=True)
        with held(run, "napari"), atomic_path(run) as scratch:
            prepare_folder(model.recipe, scratch, model.device, resume=False)
            log = WatchedLog(scratch, watch)
            with log, watched_iterations(log):
                model.fit(dataset, log=log)
                model.save(scratch / "model")
                make_products(model, dataset, scratch, log, training_seconds=time.perf_counter() - start)
        self.run, self._model = run, model
        return run

    def open(self, run: str | Path, device: str | None = None) -> None:
        """Take the model of a finished run folder. Raises UserError for what is none."""
        from sccs.pipeline import Pipeline

        self._model = Pipeline.load(run, device)
        self.run = Path(run)

    @property
    def model(self) -> Pipeline:
        """The `sccs.Pipeline` that was trained or opened last. Raises UserError before there is one."""
        if self._model is None:
            raise UserError("there is no model yet: train one, or name the folder of a finished run")
        return self._model

    def segment(self, image: Any, *, voxel_size: Sequence[float] | None = None, watch: Watch = unwatched) -> np.ndarray:
        """Clusters uint8 of an array (Z, Y, X) or (Y, X), of its shape, as `Pipeline.segment`.

        Raises UserError for what is no such image.
        """
        model = self.model
        volume = Volume("image", as_stack(image), voxel_size=voxel_size, fov=model.fov, min_side=model.min_side)
        total = len(volume.z_slices) * len(overlapping(volume.shape[1:], volume.fov))
        steps = itertools.count()

        def done() -> None:
            watch(next(steps), total, "segmenting")

        done()
        clusters = np.empty(volume.shape, np.uint8)
        for z, plane in enumerate(model.segment_slices(volume, done)):
            clusters[z] = plane
        self.clusters = clusters.reshape(image.shape)
        self.voxel_size = volume.voxel_size
        return self.clusters

    # -------------------------------------------------------------------------------------------------------- names
    @property
    def names(self) -> dict[int, dict]:
        """{cluster: {"name": ..., "colour": "#rrggbb"}} of the clusters that a person named in this run."""
        from sccs.evaluation.naming import read_names

        return {c: entry for c, entry in read_names(self.run).items() if c < self.model.k} if self.run else {}

    def name(self, cluster: int, text: str) -> None:
        """Call a cluster `text`, NAME or NAME:#rrggbb, in the run's `classes.yaml`; clusters of one name are merged.

        Raises UserError for an empty name or a cluster that the run does not have.
        """
        from sccs.evaluation.naming import name_clusters, parse_assignments

        if not text.strip():
            raise UserError("the name is empty: write one, such as nucleus")
        names, colours = parse_assignments([f"{cluster}={text}"], self.model.k)
        assert self.run is not None
        with held(self.run, "napari", wait=BRIEFLY):
            name_clusters(self.run, names, colours)

    def cluster_legend(self) -> Legend:
        """Names and colours of the clusters."""
        return cluster_legend(self.names, self.model.k)

    def class_table(self) -> tuple[np.ndarray, Legend]:
        """Table (k,) uint8 from clusters to class codes, as `sccs segment --classes` writes them, and their meaning.

        Raises UserError where no cluster has a name.
        """
        if not self.names:
            raise UserError("no cluster has a name yet: click on a region and give it one")
        info = self.model.info
        known = {int(code): name for code, name in info.get("classes", {}).items()}
        return class_codes(self.names, self.model.k, known, info.get("ignore"), self.model.recipe.evaluation.rest)

    def classes(self) -> tuple[np.ndarray, Legend]:
        """The clusters of the image as class codes, uint8 of their shape. Raises UserError as `class_table`."""
        if self.clusters is None:
            raise UserError("there are no clusters yet: segment an image first")
        table, legend = self.class_table()
        codes = np.full(256, UNNAMED, np.uint8)  # what is not segmented stays so
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
    """Labels (Z, Y, X) or (Y, X) of 0..255 to .tif, .tiff or .ome.zarr, with voxel size (nm), names and colours.

    The file appears when it is complete. Raises UserError for another suffix, for a file that is there already unless
    `overwrite`, and for labels that are none.
    """
    path = Path(path).expanduser()
    if path.exists() and not overwrite:
        raise UserError(f"{path}: exists already: choose another name, or tick `replace`")
    check_output(path, overwrite)
    stack = as_stack(labels)
    if stack.dtype.kind not in "biu" or stack.min() < 0 or stack.max() > 255:
        raise UserError(f"{path}: labels of {stack.dtype} up to {stack.max()}; class and cluster numbers are 0 to 255")

    def planes() -> Iterator[np.ndarray]:
        for z, plane in enumerate(stack):
            watch(z, len(stack), "writing")
            yield np.asarray(plane)

    with suppress(OSError):  # of which `held` tells
        path.parent.mkdir(parents=True, exist_ok=True)
    with held(path, "napari"):
        write_labels(
            path, planes(), stack.shape, voxel_size, names=legend.names, colours=legend.colours, overwrite=overwrite
        )
    return path


def as_stack(image: Any) -> Any:
    """An array (Z, Y, X), as it is, or (Y, X), with one slice. Raises UserError for any other shape."""
    if len(image.shape) not in (2, 3):
        raise UserError(f"the image has shape {tuple(image.shape)}: SCCS takes grey volumes (Z, Y, X), planes (Y, X)")
    return image if len(image.shape) == 3 else image[None]


def file_name(text: str) -> str:
    """A layer's name as the name of a file."""
    name = re.sub(r"\W+", "_", text).strip("_")
    return name.encode()[:LONGEST_NAME].decode(errors="ignore") or "image"


def new_run(base: str | Path, name: str) -> Path:
    """A free path in `base` for a run on the image `name`; nothing is made."""
    plain = Path(base).expanduser() / f"{file_name(name)}-{datetime.now():%Y%m%d-%H%M%S}"
    numbered = (plain.with_name(f"{plain.name}-{i}") for i in range(2, 1000))
    return next(path for path in (plain, *numbered) if not path.exists())
