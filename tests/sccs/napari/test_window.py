"""The napari plug-in in a real napari window: from the sample data to saved classes, with clicks as a person clicks."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy import ndimage

import sccs.napari
from benchmarks.studies import screenshots
from sccs.recipe import load_recipe

napari = pytest.importorskip(
    "napari", reason="needs napari and a Qt binding: pip install '.[napari]' 'napari[pyside6]'"
)
pytest.importorskip("qtpy.QtWidgets", reason="needs a Qt binding: pip install napari[pyside6]", exc_type=ImportError)
pytestmark = [
    pytest.mark.napari,
    pytest.mark.slow,
    pytest.mark.skipif(not (os.environ.get("DISPLAY") or shutil.which("Xvfb")), reason="needs a display or Xvfb"),
]

TINY = "clusterer.warmup=20 train.iterations={} embedder.channels=[4] embedder.u=2"


@pytest.fixture(scope="module")
def display():
    with screenshots.display():
        yield


@pytest.fixture(scope="module")
def viewer(display):
    # Qt ends the process, all tests with it, where the system's libraries for windows are missing: ask another process
    asked = subprocess.run(
        [sys.executable, "-c", "from qtpy.QtWidgets import QApplication; QApplication([])"],
        capture_output=True,
        text=True,
    )
    if asked.returncode:
        pytest.skip(f"Qt opens no window here: {' '.join(asked.stderr.split())[:200]}")
    viewer = napari.Viewer(show=True)
    viewer.window.resize(1400, 1000)
    yield viewer
    viewer.close()


@pytest.fixture(scope="module")
def widget(viewer, tmp_path_factory):
    """The dock widget, as the menu opens it, beside a part of the sample data, which is small enough for a test."""
    from npe2 import PluginManager, PluginManifest

    manager = PluginManager.instance()
    manifest = PluginManifest.from_file(Path(sccs.napari.__file__).with_name("napari.yaml"))
    manifest.validate_imports()
    if "sccs-em" not in manager:  # a checkout that is not installed
        manager.register(manifest)
    for layer in viewer.open_sample("sccs-em", "phantom"):
        layer.data = layer.data[:2, 180:380, 180:380]
    viewer.reset_view()
    _, widget = viewer.window.add_plugin_dock_widget("sccs-em", "SCCS")
    viewer.layers.selection.active = viewer.layers["cell (synthetic)"]
    widget.runs.value = tmp_path_factory.mktemp("runs")
    widget.slices.value, widget.fov.value, widget.clusters.value = 1, 200, 4
    return widget


def events(seconds: float = 0.3) -> None:
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.01)  # leaves Python to the job's thread


def finish(widget) -> str:
    """Let the job end; what the widget then says."""
    while widget.busy:
        events(0.05)
    return widget.status.value


def click(viewer, row: int, column: int) -> None:
    """Press and release the left mouse button, through Qt, where a pixel of the clusters is drawn."""
    from qtpy.QtCore import QPoint, Qt
    from qtpy.QtTest import QTest

    canvas = viewer.window._qt_viewer.canvas
    layer = viewer.layers["clusters of cell (synthetic)"]
    y, x = layer.data_to_world((0, row, column))[1:]
    middle, zoom = np.array(viewer.camera.center[1:]), viewer.camera.zoom
    height, width = canvas.size
    place = (np.array([y, x]) - middle) * zoom + np.array([height, width]) / 2
    QTest.mouseMove(canvas.native, QPoint(*place[::-1].astype(int).tolist()))
    QTest.mouseClick(canvas.native, Qt.LeftButton, Qt.NoModifier, QPoint(*place[::-1].astype(int).tolist()))
    events()


def test_a_recipe_brings_its_number_of_clusters(widget):
    found = {}
    for recipe in reversed(widget.recipe.choices):  # the first one is chosen already
        widget.recipe.value = recipe
        found[recipe] = widget.clusters.value
    assert found == {recipe: load_recipe(recipe).clusterer.kwargs["k"] for recipe in found}
    assert found["sccs_plus_fine"] == found["sccs_plus_own"] == 32 and found["sccs"] == found["sccs_plus"] == 8


def test_from_the_sample_to_saved_classes(viewer, widget, tmp_path):
    assert widget.image.value.name == "cell (synthetic)" and widget.voxels.value == "16 16 16"
    widget.recipe.value, widget.clusters.value = "sccs", 4
    widget.changes.value = "features=filters " + TINY.format(60)
    widget.train()
    assert widget.busy and widget.cancel_button.enabled and not widget.segment_button.enabled
    assert finish(widget).startswith("trained"), widget.status.value
    widget.segment()
    assert finish(widget).startswith("segmented"), widget.status.value
    layer = viewer.layers["clusters of cell (synthetic)"]
    assert layer.data.shape == (2, 200, 200) and layer.scale.tolist() == [16, 16, 16]

    viewer.dims.set_current_step(0, 0)
    events()
    found = [c for c in range(4) if (layer.data[0] == c).any()]
    assert len(found) > 1
    for cluster in found[:2]:
        depth = ndimage.distance_transform_edt(np.pad(layer.data[0] == cluster, 1))[1:-1, 1:-1]
        click(viewer, *np.unravel_index(depth.argmax(), depth.shape))
        assert widget.cluster.value == cluster
        widget.name_edit.value = "nucleus"
        widget.name_cluster()
    classes = viewer.layers["classes of cell (synthetic)"]
    assert np.array_equal(classes.data == 1, np.isin(layer.data, found[:2]))
    assert np.array_equal(classes.colormap.map(1), layer.colormap.map(found[0]))
    assert np.array_equal(layer.colormap.map(found[1]), layer.colormap.map(found[0]))
    assert classes.features["name"][0] == "nucleus"
    assert "nucleus" in (widget.session.run / "classes.yaml").read_text()

    widget.output.value = tmp_path / "classes.tif"
    widget.save()
    assert finish(widget).startswith("saved"), widget.status.value
    assert np.array_equal(tifffile.imread(tmp_path / "classes.tif"), classes.data)
    widget.save()
    assert "already exists" in finish(widget)


def test_cluster_zero_is_drawn(viewer, widget):
    """It is a cluster like others, not napari's background."""
    layer = viewer.layers["clusters of cell (synthetic)"]
    for other in viewer.layers:
        other.visible = other is layer
    layer.opacity, layer.data = 1, np.zeros_like(layer.data)
    events()
    picture = viewer.screenshot(canvas_only=True, flash=False)
    drawn = picture[picture.shape[0] // 2, picture.shape[1] // 2, :3] / 255
    assert np.allclose(drawn, layer.colormap.map(0)[:3], atol=0.02) and drawn.max() > 0.2


def test_cancelled_training_leaves_nothing(viewer, widget):
    widget.changes.value = "features=filters " + TINY.format(1_000_000)
    runs, before = widget.runs.value, widget.run.value
    there = set(runs.iterdir())
    widget.train()
    while widget.busy and not ("training" in widget.status.value and " of " in widget.status.value):
        events(0.05)
    assert widget.busy, widget.status.value
    assert not widget.segment_button.enabled
    widget.cancel()
    assert finish(widget).startswith("cancelled")
    assert set(runs.iterdir()) == there and widget.run.value == before and widget.train_button.enabled


def test_voxel_size_comes_from_the_layers_scale_and_units(viewer, widget):
    layer = widget.image.value
    for scale, units, said in (
        ((0.04, 0.008, 0.008), "um", "40 8 8"),
        ((2, 1, 1), "pixel", ""),
        ((16, 16, 16), "nm", "16 16 16"),
    ):
        layer.scale, layer.units = scale, (units,) * 3
        viewer.layers.selection.active = None
        viewer.layers.selection.active = layer
        assert widget.voxels.value == said


def test_bad_input_is_said_and_nothing_starts(viewer, widget, tmp_path):
    widget.voxels.value = "16 nm"
    widget.train()
    assert not widget.busy and "three positive numbers" in widget.status.value
    widget.voxels.value, widget.changes.value = "", "clusterer.kk=3"
    widget.train()
    assert "clusterer.kk" in finish(widget)
    widget.run.value = str(tmp_path)
    widget.segment()
    assert "no trained model" in finish(widget)


def test_labels_go_out_and_images_come_in_through_napari(viewer, widget, tmp_path):
    classes = viewer.layers["classes of cell (synthetic)"]
    (path,) = classes.save(str(tmp_path / "classes.ome.zarr"), plugin="sccs-em")
    (image,) = viewer.open(path, plugin="sccs-em")
    assert np.array_equal(image.data, classes.data)
    assert image.scale.tolist() == [16, 16, 16] and {str(unit) for unit in image.units} == {"nanometer"}


# ------------------------------------------------------------------------------------------------------- painting
def settle(widget) -> None:
    """Let strokes be answered."""
    events(0.1)
    while widget.painting.at_work or widget.busy:
        events(0.05)
    events(0.1)


def stroke(viewer, widget, code: int, *places: tuple[int, int]) -> None:
    """Paint a class with napari's own brush."""
    widget.painting.pick(code)
    layer = widget.painting.layer
    with layer.block_history():
        for row, column in places:
            layer.paint((0, row, column), code)
    settle(widget)


@pytest.fixture(scope="module")
def painting(viewer, widget):
    """The tab Paint with a run of its own, at the first slice."""
    viewer.layers.selection.active = viewer.layers["cell (synthetic)"]
    assert widget.image.value.name == "cell (synthetic)" and widget.voxels.value == "16 16 16"
    widget.recipe.value, widget.clusters.value, widget.changes.value = "filters_kmeans", 4, ""
    widget.train()
    assert finish(widget).startswith("trained"), widget.status.value
    viewer.dims.set_current_step(0, 0)
    widget.painting.begin()
    assert finish(widget).startswith("paint"), widget.status.value
    widget.painting.layer.brush_size = 6
    return widget.painting


def test_the_slice_follows_what_is_painted(viewer, widget, painting):
    assert widget.class_table.rowCount() == 2 and painting.layer.mode == "paint"
    stroke(viewer, widget, 1, (60, 60), (64, 64))
    assert painting.answer is None and "two classes" in widget.status.value
    stroke(viewer, widget, 2, (150, 150))
    answer = painting.answer
    assert answer.data.shape == (1, 200, 200) and answer.visible
    assert {int(answer.data[0, 60, 60]), int(answer.data[0, 150, 150])} == {1, 2}
    assert int(widget.class_table.item(0, 2).text()) == painting.teaching.counts[1] > 0
    widget.class_table.item(0, 1).setText("nucleus")  # as typed into the table
    settle(widget)
    assert painting.teaching.painted.classes[1].name == "nucleus"
    assert "nucleus" in set(painting.answer.features["name"])
    viewer.dims.set_current_step(0, 1)
    events(0.5)
    settle(widget)
    assert painting.answer.translate.tolist() == [16, 0, 0]
    viewer.dims.set_current_step(0, 0)
    events(0.5)
    settle(widget)


def test_a_class_is_hidden_and_shown(viewer, widget, painting):
    from qtpy.QtCore import Qt

    widget.class_table.item(0, 0).setCheckState(Qt.CheckState.Unchecked)
    code = next(c for c, name in zip(*painting.answer.features[["index", "name"]].values.T) if name == "nucleus")
    assert painting.answer.colormap.map(code)[3] == painting.layer.colormap.map(1)[3] == 0
    widget.class_table.item(0, 0).setCheckState(Qt.CheckState.Checked)
    assert painting.answer.colormap.map(code)[3] == painting.layer.colormap.map(1)[3] == 1


def test_undo_takes_the_last_stroke_back(viewer, widget, painting):
    before = painting.layer.data.copy()
    counts = painting.teaching.counts
    stroke(viewer, widget, 1, (20, 180))
    assert painting.teaching.counts != counts
    painting.undo()
    settle(widget)
    assert np.array_equal(painting.layer.data, before) and painting.teaching.counts == counts


def test_taught_image_saved_layer_and_taken_back_step(viewer, widget, painting):
    widget.painting.keep()
    assert finish(widget).startswith("segmented into the classes"), widget.status.value
    classes = viewer.layers["classes of cell (synthetic)"]
    assert classes.data.shape == (2, 200, 200) and set(np.unique(classes.data)) <= {1, 2}
    assert np.array_equal(classes.data[0], painting.answer.data[0])
    painted = painting.layer.data.copy()
    painting.undo()
    assert finish(widget).startswith("undid: paint"), widget.status.value
    assert painting.layer is None and not [layer for layer in viewer.layers if layer.name.startswith("painted")]
    painting.begin()
    finish(widget)
    settle(widget)
    assert np.array_equal(painting.layer.data, painted)


def test_suggestions_are_points_that_one_goes_to(viewer, widget, painting):
    painting.suggest()
    assert finish(widget).startswith("suggestion 1 of"), widget.status.value
    points = viewer.layers["suggested"]
    assert len(points.data) == len(painting._suggested) > 1
    painting.next()
    z, y, x = points.data[1]
    assert viewer.dims.current_step[0] == z and np.allclose(viewer.camera.center[1:], (16 * y, 16 * x))
    settle(widget)


def test_what_a_person_edited_is_not_overwritten(viewer, widget, painting):
    widget.segment()
    finish(widget)
    layer = viewer.layers["classes of cell (synthetic)"]
    layer.fill((0, 100, 100), 9)
    edited = layer.data.copy()
    widget.segment()
    finish(widget)
    assert np.array_equal(viewer.layers["classes of cell (synthetic) (edited)"].data, edited)
    assert 9 not in viewer.layers["classes of cell (synthetic)"].data


def test_strokes_go_along_to_the_next_run(viewer, widget, painting):
    painted, old = painting.layer.data.copy(), painting.teaching.path
    widget.train()
    assert finish(widget).startswith("trained"), widget.status.value
    painting.begin()
    finish(widget)
    settle(widget)
    assert np.array_equal(painting.layer.data, painted) and old.exists() and painting.teaching.path != old


# --------------------------------------------------------------------------------------------------------- objects
def test_objects_are_found_gone_to_deleted_merged_and_saved(viewer, widget, painting, tmp_path):
    import pandas
    from qtpy.QtCore import QItemSelectionModel

    def choose(*rows: int) -> None:
        view, flag = widget.object_table, QItemSelectionModel.SelectionFlag
        view.clearSelection()
        for row in rows:
            view.selectionModel().select(view.model().index(row, 0), flag.Select | flag.Rows)

    widget.segment()
    finish(widget)
    if widget.class_layer is None:  # no test before this one taught the run
        widget.name_edit.value = "nucleus"
        widget.name_cluster()
    classes = widget.class_layer
    code = int(classes.features["index"][list(classes.features["name"]).index("nucleus")])
    squares = np.full_like(classes.data, 255)
    for i in range(6):
        squares[0, 20 + 30 * i : 30 + 30 * i, 50:60] = code
    squares[1, 100, 100] = code  # too small
    classes.data = squares
    widget.of_class.value, widget.least.value = "nucleus", "5"
    widget.objects.find()
    assert finish(widget).startswith("objects: "), widget.status.value
    layer, table = viewer.layers["nucleus, objects"], widget.objects.edited.table
    n = len(table)
    assert n == 6 and layer.data.max() == n == widget.object_table.model().rowCount()
    assert table["voxels"].min() >= 5 and "volume_nm3" in table and "mean_grey" in table

    widget.object_table.picked.emit(n - 1)
    z, y, x = (round(c / 16) for c in viewer.camera.center)
    assert layer.selected_label == n == layer.data[z, y, x]
    choose()
    widget.objects.delete()
    assert "select a row" in widget.status.value
    choose(0)
    gone = layer.data == 1
    widget.objects.delete()
    finish(widget)
    assert not layer.data[gone].any() and layer.data.max() == n - 1 == widget.object_table.model().rowCount()
    both = np.isin(layer.data, (1, 3))
    choose(0, 2)
    widget.objects.merge()
    finish(widget)
    assert layer.data.max() == n - 2 and len(np.unique(layer.data[both])) == 1
    layer.data_setitem(tuple(axis[:1] for axis in np.nonzero(layer.data == 0)), n + 7)  # as a brush does
    widget.objects_output.value = tmp_path / "objects"
    widget.objects.save()
    assert finish(widget).startswith("saved"), widget.status.value
    saved = pandas.read_csv(tmp_path / "objects" / "objects.csv")
    assert len(saved) == n - 1 and saved["voxels"].min() == 1
    widget.objects.save()
    assert "already exists; choose another name, or tick `replace`" in finish(widget)


# ------------------------------------------------------------------------------------- slices, regions, large images
def test_preview_is_the_slice_of_the_segmentation(viewer, widget, painting):
    painting.stop()
    viewer.dims.set_current_step(0, 1)
    widget.preview()
    assert finish(widget).startswith("segmented slice 1 only"), widget.status.value
    preview = viewer.layers["preview of cell (synthetic)"]
    assert preview.data.shape == (1, 200, 200) and preview.translate.tolist() == [16, 0, 0]
    widget.segment()
    finish(widget)
    assert np.array_equal(viewer.layers["clusters of cell (synthetic)"].data[1], preview.data[0])


def test_a_region_is_segmented_in_its_place_and_a_bad_one_refused(viewer, widget, painting):
    widget.region.value = "0:1,40:140,20:180"
    widget.segment()
    finish(widget)
    layer = viewer.layers["clusters of cell (synthetic)"]
    assert layer.data.shape == (1, 100, 160) and layer.translate.tolist() == [0, 640, 320]
    widget.region.value = "0:1,40:1400,20:180"
    widget.segment()
    assert not widget.busy and "y 40:1400 is not within" in widget.status.value
    viewer.reset_view()
    events()
    widget.region_from_view()
    assert widget.region.value == ":,0:200,0:200"
    widget.region.value = ""


def test_labels_of_a_large_volume_lie_on_disk(viewer, widget, painting, monkeypatch):
    import dask.array

    monkeypatch.setattr("sccs.napari.widget.IN_MEMORY", 1000)
    widget.segment()
    assert finish(widget).startswith("labels written to"), widget.status.value
    layer = next(layer for layer in viewer.layers if layer.name.endswith("(on disk)"))
    monkeypatch.undo()
    widget.segment()
    finish(widget)
    assert isinstance(layer.data, dask.array.Array)
    assert np.array_equal(
        np.asarray(layer.data), widget.session.clusters if not widget.session.taught else widget.session.taught[0]
    )
