"""The form of the dock widget: its fields and buttons, with one tab per task. It does nothing by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import napari
from magicgui import widgets
from magicgui.types import FileDialogMode
from qtpy.QtWidgets import QTabWidget, QWidget

from sccs.napari.tables import NamedTable, ObjectTable

RECIPES = ("sccs_plus", "sccs_plus_fine", "sccs_plus_own", "sccs_fast", "sccs", "filters_kmeans")


class Fields(widgets.Container):
    """Image and run at the top, a tab for each task, and the status at the bottom."""

    def __init__(self) -> None:
        super().__init__(labels=True)
        self.pages: dict[str, widgets.Container] = {}
        self.tabs = QTabWidget()
        self._add_image()
        self._add_training()
        self._add_clusters()
        self._add_painting()
        self._add_objects()
        self._add_saving()
        self.cancel_button = widgets.PushButton(text="Cancel", enabled=False)
        self.status = widgets.Label(value="open an image, or choose File > Open Sample > SCCS")
        self.extend([self.cancel_button, self.status])
        self.status.native.setWordWrap(True)
        self.status.native.setMinimumSize(200, 60)
        self.native.layout().insertWidget(len(self) - 2, self.tabs, 1)

    def _page(self, title: str, fields: list[Any], table: QWidget | None = None, at: int = 0) -> None:
        """A tab with these fields; a table fills the space below the first `at` of them."""
        page = self.pages[title] = widgets.Container(widgets=fields, labels=True)
        page.margins = (4, 4, 4, 4)
        if table is not None:
            page.native.layout().insertWidget(at, table, 1)
        else:
            page.native.layout().addStretch(1)
        self.tabs.addTab(page.native, title)

    def _row(self, *buttons: Any, label: str = "") -> Any:
        """Buttons side by side."""
        row = widgets.Container(widgets=list(buttons), layout="horizontal", labels=False, label=label)
        row.margins = (0, 0, 0, 0)
        return row

    def _add_image(self) -> None:
        self.image: Any = widgets.create_widget(annotation=napari.layers.Image, label="image")
        self.voxels = widgets.LineEdit(label="voxel size", tooltip="z y x in nm; empty: unknown")
        self.run = widgets.LineEdit(label="run", tooltip="folder of a finished run; filled in by Train")
        self.level = widgets.ComboBox(label="level", choices=(0,), tooltip="pyramid level; 0 is the finest")
        self.region = widgets.LineEdit(label="region", tooltip="z0:z1,y0:y1,x0:x1 in voxels of the level; empty: all")
        self.view_button = widgets.PushButton(text="from view")
        self.extend(
            [self.image, self.level, self._row(self.region, self.view_button, label="region"), self.voxels, self.run]
        )

    def _add_training(self) -> None:
        self.recipe = widgets.ComboBox(
            label="recipe",
            choices=RECIPES,
            value=RECIPES[0],
            tooltip="sccs_plus: the default; sccs_plus_fine: 32 clusters, more accurate; sccs_plus_own: the same, and "
            "learns features from your image; sccs_fast: the quickest to segment; sccs: the paper's method; "
            "filters_kmeans: the quickest to train",
        )
        self.clusters = widgets.SpinBox(label="clusters", value=8, min=2, max=255)
        self.slices = widgets.SpinBox(
            label="slices",
            value=4,
            min=1,
            max=10_000,
            tooltip="number of evenly spaced slices to train on; they must fit into memory",
        )
        self.fov = widgets.SpinBox(label="field of view", value=560, min=16, max=100_000, tooltip="side in px")
        self.changes = widgets.LineEdit(
            label="changes", tooltip="recipe values to change, as for sccs run --set: a.b=c d.e=f"
        )
        self.runs = widgets.FileEdit(
            label="save runs in", mode=FileDialogMode.EXISTING_DIRECTORY, value=Path("runs").absolute() / "napari"
        )
        self.train_button = widgets.PushButton(text="Train")
        fields = [self.recipe, self.clusters, self.slices, self.fov, self.changes, self.runs, self.train_button]
        self._page("Train", fields)

    def _add_clusters(self) -> None:
        self.preview_button = widgets.PushButton(text="Preview", tooltip="segment the current slice")
        self.segment_button = widgets.PushButton(text="Segment", tooltip="segment the whole image or region")
        self.cluster = widgets.SpinBox(label="cluster", min=0, max=254, tooltip="cluster to name, or click a region")
        self.name_edit = widgets.LineEdit(
            label="name", tooltip="NAME or NAME:#rrggbb; clusters with the same name become one class"
        )
        self.name_button = widgets.PushButton(text="Name")
        self.cluster_table = NamedTable("cluster", "name", "examples", picture_height=56)
        fields = [self._row(self.preview_button, self.segment_button), self.cluster, self.name_edit, self.name_button]
        self._page("Clusters", fields, self.cluster_table, 4)

    def _add_painting(self) -> None:
        self.paint_button = widgets.PushButton(
            text="Paint", tooltip="paint classes on the image; earlier strokes are restored"
        )
        self.class_table = NamedTable("show", "class", "superpixels", checkable=True)
        self.class_edit = widgets.LineEdit(label="new class", tooltip="NAME or NAME:#rrggbb")
        self.class_button = widgets.PushButton(text="Add")
        self.suggest_button = widgets.PushButton(text="Suggest", tooltip="find the superpixels most worth labelling")
        self.next_button = widgets.PushButton(text="Next", tooltip="go to the next suggestion", enabled=False)
        self.undo_button = widgets.PushButton(
            text="Undo", tooltip="undo the last stroke; if there is none, the run's last step"
        )
        self.keep_button = widgets.PushButton(text="Teach", tooltip="teach the run, and segment the whole image")
        fields = [
            self.paint_button,
            self.class_edit,
            self.class_button,
            self._row(self.suggest_button, self.next_button),
            self._row(self.undo_button, self.keep_button),
        ]
        self._page("Paint", fields, self.class_table, 1)

    def _add_objects(self) -> None:
        self.of_class = widgets.LineEdit(label="class", value="all", tooltip="name of a class, or all")
        self.least = widgets.LineEdit(label="min size", value="0", tooltip="in voxels, nm3 or um3: 500, 1e6nm3")
        self.split = widgets.CheckBox(text="split objects at necks")
        self.fill = widgets.CheckBox(text="fill holes")
        self.find_button = widgets.PushButton(text="Find objects")
        self.object_table = ObjectTable()
        self.delete_button = widgets.PushButton(text="Delete", tooltip="delete the objects of the selected rows")
        self.merge_button = widgets.PushButton(text="Merge", tooltip="merge the objects of the selected rows")
        self.objects_output = widgets.FileEdit(label="save in", mode=FileDialogMode.OPTIONAL_FILE)
        self.objects_overwrite = widgets.CheckBox(text="replace")
        self.objects_button = widgets.PushButton(text="Save objects")
        fields = [self.of_class, self.least, self._row(self.split, self.fill), self.find_button]
        fields += [self._row(self.delete_button, self.merge_button), self.objects_output]
        fields += [self._row(self.objects_overwrite, self.objects_button)]
        self._page("Objects", fields, self.object_table, 4)

    def _add_saving(self) -> None:
        self.what = widgets.ComboBox(label="save", choices=("classes", "clusters"))
        self.output = widgets.FileEdit(label="as", mode=FileDialogMode.OPTIONAL_FILE, filter="*.tif *.tiff *.ome.zarr")
        self.overwrite = widgets.CheckBox(text="replace")
        self.save_button = widgets.PushButton(text="Save")
        self._page("Save", [self.what, self.output, self.overwrite, self.save_button])
