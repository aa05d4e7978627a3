"""The form of the dock widget: what a person fills in and presses, from top to bottom. It does nothing by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import napari
from magicgui import widgets
from magicgui.types import FileDialogMode

RECIPES = ("sccs_plus", "sccs", "filters_kmeans")


class Fields(widgets.Container):
    """Fields and buttons for training, naming and saving, and a line that says how things stand."""

    def __init__(self) -> None:
        super().__init__(labels=True)
        self._add_training()
        self._add_naming()
        self._add_saving()
        self.cancel_button = widgets.PushButton(text="Cancel", enabled=False)
        self.status = widgets.Label(value="open an image, or File > Open Sample > SCCS")
        self.extend([self.cancel_button, self.status])
        self.status.native.setWordWrap(True)
        self.status.native.setMinimumSize(200, 60)

    def _add_training(self) -> None:
        self.image: Any = widgets.create_widget(annotation=napari.layers.Image, label="image")
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
        self.runs = widgets.FileEdit(
            label="runs go to", mode=FileDialogMode.EXISTING_DIRECTORY, value=Path("runs").absolute() / "napari"
        )
        self.train_button = widgets.PushButton(text="Train")
        self.extend([self.image, self.voxels, self.recipe, self.clusters, self.slices, self.fov])
        self.extend([self.changes, self.runs, self.train_button])

    def _add_naming(self) -> None:
        self.run = widgets.LineEdit(label="run", tooltip="folder of a finished run; Train fills it in")
        self.segment_button = widgets.PushButton(text="Segment")
        self.cluster = widgets.SpinBox(label="cluster", min=0, max=254, tooltip="or click on a region")
        self.name_edit = widgets.LineEdit(label="name", tooltip="NAME or NAME:#rrggbb; clusters of one name are merged")
        self.name_button = widgets.PushButton(text="Name")
        self.named = widgets.Label(label="named", value="none yet")
        self.extend([self.run, self.segment_button, self.cluster, self.name_edit, self.name_button, self.named])

    def _add_saving(self) -> None:
        self.what = widgets.ComboBox(label="save", choices=("classes", "clusters"))
        self.output = widgets.FileEdit(label="as", mode=FileDialogMode.OPTIONAL_FILE, filter="*.tif *.tiff *.ome.zarr")
        self.overwrite = widgets.CheckBox(text="replace")
        self.save_button = widgets.PushButton(text="Save")
        self.extend([self.what, self.output, self.overwrite, self.save_button])
