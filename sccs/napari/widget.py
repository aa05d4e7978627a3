"""The dock widget: an image layer in, Labels layers out. What it does is in `sccs.napari.session`."""

from __future__ import annotations

import shlex
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import napari
import numpy as np
from magicgui import widgets
from napari.qt.threading import create_worker
from napari.utils import notifications, progress

from registry.base import UserError
from sccs.napari.layers import look, voxel_size
from sccs.napari.session import Cancelled, Session, Watch, new_run, save

RECIPES = ("sccs_plus", "sccs", "filters_kmeans")
PAUSE = 0.1  # s between two messages of progress
OPACITY = 0.6


class SCCS(widgets.Container):
    """Train, segment, name, save; one long job at a time, in a thread, with progress and cancel.

    A click on a region picks its cluster, whichever layer is selected, as long as that layer is not being painted on.
    """

    def __init__(self, napari_viewer: napari.Viewer):  # napari gives itself to an argument of this name
        super().__init__(labels=True)
        self.viewer, self.session = napari_viewer, Session()
        self.cluster_layer: napari.layers.Labels | None = None
        self.class_layer: napari.layers.Labels | None = None
        self._stop = threading.Event()
        self._worker: Any = None

        self.image = widgets.create_widget(annotation=napari.layers.Image, label="image")
        self.voxels = widgets.LineEdit(label="voxel size", tooltip="z y x in nm; empty: unknown")
        self.recipe = widgets.ComboBox(
            label="recipe",
            choices=RECIPES,
            value=RECIPES[0],
            tooltip="sccs_plus: most accurate; sccs: the paper's; filters_kmeans: quick",
        )
        self.clusters = widgets.SpinBox(label="clusters", value=8, min=2, max=255)
        self.slices = widgets.SpinBox(
            label="learn from", value=4, min=1, max=10_000, tooltip="slices, evenly spaced; they must fit into memory"
        )
        self.fov = widgets.SpinBox(label="field of view", value=560, min=16, max=100_000, tooltip="px")
        self.changes = widgets.LineEdit(label="changes", tooltip="of the recipe, as for sccs run --set: a.b=c d.e=f")
        self.runs = widgets.FileEdit(label="runs go to", mode="d", value=Path("runs").absolute() / "napari")
        self.train_button = widgets.PushButton(text="Train")
        self.run = widgets.LineEdit(label="run", tooltip="folder of a finished run; Train fills it in")
        self.segment_button = widgets.PushButton(text="Segment")
        self.cancel_button = widgets.PushButton(text="Cancel", enabled=False)
        self.cluster = widgets.SpinBox(label="cluster", min=0, max=254, tooltip="or click on a region")
        self.name_edit = widgets.LineEdit(label="name", tooltip="NAME or NAME:#rrggbb; clusters of one name are merged")
        self.name_button = widgets.PushButton(text="Name")
        self.named = widgets.Label(label="named", value="none yet")
        self.what = widgets.ComboBox(label="save", choices=("classes", "clusters"))
        self.output = widgets.FileEdit(label="as", mode="w", filter="*.tif *.tiff *.ome.zarr")
        self.overwrite = widgets.CheckBox(text="replace")
        self.save_button = widgets.PushButton(text="Save")
        self.status = widgets.Label(value="open an image, or File > Open Sample > SCCS")
        self.extend(
            [
                self.image,
                self.voxels,
                self.recipe,
                self.clusters,
                self.slices,
                self.fov,
                self.changes,
                self.runs,
                self.train_button,
                self.run,
                self.segment_button,
                self.cluster,
                self.name_edit,
                self.name_button,
                self.named,
                self.what,
                self.output,
                self.overwrite,
                self.save_button,
                self.cancel_button,
                self.status,
            ]
        )

        self.status.native.setWordWrap(True)
        self.status.native.setMinimumSize(200, 60)
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
        try:
            size = tuple(float(length) for length in self.voxels.value.replace(",", " ").split()) or None
        except ValueError:
            size = ()
        if size is not None and (len(size) != 3 or min(size) <= 0):
            raise UserError(f"voxel size {self.voxels.value!r}: write three positive numbers in nm, z y x")
        return layer, layer.data[0] if layer.multiscale else layer.data, size

    def _labels_layer(self, old: napari.layers.Labels | None, name: str, data: np.ndarray, legend, like: dict):
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
        def begin() -> tuple[Callable[[Watch], Any], Callable[[Any], None]]:
            layer, image, size = self._input()
            overrides = [f"clusterer.k={self.clusters.value}", *shlex.split(self.changes.value)]
            run = new_run(self.runs.value, layer.name)
            options = {
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
        def begin():
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
        def begin():
            layer = self.class_layer if self.what.value == "classes" else self.cluster_layer
            if layer is None or layer not in self.viewer.layers:
                raise UserError(
                    f"there are no {self.what.value} to save: "
                    + ("name a cluster first" if self.cluster_layer else "segment an image first")
                )
            if not str(self.output.value).strip(". "):
                raise UserError("say where to save: a file that ends in .tif or .ome.zarr")
            options = {
                "voxel_size": self.session.voxel_size,
                "legend": layer.metadata["sccs"]["legend"],
                "overwrite": self.overwrite.value,
            }
            data = np.array(layer.data)

            def done(path: Path) -> None:
                self.status.value = f"saved: {path}"

            return lambda watch: save(self.output.value, data, watch=watch, **options), done

        self._start("saving", begin)

    def cancel(self) -> None:
        """Stop the job before its next field of view, iteration or slice."""
        self._stop.set()
        self.status.value = "cancelling ..."

    @property
    def busy(self) -> bool:
        return self._worker is not None

    def _start(self, title: str, begin: Callable[[], tuple[Callable[[Watch], Any], Callable[[Any], None]]]) -> None:
        """begin() -> (work(watch), for the thread; done(its result), for this one)."""
        if self.busy:
            return
        try:
            work, done = begin()
        except (UserError, ValueError) as error:
            self._complain(error)
            return
        self._stop.clear()
        bar = progress(total=0, desc=title)
        self.status.value = f"{title} ..."
        said = 0.0

        def watch(count: int, total: int, what: str) -> None:
            nonlocal said
            if self._stop.is_set() or worker.abort_requested:
                raise Cancelled
            if what and (time.monotonic() - said > PAUSE or count == total):
                said = time.monotonic()
                worker.yielded.emit((count, total, what))

        def job() -> Iterator[tuple]:  # a generator only because that is what has the signal `yielded`
            yield 0, 0, title
            try:
                return work(watch), None
            except Exception as error:  # raised again where it is seen; napari takes a RuntimeError for a lost window
                return None, error

        def show(step: tuple[int, int, str]) -> None:
            count, total, what = step
            if count:
                self.status.value = f"{what} {count} of {total}" if total else f"{what}, iteration {count}"
            # Last, since the bar handles events, among them the end of the job.
            if bar.total != total:
                bar.reset(total)
            bar.set_description(what)
            bar.update(count - bar.n)

        def finish(outcome: tuple[Any, Exception | None]) -> None:
            result, error = outcome
            close()
            if error is None:
                done(result)
            elif isinstance(error, Cancelled):
                self.status.value = "cancelled; nothing was kept"
            elif isinstance(error, (UserError, OSError)):
                self._complain(error)
            else:
                self.status.value = f"a defect of SCCS: {error}"
                raise error

        def close() -> None:
            bar.close()
            self._worker = None
            self._enable(True)

        self._enable(False)
        worker = self._worker = create_worker(
            job, _start_thread=False, _connect={"yielded": show, "returned": finish, "aborted": close}
        )
        worker.start()

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
