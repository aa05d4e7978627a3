"""The dock widget: an image layer in, Labels layers out. Form: `sccs.napari.fields`; work: `sccs.napari.session`."""

from __future__ import annotations

import shlex
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import napari
import numpy as np
from napari.utils import notifications

from registry.base import UserError
from sccs.evaluation.legend import Legend
from sccs.napari import job
from sccs.napari.fields import Fields
from sccs.napari.layers import Given, given, look, voxel_size
from sccs.napari.objects import Objects
from sccs.napari.painting import Painting
from sccs.napari.session import Session, file_name, new_run, save
from sccs.napari.tables import Row
from sccs.napari.watch import Cancelled, Watch
from sccs.recipe import load_recipe

OPACITY = 0.6
IN_MEMORY = 1 << 30  # voxels; labels of larger volumes go into a file
Done = Callable[[Any], None]


class SCCS(Fields):
    """Train, segment, name, paint, save; one long job at a time, in a thread, with progress and cancel.

    A click on a region picks its cluster, whichever layer is selected, unless that layer is being painted on.
    """

    def __init__(self, napari_viewer: napari.Viewer):  # napari passes itself to an argument of this name
        super().__init__()
        self.viewer, self.session = napari_viewer, Session()
        self.lock = threading.Lock()  # of the session, for all threads
        self.cluster_layer: napari.layers.Labels | None = None
        self.class_layer: napari.layers.Labels | None = None
        self.stored_layer: napari.layers.Labels | None = None  # in a file, read on demand
        self.preview_layer: napari.layers.Labels | None = None
        self.gallery: dict[int, np.ndarray] | None = None
        self._stop = threading.Event()
        self._worker: Any = None
        self._given: tuple[Any, Given] | None = None

        self.native.destroyed.connect(self._stop.set)
        self.image.changed.connect(self._show_image)
        self.recipe.changed.connect(self._take_k)
        self.view_button.clicked.connect(self.region_from_view)
        self.train_button.clicked.connect(self.train)
        self.preview_button.clicked.connect(self.preview)
        self.segment_button.clicked.connect(self.segment)
        self.cancel_button.clicked.connect(self.cancel)
        self.name_button.clicked.connect(self.name_cluster)
        self.name_edit.native.returnPressed.connect(self.name_cluster)
        self.cluster_table.renamed.connect(self.name_in_table)
        self.cluster_table.picked.connect(self._take_cluster)
        self.save_button.clicked.connect(self.save)
        self.viewer.layers.selection.events.active.connect(self._follow)
        self.viewer.mouse_drag_callbacks.append(self._pick)
        self.painting = Painting(self)
        self.objects = Objects(self)
        self.image.reset_choices()
        self._follow()

    # --------------------------------------------------------------------------------------------------- the layers
    def _follow(self, event: Any = None) -> None:
        """Work on the image layer selected in the viewer."""
        active = self.viewer.layers.selection.active
        if isinstance(active, napari.layers.Image):
            self.image.reset_choices()
            self.image.value = active
            self._show_image()

    def _show_image(self) -> None:
        layer = self.image.value
        size = layer and voxel_size(layer.scale, layer.units)
        self.voxels.value = " ".join(f"{length:g}" for length in size) if size else ""
        levels = len(layer.data) if layer is not None and layer.multiscale else 1
        if len(self.level.choices) != levels:
            self.level.choices = tuple(range(levels))
        self.level.enabled = levels > 1

    def given(self) -> Given:
        """The form's choice of what to work on. Raises UserError."""
        layer = self.image.value
        if layer is None:
            raise UserError("there is no image layer: open an image, or choose File > Open Sample > SCCS")
        size: tuple[float, ...] | None
        try:
            size = tuple(float(length) for length in self.voxels.value.replace(",", " ").split()) or None
        except ValueError:
            size = ()
        if size is not None and (len(size) != 3 or min(size) <= 0):
            raise UserError(f"voxel size {self.voxels.value!r}: enter three positive numbers in nm, z y x")
        about = layer, layer.data, layer.name, self.level.value, self.region.value, size
        if self._given is None or any(a is not b and a != b for a, b in zip(self._given[0], about)):
            self._given = about, given(layer, self.level.value, self.region.value, size)
        return self._given[1]

    def region_from_view(self) -> None:
        """Make the rows and columns on the screen the region."""
        layer = self.image.value
        if layer is None:
            return
        finest = layer.data[0] if layer.multiscale else layer.data
        shown, level = (
            (finest, finest) if not layer.multiscale else (layer.data[layer.data_level], layer.data[self.level.value])
        )
        spans = []
        for axis in (-2, -1):
            ratio = level.shape[axis] / shown.shape[axis]
            low, high = (float(corner) * ratio for corner in layer.corner_pixels[:, axis])
            spans.append(f"{max(0, int(low))}:{min(level.shape[axis], int(high) + 1)}")
        self.region.value = ",".join([":", *spans])

    def labels_layer(
        self, old: napari.layers.Labels | None, name: str, data: Any, legend: Legend, like: dict[str, Any]
    ) -> napari.layers.Labels:
        """`old` with new content, or a new layer if it is gone or has another shape. data: a list of arrays is a
        pyramid."""
        fits = old is not None and old in self.viewer.layers and not old.multiscale and not isinstance(data, list)
        if old is None or not fits or old.data.shape != data.shape or old.metadata["sccs"].get("edited"):
            self._leave(old)
            layer = self.viewer.add_labels(data, name=name, opacity=OPACITY, **like, **look(legend))
            layer.events.paint.connect(lambda: layer.metadata["sccs"].update(edited=True))
            return layer
        old.data, old.name = data, name
        for attribute, value in like.items():
            setattr(old, attribute, value)
        self.dress(old, legend)
        return old

    def _leave(self, layer: napari.layers.Labels | None) -> None:
        """Remove one of our layers; if the user edited it, keep it under another name."""
        if layer is None or layer not in self.viewer.layers:
            return
        if layer.metadata["sccs"].get("edited"):
            layer.name, layer.visible = f"{layer.name} (edited)", False
        else:
            self.viewer.layers.remove(layer)

    def dress(self, layer: napari.layers.Labels, legend: Legend) -> None:
        """Give a layer the names and colours of a legend, if they differ."""
        about = layer.metadata["sccs"]
        if about["legend"] != legend:
            chosen = layer.selected_label
            for attribute, value in look(legend).items():
                setattr(layer, attribute, value)
            layer.metadata = {**layer.metadata, "sccs": {**about, "legend": legend}}
            layer.selected_label = chosen

    def shown_slice(self, given: Given) -> int:
        """The current slice in the viewer, counted in the region."""
        if given.array.ndim == 2:
            return 0
        z = (self.viewer.dims.point[-3] - given.like["translate"][-3]) / given.like["scale"][-3]
        return min(max(round(float(z)), 0), given.array.shape[0] - 1)

    def go_to(self, layer: napari.layers.Labels, place: Sequence[float]) -> None:
        """Centre the view on a voxel (z, y, x) of a layer."""
        world = layer.data_to_world(place[-layer.ndim :])
        for axis, value in zip(range(self.viewer.dims.ndim)[-layer.ndim :], world):
            self.viewer.dims.set_point(axis, value)
        self.viewer.camera.center = tuple(world[-3:]) if layer.ndim > 2 else (0, *world)

    # ----------------------------------------------------------------------------------------------------- the jobs
    def chosen_run(self) -> str:
        """The run in the form. Raises UserError if it is empty."""
        run = self.run.value.strip()
        if not run:
            raise UserError("there is no model yet: press Train, or enter the folder of a finished run")
        return run

    def open(self, run: str) -> None:
        """Load the run's model, unless already loaded; in a job's thread."""
        if self.session.run is None or self.session.run != Path(run):
            self.session.open(run)
            self.gallery = None
        if self.gallery is None:
            self.gallery = {}
            with suppress(UserError):  # a run without pictures has none
                self.gallery = self.session.gallery()

    def _take_k(self, recipe: str) -> None:
        """Suggest the number of clusters of the recipe that was chosen."""
        clusterer = load_recipe(recipe).clusterer
        assert clusterer  # as every recipe of RECIPES
        self.clusters.value = clusterer.kwargs["k"]

    def train(self) -> None:
        """Train a new run on the image layer, with the form's recipe and settings."""

        def begin() -> tuple[job.Work, Done]:
            given = self.given()
            overrides = [f"clusterer.k={self.clusters.value}", *shlex.split(self.changes.value)]
            run = new_run(str(self.runs.value), given.layer.name)
            options: dict[str, Any] = {
                "recipe": self.recipe.value,
                "overrides": overrides,
                "voxel_size": given.voxel_size,
                "name": given.layer.name,
                "slices": self.slices.value,
                "fov": self.fov.value,
            }

            def work(watch: Watch) -> Path:
                made = self.session.train(given.array, run, watch=watch, **options)
                self.gallery = None
                self.open(str(made))
                return made

            def done(run: Path) -> None:
                self.run.value = str(run)
                self.painting.stop()
                self.show_clusters()
                self.status.value = f"trained: {run}"

            return work, done

        self.start("training", begin)

    def preview(self) -> None:
        """Segment only the current slice with the run's model."""

        def begin() -> tuple[job.Work, Done]:
            given, run = self.given(), self.chosen_run()
            z = self.shown_slice(given)
            like = dict(given.like)
            if given.array.ndim == 3:
                like["translate"] = like["translate"] + like["scale"] * (z, 0, 0)

            def work(watch: Watch) -> np.ndarray:
                self.open(run)
                return self.session.preview(given.array, z, voxel_size=given.voxel_size, watch=watch)

            def done(plane: np.ndarray) -> None:
                data = plane.reshape((1,) * (given.array.ndim - 2) + plane.shape)
                legend = self.session.cluster_legend()
                name = f"preview of {given.layer.name}"
                self.preview_layer = self.labels_layer(self.preview_layer, name, data, legend, like)
                self.show_only(self.preview_layer)
                self._show_table()
                self.status.value = f"segmented slice {z} only; click on a region, then name it"

            return work, done

        self.start("previewing", begin)

    def segment(self) -> None:
        """Segment the image layer with the run's model into a Labels layer of clusters, and one of classes if the run
        was taught. New strokes are taught first."""

        def begin() -> tuple[job.Work, Done]:
            given, run = self.given(), self.chosen_run()
            large = given.array.ndim == 3 and int(np.prod(given.array.shape)) > IN_MEMORY

            def work(watch: Watch) -> Any:
                self.open(run)
                self.painting.take_in()
                if not large:
                    return self.session.segment(given.array, voxel_size=given.voxel_size, watch=watch)
                path = Path(run) / "segmentation" / f"{file_name(given.name)}.ome.zarr"
                return self.session.segment_into(path, given.array, voxel_size=given.voxel_size, watch=watch)

            def done(found: Any) -> None:
                if large:
                    self._show_stored(given, *found)
                    return
                self._show_clusters_of(given, found)
                self.status.value = "segmented; click on a region, then name it"
                if self.session.taught is not None:
                    self.status.value = "segmented into the classes that you taught"

            return work, done

        self.start("segmenting", begin)

    def _show_clusters_of(self, given: Given, clusters: np.ndarray) -> None:
        name, legend = f"clusters of {given.layer.name}", self.session.cluster_legend()
        self.cluster_layer = self.labels_layer(self.cluster_layer, name, clusters, legend, given.like)
        self.show_clusters()
        self.show_only(*(self.cluster_layer, self.class_layer) if self.session.taught is None else [self.class_layer])
        if self.painting.going:
            self.painting.on_top()
        else:
            self.viewer.layers.selection.active = self.cluster_layer

    def show_only(self, *shown: napari.layers.Labels | None) -> None:
        """Hide all our other layers that cover the image."""
        ours = self.preview_layer, self.cluster_layer, self.class_layer, self.stored_layer, self.painting.answer
        for layer in ours:
            if layer is not None:
                layer.visible = layer in shown

    def _show_stored(self, given: Given, levels: list[Any], legend: Legend) -> None:
        """Show a pyramid in a file, read on demand."""
        import dask.array  # napari brings it

        data = [dask.array.from_zarr(level) for level in levels]
        taught = self.session.model.taught is not None
        name = f"{'classes' if taught else 'clusters'} of {given.layer.name} (on disk)"
        self._leave(self.stored_layer)
        self.stored_layer = self.labels_layer(None, name, data if len(data) > 1 else data[0], legend, given.like)
        self.show_only(self.stored_layer)
        self._show_table()
        self.status.value = f"labels written to {self.session.run}/segmentation"

    def save(self) -> None:
        """Save the layer of classes or clusters to the file in the form."""

        def begin() -> tuple[job.Work, Done]:
            layer = self.class_layer if self.what.value == "classes" else self.cluster_layer
            if layer is None or layer not in self.viewer.layers:
                raise UserError(
                    f"there are no {self.what.value} to save: "
                    + ("name a cluster first" if self.cluster_layer else "segment an image first")
                )
            if not str(self.output.value).strip(". "):
                raise UserError("enter a file to save to, with the suffix .tif or .ome.zarr")
            options: dict[str, Any] = {
                "voxel_size": self.session.voxel_size,
                "legend": layer.metadata["sccs"]["legend"],
                "overwrite": self.overwrite.value,
            }
            data, output = layer.data[0] if layer.multiscale else layer.data, str(self.output.value)
            if isinstance(data, np.ndarray):
                data = data.copy()

            def done(path: Path) -> None:
                self.status.value = f"saved: {path}"

            return lambda watch: save(output, data, watch=watch, **options), done

        self.start("saving", begin)

    def cancel(self) -> None:
        """Stop the job before its next field of view, iteration or slice."""
        self._stop.set()
        self.status.value = "cancelling ..."

    @property
    def busy(self) -> bool:
        """Whether a job is running."""
        return self._worker is not None

    def start(self, title: str, begin: Callable[[], tuple[job.Work, Done]]) -> None:
        """Start a job: begin() returns work(watch) for the job's thread and done(result) for this one."""
        if self.busy:
            return
        try:
            work, done = begin()
        except (UserError, ValueError) as error:
            self.complain(error)
            return

        def say(text: str) -> None:
            self.status.value = text

        def alone(watch: Watch) -> Any:
            with self.lock:
                return work(watch)

        self._stop.clear()
        say(f"{title} ...")
        self._enable(False)
        self._worker = job.start(
            title,
            alone,
            stopped=self._stop.is_set,
            say=say,
            ended=self._rest,
            finish=lambda result, error: self._finish(done, result, error),
        )

    def _rest(self) -> None:
        self._worker = None
        self._enable(True)

    def _finish(self, done: Done, result: Any, error: Exception | None) -> None:
        if error is None:
            done(result)
        elif isinstance(error, Cancelled):
            self.status.value = "cancelled; nothing has changed"
        elif isinstance(error, (UserError, OSError)):
            self.complain(error)
        else:
            self.status.value = f"a bug in SCCS: {error}"
            raise error
        self.painting.follow()  # strokes made meanwhile

    def _enable(self, idle: bool) -> None:
        for button in (
            *(self.train_button, self.preview_button, self.segment_button, self.name_button, self.save_button),
            *(self.find_button, self.delete_button, self.merge_button, self.objects_button),
            *(self.paint_button, self.class_button, self.suggest_button, self.undo_button, self.keep_button),
        ):
            button.enabled = idle
        for table in (self.cluster_table, self.class_table):
            table.setEnabled(idle)
        self.cancel_button.enabled = not idle

    def complain(self, error: Exception) -> None:
        text = " ".join(str(error).split())
        self.status.value = text
        notifications.show_warning(text)

    # ------------------------------------------------------------------------------------------------------- naming
    def _pick(self, viewer: Any, event: Any) -> Iterator[None]:
        """On a click (not a drag) on the segmented image, put its cluster into the field, ready for a name."""
        yield
        if event.type == "mouse_move":
            return
        active = viewer.layers.selection.active
        several = (self.preview_layer, self.cluster_layer)
        shown = (each for each in several if each is not None and each in viewer.layers and each.visible)
        layer = next(shown, self.cluster_layer)
        painting = getattr(active, "mode", "pan_zoom") not in ("pan_zoom", "pick")
        if painting or layer is None or layer not in viewer.layers:
            return
        cluster = layer.get_value(
            event.position, view_direction=event.view_direction, dims_displayed=list(event.dims_displayed), world=True
        )
        if cluster is None or cluster >= self.session.model.k:
            return
        self._take_cluster(int(cluster))

    def _take_cluster(self, cluster: int) -> None:
        """Put the cluster into the fields, ready for a name."""
        self.cluster.value = cluster
        self.cluster_table.select(cluster)
        entry = self.session.names.get(cluster)
        self.name_edit.value = entry["name"] if entry else ""
        self.name_edit.native.setFocus()
        self.name_edit.native.selectAll()
        self.status.value = f"cluster {cluster}" + (f" is {entry['name']}" if entry else ": type its name")

    def name_cluster(self) -> None:
        """Give the typed name to the picked cluster."""
        self._name(self.cluster.value, self.name_edit.value)

    def name_in_table(self, cluster: int, text: str) -> None:
        """Give a cluster the name typed into the table."""
        self.cluster.value = cluster
        self._name(cluster, text)

    def _name(self, cluster: int, text: str) -> None:
        if self.busy:
            return
        try:
            with self.lock:
                self.session.name(cluster, text)
            self.painting.named()
            self.status.value = f"cluster {cluster} is {self.session.names[cluster]['name']}"
        except UserError as error:
            self.complain(error)
        self.show_clusters()

    def show_clusters(self) -> None:
        """Update the table of clusters, and the layers according to names and teacher."""
        if self.session.run is None:
            return
        self._show_table()
        layer, clusters, legend = self.cluster_layer, self.session.clusters, self.session.cluster_legend()
        for each in (layer, self.preview_layer):
            if each is not None and each in self.viewer.layers:
                self.dress(each, legend)
        if layer is None or layer not in self.viewer.layers or layer.multiscale:
            return
        if clusters is None or layer.data.shape != clusters.shape:
            return
        if not self.session.names and self.session.taught is None:
            self._leave(self.class_layer)
            self.class_layer = None
            return
        classes, legend = self.session.classes()
        like = {"scale": layer.scale, "translate": layer.translate, "units": layer.units}
        name = layer.name.replace("clusters", "classes", 1)
        self.class_layer = self.labels_layer(
            self.class_layer, name, classes, self.painting.without_hidden(legend), like
        )

    def _show_table(self) -> None:
        names, legend = self.session.names, self.session.cluster_legend()
        self.cluster.max = self.session.model.k - 1
        self.cluster_table.fill(
            Row(
                cluster,
                "#{:02x}{:02x}{:02x}".format(*legend.colours[cluster]),
                names[cluster]["name"] if cluster in names else "",
                (self.gallery or {}).get(cluster),
            )
            for cluster in legend.colours
        )
