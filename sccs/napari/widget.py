"""The dock widget: an image layer in, Labels layers out. Its form is `sccs.napari.fields`, its work the session's."""

from __future__ import annotations

import shlex
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import napari
import numpy as np
from napari.utils import notifications

from registry.base import UserError
from sccs.evaluation.legend import Legend
from sccs.napari import job
from sccs.napari.fields import Fields
from sccs.napari.layers import look, voxel_size
from sccs.napari.session import Session, new_run, save
from sccs.napari.watch import Cancelled, Watch

OPACITY = 0.6
Done = Callable[[Any], None]


class SCCS(Fields):
    """Train, segment, name, save; one long job at a time, in a thread, with progress and cancel.

    A click on a region picks its cluster, whichever layer is selected, as long as that layer is not being painted on.
    """

    def __init__(self, napari_viewer: napari.Viewer):  # napari gives itself to an argument of this name
        super().__init__()
        self.viewer, self.session = napari_viewer, Session()
        self.cluster_layer: napari.layers.Labels | None = None
        self.class_layer: napari.layers.Labels | None = None
        self._stop = threading.Event()
        self._worker: Any = None

        self.native.destroyed.connect(self._stop.set)
        self.image.changed.connect(self._show_voxels)
        self.train_button.clicked.connect(self.train)
        self.segment_button.clicked.connect(self.segment)
        self.cancel_button.clicked.connect(self.cancel)
        self.name_button.clicked.connect(self.name_cluster)
        self.name_edit.native.returnPressed.connect(self.name_cluster)
        self.save_button.clicked.connect(self.save)
        self.viewer.layers.selection.events.active.connect(self._follow)
        self.viewer.mouse_drag_callbacks.append(self._pick)
        self.image.reset_choices()
        self._follow()

    # --------------------------------------------------------------------------------------------------- the layers
    def _follow(self, event: Any = None) -> None:
        """The image layer that is selected in the viewer is the one to work on."""
        active = self.viewer.layers.selection.active
        if isinstance(active, napari.layers.Image):
            self.image.reset_choices()
            self.image.value = active
            self._show_voxels()

    def _show_voxels(self) -> None:
        layer = self.image.value
        size = layer and voxel_size(layer.scale, layer.units)
        self.voxels.value = " ".join(f"{length:g}" for length in size) if size else ""

    def _input(self) -> tuple[napari.layers.Image, Any, tuple[float, ...] | None]:
        """The layer, its array (the finest level), and the voxel size that stands in the field."""
        layer = self.image.value
        if layer is None:
            raise UserError("there is no image layer: open an image, or File > Open Sample > SCCS")
        if layer.rgb:
            raise UserError(f"{layer.name}: is a colour image, SCCS takes grey ones: split or convert it")
        size: tuple[float, ...] | None
        try:
            size = tuple(float(length) for length in self.voxels.value.replace(",", " ").split()) or None
        except ValueError:
            size = ()
        if size is not None and (len(size) != 3 or min(size) <= 0):
            raise UserError(f"voxel size {self.voxels.value!r}: write three positive numbers in nm, z y x")
        return layer, layer.data[0] if layer.multiscale else layer.data, size

    def _labels_layer(
        self, old: napari.layers.Labels | None, name: str, data: np.ndarray, legend: Legend, like: dict[str, Any]
    ) -> napari.layers.Labels:
        """`old` with other content, or a new layer where it is gone or of another shape."""
        seen = look(legend)
        if old is None or old not in self.viewer.layers or old.data.shape != data.shape:
            return self.viewer.add_labels(data, name=name, opacity=OPACITY, **like, **seen)
        old.data = data
        for attribute, value in {"name": name, **like, **seen}.items():
            setattr(old, attribute, value)
        return old

    # ----------------------------------------------------------------------------------------------------- the jobs
    def train(self) -> None:
        """Train a new run on the image layer, with the recipe and the fields above."""

        def begin() -> tuple[job.Work, Done]:
            layer, image, size = self._input()
            overrides = [f"clusterer.k={self.clusters.value}", *shlex.split(self.changes.value)]
            run = new_run(str(self.runs.value), layer.name)
            options: dict[str, Any] = {
                "recipe": self.recipe.value,
                "overrides": overrides,
                "voxel_size": size,
                "name": layer.name,
                "slices": self.slices.value,
                "fov": self.fov.value,
            }

            def done(run: Path) -> None:
                self.run.value = str(run)
                self.status.value = f"trained: {run}"

            return lambda watch: self.session.train(image, run, watch=watch, **options), done

        self._start("training", begin)

    def segment(self) -> None:
        """Segment the image layer with the run's model; its clusters become a Labels layer."""

        def begin() -> tuple[job.Work, Done]:
            layer, image, size = self._input()
            run = self.run.value.strip()
            if not run:
                raise UserError("there is no model yet: press Train, or name the folder of a finished run")
            like = {"scale": layer.scale, "translate": layer.translate, "units": layer.units}

            def work(watch: Watch) -> np.ndarray:
                if self.session.run is None or self.session.run != Path(run):
                    self.session.open(run)
                return self.session.segment(image, voxel_size=size, watch=watch)

            def done(clusters: np.ndarray) -> None:
                self.cluster_layer = self._labels_layer(
                    self.cluster_layer, f"clusters of {layer.name}", clusters, self.session.cluster_legend(), like
                )
                self.viewer.layers.selection.active = self.cluster_layer
                self.cluster.max = self.session.model.k - 1
                self.status.value = "segmented; click on a region, then name it"
                self._show_names()

            return work, done

        self._start("segmenting", begin)

    def save(self) -> None:
        """Save the layer of classes or of clusters to the file that the form names."""

        def begin() -> tuple[job.Work, Done]:
            layer = self.class_layer if self.what.value == "classes" else self.cluster_layer
            if layer is None or layer not in self.viewer.layers:
                raise UserError(
                    f"there are no {self.what.value} to save: "
                    + ("name a cluster first" if self.cluster_layer else "segment an image first")
                )
            if not str(self.output.value).strip(". "):
                raise UserError("say where to save: a file that ends in .tif or .ome.zarr")
            options: dict[str, Any] = {
                "voxel_size": self.session.voxel_size,
                "legend": layer.metadata["sccs"]["legend"],
                "overwrite": self.overwrite.value,
            }
            data, output = np.array(layer.data), str(self.output.value)

            def done(path: Path) -> None:
                self.status.value = f"saved: {path}"

            return lambda watch: save(output, data, watch=watch, **options), done

        self._start("saving", begin)

    def cancel(self) -> None:
        """Stop the job before its next field of view, iteration or slice."""
        self._stop.set()
        self.status.value = "cancelling ..."

    @property
    def busy(self) -> bool:
        """Whether a job goes on."""
        return self._worker is not None

    def _start(self, title: str, begin: Callable[[], tuple[job.Work, Done]]) -> None:
        """begin() -> (work(watch), for the thread; done(its result), for this one)."""
        if self.busy:
            return
        try:
            work, done = begin()
        except (UserError, ValueError) as error:
            self._complain(error)
            return

        def say(text: str) -> None:
            self.status.value = text

        self._stop.clear()
        say(f"{title} ...")
        self._enable(False)
        self._worker = job.start(
            title,
            work,
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
            self.status.value = "cancelled; nothing was kept"
        elif isinstance(error, (UserError, OSError)):
            self._complain(error)
        else:
            self.status.value = f"a defect of SCCS: {error}"
            raise error

    def _enable(self, idle: bool) -> None:
        for button in (self.train_button, self.segment_button, self.name_button, self.save_button):
            button.enabled = idle
        self.cancel_button.enabled = not idle

    def _complain(self, error: Exception) -> None:
        text = " ".join(str(error).split())
        self.status.value = text
        notifications.show_warning(text)

    # ------------------------------------------------------------------------------------------------------- naming
    def _pick(self, viewer: Any, event: Any) -> Iterator[None]:
        """A click, not a drag, on the segmented image: its cluster goes into the field, ready for a name."""
        yield
        if event.type == "mouse_move":
            return
        active, layer = viewer.layers.selection.active, self.cluster_layer
        painting = getattr(active, "mode", "pan_zoom") not in ("pan_zoom", "pick")
        if painting or layer is None or layer not in viewer.layers:
            return
        cluster = layer.get_value(
            event.position, view_direction=event.view_direction, dims_displayed=list(event.dims_displayed), world=True
        )
        if cluster is None or cluster >= self.session.model.k:
            return
        self.cluster.value = int(cluster)
        entry = self.session.names.get(int(cluster))
        self.name_edit.value = entry["name"] if entry else ""
        self.name_edit.native.setFocus()
        self.name_edit.native.selectAll()
        self.status.value = f"cluster {cluster}" + (f" is {entry['name']}" if entry else ": type its name")

    def name_cluster(self) -> None:
        """Give the picked cluster the typed name."""
        if self.busy:
            return
        try:
            self.session.name(self.cluster.value, self.name_edit.value)
            self.status.value = f"cluster {self.cluster.value} is {self.session.names[self.cluster.value]['name']}"
            self._show_names()
        except UserError as error:
            self._complain(error)

    def _show_names(self) -> None:
        names, layer = self.session.names, self.cluster_layer
        self.named.value = (
            "<br>".join(
                f"<font color='{entry['colour']}'>&#9632;</font> {cluster} {entry['name']}"
                for cluster, entry in names.items()
            )
            or "none yet"
        )
        if not names or layer is None or layer not in self.viewer.layers:
            return
        like = {"scale": layer.scale, "translate": layer.translate, "units": layer.units}
        self._labels_layer(layer, layer.name, layer.data, self.session.cluster_legend(), like)
        classes, legend = self.session.classes()
        self.class_layer = self._labels_layer(
            self.class_layer, layer.name.replace("clusters", "classes", 1), classes, legend, like
        )
