"""The tab Objects: instances of classes in Labels layers with a table, to visit, delete, merge and save them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import napari
import numpy as np

from registry.base import UserError
from sccs.instances.classes import NO_CLASS, voxels_of
from sccs.instances.command import check_output
from sccs.instances.edited import Edited
from sccs.instances.memory import objects
from sccs.napari import job
from sccs.napari.watch import Watch

if TYPE_CHECKING:
    from sccs.napari.widget import SCCS

ALL = "all"


class Objects:
    """The tab's actions. edited: the objects, None at first; layers: one per class."""

    def __init__(self, host: SCCS):
        self.host, self.viewer = host, host.viewer
        self.edited: Edited | None = None
        self.layers: dict[str, napari.layers.Labels] = {}
        self._again: Any = None  # measures the layers' content
        host.find_button.clicked.connect(self.find)
        host.delete_button.clicked.connect(self.delete)
        host.merge_button.clicked.connect(self.merge)
        host.objects_button.clicked.connect(self.save)
        host.object_table.picked.connect(self.go_to)

    def find(self) -> None:
        """Find the objects of the class layer, as `sccs objects` does."""

        def prepare() -> tuple[job.Work, Any]:
            layer = self.host.class_layer
            if layer is None or layer not in self.viewer.layers:
                raise UserError("there are no classes yet: segment an image, then name its clusters or teach it")
            legend, labels = layer.metadata["sccs"]["legend"], np.array(layer.data)
            classes = self._chosen(legend.names, labels)
            size = self.host.session.voxel_size
            image = self._grey(labels.shape)
            least = voxels_of(self.host.least.value.strip() or "0", "min size", size, labels.ndim == 2)
            split, fill = self.host.split.value, float("inf") if self.host.fill.value else 0.0
            translation = [0.0] * (3 - labels.ndim) + layer.translate.tolist()
            like = {"scale": layer.scale, "translate": layer.translate, "units": layer.units}

            def measured(found: dict[str, np.ndarray]) -> Edited:
                return Edited(found, labels, classes, size, image, translation)

            def work(watch: Watch) -> Edited:
                options: dict[str, Any] = {"classes": classes, "split": split, "min_size": least, "fill": fill}
                found, _ = objects(labels, size, **options)
                return measured(found if isinstance(found, dict) else dict.fromkeys(classes, found))

            def done(edited: Edited) -> None:
                for each in self.layers.values():
                    if each in self.viewer.layers:
                        self.viewer.layers.remove(each)
                self.layers, self._again = {}, measured
                for name, data in edited.found.items():
                    self.layers[name] = self.viewer.add_labels(data, name=f"{name}, objects", opacity=0.8, **like)
                layer.visible = False
                self._show(edited)

            return work, done

        self.host.start("finding objects", prepare)

    def _chosen(self, names: dict[int, str], labels: np.ndarray) -> dict[str, int]:
        """Name -> code of the typed class, or of all present classes. Raises UserError."""
        there = {names.get(code, f"class {code}"): code for code in np.unique(labels).tolist() if code != 255}
        wished = self.host.of_class.value.strip().lower()
        if wished and wished != ALL:
            found = {name: code for name, code in there.items() if name.lower() == wished}
            if not found:
                raise UserError(f"no class {wished!r} in the image; it has {', '.join(there) or 'none'}")
            return found
        found = {name: code for name, code in there.items() if name.lower() not in NO_CLASS}
        if not found:
            raise UserError("the image has no classes, so there are no objects to find")
        return found

    def _grey(self, shape: tuple[int, ...]) -> np.ndarray | None:
        try:
            array = self.host.given().array
        except UserError:
            return None
        return np.asarray(array) if tuple(array.shape) == shape else None

    def _show(self, edited: Edited) -> None:
        self.edited = edited
        for name, layer in self.layers.items():
            if layer in self.viewer.layers:
                layer.data = edited.found[name]
        self.host.object_table.fill(edited.table)
        counts = [f"{int((edited.table['class'] == name).sum())} {name}" for name in edited.found]
        self.host.status.value = f"objects: {', '.join(counts)}; click on a row to go to its object"

    def go_to(self, row: int) -> None:
        """Show an object, and select its label."""
        assert self.edited is not None
        found = self.edited.table.to_dict("records")[row]
        layer = self.layers.get(found["class"])
        if layer is None or layer not in self.viewer.layers:
            return
        layer.selected_label = int(found["object"])
        self.viewer.layers.selection.active = layer
        self.host.go_to(layer, self._place(layer, found))

    def _place(self, layer: napari.layers.Labels, found: Any) -> tuple[float, float, float]:
        """A voxel of an object near its centre, which may lie outside a bent object."""
        low, high = ([int(found[f"box_{axis}{end}"]) for axis in "zyx"] for end in (0, 1))
        box = tuple(slice(a, b) for a, b in zip(low, high))
        volume = np.asarray(layer.data).reshape((1,) * (3 - layer.ndim) + layer.data.shape)
        voxels = np.argwhere(volume[box] == int(found["object"])) + low
        middle = [found[f"centroid_{axis}"] for axis in "zyx"]
        if not len(voxels):
            return tuple(middle)
        z, y, x = voxels[np.square(voxels - middle).sum(1).argmin()].tolist()
        return z, y, x

    def delete(self) -> None:
        """Delete the objects of the selected rows."""
        self._change("deleting", 1, lambda layer, numbers: np.isin(layer.data, numbers), lambda numbers: 0)

    def merge(self) -> None:
        """Merge the objects of the selected rows, which must have one class."""
        self._change("merging", 2, lambda layer, numbers: np.isin(layer.data, numbers[1:]), lambda numbers: numbers[0])

    def _change(self, title: str, least: int, where: Any, value: Any) -> None:
        def prepare() -> tuple[job.Work, Any]:
            if self.edited is None:
                raise UserError("there are no objects yet: press Find objects")
            rows = self.edited.table.loc[self.host.object_table.rows()]
            by_class = {str(name): sorted(own["object"].tolist()) for name, own in rows.groupby("class")}
            if len(rows) < least or (least > 1 and len(by_class) > 1):
                raise UserError(
                    f"first select {'a row' if least == 1 else 'two or more rows of one class'} in the table"
                )
            found = self._held()
            for name, numbers in by_class.items():
                found[name] = np.where(where(self.layers[name], numbers), np.uint32(value(numbers)), found[name])
            return lambda watch: self._again(found), self._show

        self.host.start(title, prepare)

    def _held(self) -> dict[str, np.ndarray]:
        """The layers' content, including brush strokes; for a removed layer, the measured objects."""
        assert self.edited is not None
        return {
            name: np.asarray(self.layers[name].data) if self.layers[name] in self.viewer.layers else each
            for name, each in self.edited.found.items()
        }

    def save(self) -> None:
        """Measure the layers' current content, and write it to the folder in the form, as `sccs objects` does."""

        def prepare() -> tuple[job.Work, Any]:
            if self.edited is None:
                raise UserError("there are no objects yet: press Find objects")
            if not str(self.host.objects_output.value).strip(". "):
                raise UserError("enter a folder to save to")
            out, overwrite, found = str(self.host.objects_output.value), self.host.objects_overwrite.value, self._held()

            check_output(Path(out).expanduser(), overwrite, "tick `replace`")

            def work(watch: Watch) -> Edited:
                edited: Edited = self._again(found)
                edited.write(out, overwrite)
                return edited

            def done(edited: Edited) -> None:
                self._show(edited)
                self.host.status.value = f"saved: {out}"

            return work, done

        self.host.start("saving", prepare)
