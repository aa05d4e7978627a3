"""The napari plug-in without napari: its jobs, what cancelling leaves, its manifest and its layers' data."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from npe2 import PluginManifest

import sccs.napari
from registry.base import UserError
from sccs.evaluation.legend import Legend
from sccs.napari.layers import SAMPLE, look, phantom
from sccs.napari.session import Session, new_run, save
from sccs.napari.watch import Cancelled

RECIPE = {
    "features": "intensity",
    "graph": {"name": "superpixel", "pixels_per_superpixel": 64, "standardize": "none"},
    "embedder": {"name": "lgc", "u": 2, "channels": [4]},
    "clusterer": {"name": "mlp_incremental", "k": 3, "warmup": 20},
    "train": {"iterations": 120},
    "device": "cpu",
}
VOXELS = (16.0, 8.0, 8.0)


def three_greys(seed: int = 0) -> np.ndarray:
    """(5, 64, 96) uint8: left, middle, right third of three greys, with noise."""
    rng = np.random.default_rng(seed)
    truth = np.broadcast_to(np.digitize(np.arange(96), [32, 64]), (5, 64, 96))
    return (60 + 60 * truth + rng.normal(0, 8, truth.shape)).clip(0, 255).astype(np.uint8)


def stop_at(unit: int, what: str):
    """A watch that ends the job at the `unit`-th unit of `what`."""

    def watch(done: int, total: int, now: str) -> None:
        if now == what and done >= unit:
            raise Cancelled

    return watch


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, list[tuple[int, int, str]]]:
    """A run folder, and what the watch of its training was told."""
    told = []
    run = Session().train(
        three_greys(),
        tmp_path_factory.mktemp("runs") / "run",
        recipe=RECIPE,
        voxel_size=VOXELS,
        name="three greys",
        slices=2,
        watch=lambda *step: told.append(step),
    )
    return run, told


@pytest.fixture
def session(trained, tmp_path) -> Session:
    """A session with a copy of the trained run, in which three greys are segmented."""
    session = Session()
    session.open(shutil.copytree(trained[0], tmp_path / "run"))
    session.segment(three_greys(1), voxel_size=VOXELS)
    return session


def thirds(clusters: np.ndarray) -> list[int]:
    """The cluster that most of each third belongs to."""
    return [int(np.bincount(clusters[..., a:b].ravel()).argmax()) for a, b in ((0, 28), (36, 60), (68, 96))]


def test_training_leaves_a_run_folder_that_the_commands_take(trained, tmp_path, capsys):
    from sccs.cli import main

    run, _ = trained
    tifffile.imwrite(tmp_path / "other.tif", three_greys(2))
    assert main(["segment", str(run), str(tmp_path / "other.tif"), str(tmp_path / "labels.tif")]) == 0
    assert sorted(thirds(tifffile.imread(tmp_path / "labels.tif"))) == [0, 1, 2]
    assert main(["compare", str(run)]) == 0
    assert (run / "report.html").exists() and (run / "segmentation" / "three_greys_clusters.tif").exists()
    assert not [path for path in run.parent.iterdir() if path != run]


def test_every_iteration_is_watched(trained):
    _, told = trained
    steps = [i for i, (_, total, what) in enumerate(told) if not total and not what]
    assert [told[i][0] for i in steps] == list(range(1, 121))
    assert [step for step in told if step[2] == "training"] == [
        (50, 120, "training"),
        (100, 120, "training"),
        (120, 120, "training"),
    ]


def test_parts_that_train_themselves_are_watched_and_cancelled(tmp_path):
    recipe = {**RECIPE, "embedder": {"name": "lgc_principal", "u": 2}, "clusterer": {"name": "mlp_global", "k": 3}}
    told = []

    def watch(*step) -> None:
        told.append(step)
        if step == (7, 0, "training"):
            raise Cancelled

    with pytest.raises(Cancelled):
        Session().train(three_greys(), tmp_path / "run", recipe=recipe, watch=watch)
    assert told[-1] == (7, 0, "training") and not any(tmp_path.iterdir())


@pytest.mark.parametrize("unit, what", [(1, "features and graphs"), (50, "training"), (1, "segmenting")])
def test_cancelled_training_leaves_nothing(tmp_path, unit, what):
    session = Session()
    with pytest.raises(Cancelled):
        session.train(three_greys(), tmp_path / "runs" / "run", recipe=RECIPE, watch=stop_at(unit, what))
    assert session.run is None and not any((tmp_path / "runs").iterdir())


def test_cancelled_segmentation_keeps_the_clusters_before_it(session):
    before = session.clusters
    with pytest.raises(Cancelled):
        session.segment(three_greys(3), watch=stop_at(2, "segmenting"))
    assert session.clusters is before


def test_cancelled_save_leaves_the_file_as_it_was(session, tmp_path):
    path = tmp_path / "out" / "labels.tif"
    options = {"voxel_size": VOXELS, "legend": session.cluster_legend()}
    with pytest.raises(Cancelled):
        save(path, session.clusters, watch=stop_at(1, "writing"), **options)
    assert not any(path.parent.iterdir())
    save(path, session.clusters, **options)
    with pytest.raises(Cancelled):
        save(path, 0 * session.clusters, watch=stop_at(1, "writing"), overwrite=True, **options)
    assert np.array_equal(tifffile.imread(path), session.clusters) and list(path.parent.iterdir()) == [path]


def test_clusters_of_one_name_are_one_class(session):
    left, middle, right = thirds(session.clusters)
    session.name(left, "nucleus")
    session.name(right, "nucleus:#102030")
    classes, legend = session.classes()
    assert thirds(classes) == [1, 255, 1]
    assert legend.names == {1: "nucleus", 255: "unnamed"} and legend.colours[1] == (0x10, 0x20, 0x30)
    assert session.cluster_legend().names[right] == "nucleus"
    again = Session()
    again.open(session.run)
    assert again.names == session.names  # they are in the run's classes.yaml


@pytest.mark.parametrize("suffix", [".tif", ".ome.zarr"])
def test_saved_labels_have_voxel_size_names_and_colours(session, tmp_path, suffix):
    from sccs.data.readers import open_image

    session.name(thirds(session.clusters)[0], "nucleus")
    classes, legend = session.classes()
    path = save(tmp_path / f"classes{suffix}", classes, voxel_size=session.voxel_size, legend=legend)
    source = open_image(path)
    assert np.array_equal(source.array[:], classes) and source.voxel_size == pytest.approx(VOXELS)
    stored = path if path.is_file() else path / "zarr.json"
    assert b"nucleus" in stored.read_bytes().replace(b"\0", b"")  # TIFF: UTF-16
    with pytest.raises(UserError, match="already exists.*tick `replace`"):
        save(path, classes, voxel_size=None, legend=legend)


def test_a_single_image_is_segmented_named_and_saved(session, tmp_path):
    assert session.segment(three_greys(4)[0]).shape == (64, 96)
    path = save(tmp_path / "plane.tif", session.clusters, voxel_size=None, legend=session.cluster_legend())
    assert np.array_equal(tifffile.imread(path), session.clusters)


def test_what_is_asked_for_too_early_is_refused(tmp_path):
    session = Session()
    for early in (lambda: session.segment(three_greys()), lambda: session.name(0, "nucleus")):
        with pytest.raises(UserError, match="no model yet"):
            early()
    with pytest.raises(UserError, match="no clusters yet"):
        session.classes()
    with pytest.raises(UserError, match="contains no trained model"):
        session.open(tmp_path)


def test_bad_input_is_refused(session, tmp_path):
    with pytest.raises(UserError, match="no cluster has a name"):
        session.classes()
    with pytest.raises(UserError, match="the name is empty"):
        session.name(0, " ")
    with pytest.raises(UserError, match="no cluster 3"):
        session.name(3, "nucleus")
    with pytest.raises(UserError, match=r"shape \(1, 1, 9, 9\)"):
        session.segment(np.zeros((1, 1, 9, 9)))
    with pytest.raises(UserError, match="labels are int16 up to 300"):
        save(tmp_path / "a.tif", np.full((9, 9), 300, np.int16), voxel_size=None, legend=Legend({}, {}))
    with pytest.raises(UserError, match="already exists"):
        session.train(three_greys(), session.run, recipe=RECIPE)
    with pytest.raises(UserError, match="constant"):
        session.train(np.zeros((64, 64)), tmp_path / "new", recipe=RECIPE)
    assert not list(tmp_path.glob("*new*"))


def test_new_run_is_a_free_name(tmp_path):
    first = new_run(tmp_path, "cell (synthetic)")
    assert first.name.startswith("cell_synthetic-") and not first.exists()
    first.mkdir()
    assert new_run(tmp_path, "cell (synthetic)") not in (first, tmp_path)


# -------------------------------------------------------------------------------------------------- npe2 and layers
def test_manifest_is_valid_and_names_what_exists():
    manifest = PluginManifest.from_file(Path(sccs.napari.__file__).with_name("napari.yaml"))
    for command in manifest.contributions.commands:
        module, _, name = command.python_name.partition(":")
        source = Path(sccs.napari.__file__).parent.joinpath(module.rpartition(".")[2] + ".py").read_text()
        assert f"def {name}(" in source or f"class {name}(" in source


def test_sample_data_are_an_image_and_its_labels_in_nm():
    (image, about, kind), (labels, of_labels, second) = phantom()
    assert (kind, second) == ("image", "labels") and image.shape == labels.shape == SAMPLE
    assert about["scale"] == of_labels["scale"] == (16, 16, 16) and about["units"] == ("nm",) * 3
    assert set(np.unique(labels)) == {0, 1, 2, 3, 255} and of_labels["features"]["name"][1] == "nucleus"


def test_look_of_labels_without_a_colour_is_transparent():
    seen = look(Legend({0: "a", 1: "b"}, {0: (255, 0, 0)}))
    assert seen["colormap"][0].tolist() == [1, 0, 0, 1] and seen["colormap"][None][3] == 0
