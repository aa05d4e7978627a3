"""Data in, labels out: training, segmentation, saving; whatever a caller hands over."""

import logging

import dask.array as dask_array
import numpy as np
import pytest
import tifffile
import torch

import sccs
from registry.base import UserError
from registry.mae.eight_bits import EightBits
from registry.numeric.processor import multiplies_int8
from sccs.data.volumes import FOV
from sccs.model.fovs import anchor_score
from sccs.pipeline import Pipeline
from sccs.training.fit import warn_of_graphs
from tests.sccs.three_greys import RECIPE, three_greys


@pytest.fixture(scope="module")
def model() -> Pipeline:
    return Pipeline.from_recipe(RECIPE).fit([three_greys()])


def test_segment_finds_the_thirds_alike_in_another_volume(model):
    labels = model.segment(three_greys(5))
    assert labels.shape == (2, 96, 100) and labels.dtype == np.uint8
    thirds = [np.bincount(labels[..., a:b].ravel(), minlength=3) for a, b in ((0, 30), (36, 63), (69, 100))]
    assert sorted(int(t.argmax()) for t in thirds) == [0, 1, 2]
    assert all(t.max() / t.sum() > 0.9 for t in thirds)
    assert np.array_equal(labels, model.segment(three_greys(5)))


def test_a_voxel_size_may_be_one_number_and_a_model_says_what_it_is(model, caplog):
    fitted = Pipeline.from_recipe(RECIPE).fit([three_greys()], voxel_size=10)
    assert tuple(fitted.info["voxel_size"]) == (10, 10, 10)
    fitted.segment(three_greys(), voxel_size=40)
    assert "40" in caplog.text
    with pytest.raises(UserError, match="voxel_size 0"):
        fitted.segment(three_greys(), voxel_size=0)
    parts = "features=intensity, graph=superpixel, embedder=lgc, clusterer=mlp_incremental"
    assert repr(model) == f"Pipeline({parts}, k=3, device=cpu)"


def test_a_single_image_gives_a_single_plane(model):
    image = three_greys(5)[0]
    assert model.segment(image).shape == image.shape


def test_volumes_larger_than_a_fov_are_tiled(model):
    wide = np.concatenate([three_greys()] * 7, axis=2)
    assert model.segment(wide).shape == (2, 96, 700)


def test_saved_and_loaded_model_segments_the_same(model, tmp_path):
    model.save(tmp_path / "model")
    again = sccs.load(tmp_path)
    assert np.array_equal(again.segment(three_greys(3)), model.segment(three_greys(3)))
    assert {path.suffix for path in (tmp_path / "model").iterdir()} == {".json", ".safetensors"}


@pytest.mark.parametrize("embedder", ["identity", "eigsh"])
@pytest.mark.parametrize("clusterer", ["kmeans", "incremental_kmeans", "hungarian_kmeans"])
def test_every_embedder_with_every_clusterer(embedder, clusterer, tmp_path):
    recipe = {**RECIPE, "embedder": embedder, "clusterer": {"name": clusterer, "k": 3}}
    model = Pipeline.from_recipe(recipe).fit([three_greys()])
    labels = model.segment(three_greys(1))
    assert set(np.unique(labels)) <= {0, 1, 2} and len(np.unique(labels)) > 1
    model.save(tmp_path / "model")
    assert np.array_equal(sccs.load(tmp_path).segment(three_greys(1)), labels)


@pytest.mark.parametrize("graph", [{"name": "patch", "cell": 8}, {"name": "pixel"}])
def test_other_graphs(graph):
    recipe = {**RECIPE, "graph": graph, "embedder": "identity", "clusterer": {"name": "kmeans", "k": 3}}
    model = Pipeline.from_recipe(recipe)
    assert model.fit([three_greys()]).segment(three_greys(1)).shape == (2, 96, 100)


def test_cached_graphs_are_those_computed_anew(model):
    image = ((three_greys(9)[0] - 120) / 50).astype(np.float32)
    first, second, fresh = model.build(image), model.build(image), model.build(image, keep=False)
    for other in (second, fresh):
        assert np.array_equal(first.regions, other.regions)
        assert np.array_equal(first.dense_affinity().numpy(), other.dense_affinity().numpy())


def test_more_clusters_than_nodes_is_refused():
    recipe = {**RECIPE, "clusterer": {"name": "mlp_incremental", "k": 200}}
    with pytest.raises(UserError, match="clusterer.k: 200 clusters, but the largest training graph has"):
        Pipeline.from_recipe(recipe).fit([three_greys()])


def test_one_superpixel_fov_is_refused_with_what_to_change():
    recipe = {**RECIPE, "graph": {"name": "superpixel", "pixels_per_superpixel": 1e6}}
    with pytest.raises(UserError, match="largest training graph has 1 node.*pixels_per_superpixel"):
        Pipeline.from_recipe(recipe).fit([three_greys()])


def test_one_superpixel_fov_can_be_segmented(model):
    flat = np.full((80, 80), 0.0, np.float32)
    flat[0, 0] = 1
    model.graph.pixels_per_superpixel, before = 1e6, model.graph.pixels_per_superpixel
    try:
        assert len(np.unique(model.segment_fov(flat).clusters)) == 1
    finally:
        model.graph.pixels_per_superpixel = before


@pytest.mark.parametrize(
    "array, message",
    [
        (np.zeros((2, 2, 96, 96)), "neither a volume"),
        (np.zeros((96, 96), np.uint8), "constant"),
        (np.full((96, 96), np.nan), "NaN"),
        (np.random.default_rng(0).random((12, 40)), "smaller than a window"),
        ([[1, 2], [3, 4]], "list is not an image"),
        ("nowhere.tif", "nowhere.tif"),
        (np.zeros((0, 96, 100)), r"an array of shape \(0, 96, 100\) has no pixels"),
        (np.ones((2, 96, 100), complex), "pixels are complex128, but must be integers or real numbers"),
        (np.full((2, 96, 100), "a"), "pixels are <U1"),
        (np.ma.masked_less(three_greys(), 70), "is a masked array; fill it"),
    ],
)
def test_arrays_that_cannot_be_segmented(model, array, message):
    with pytest.raises(UserError, match=message):
        model.segment(array)


def test_load_of_a_folder_without_a_model(tmp_path):
    with pytest.raises(UserError, match="no trained model"):
        sccs.load(tmp_path)


def test_load_of_a_damaged_model(model, tmp_path):
    model.save(tmp_path / "model")
    (tmp_path / "model" / "graph.safetensors").write_bytes(b"half")
    with pytest.raises(UserError, match="incomplete or damaged"):
        sccs.load(tmp_path)


def test_load_of_a_model_of_another_version(model, tmp_path):
    from safetensors.numpy import load_file, save_file

    model.save(tmp_path / "model")
    path = tmp_path / "model" / "embedder.safetensors"
    save_file({name: value for name, value in load_file(path).items() if name != "scale_"}, path)
    with pytest.raises(UserError, match="embedder was saved by another version"):
        sccs.load(tmp_path)


def test_anchor_is_the_most_diverse_training_fov_or_the_one_asked_for():
    rng = np.random.default_rng(0)
    flat, noisy = np.zeros((20, 20), np.float32), rng.uniform(-3, 3, (20, 20)).astype(np.float32)
    fovs = [FOV(image, None, "a", z, 0, 0) for z, image in enumerate((flat, noisy))]
    assert anchor_score(fovs[1], None) > anchor_score(fovs[0], None)
    assert anchor_score(fovs[1], "a:0:0:0") < anchor_score(fovs[0], "a:0:0:0")


@pytest.mark.parametrize("k", [0, 256])
def test_clusters_that_no_file_can_hold_are_refused(k):
    with pytest.raises(UserError, match=r"clusterer\.k"):
        Pipeline.from_recipe({**RECIPE, "clusterer": {"name": "kmeans", "k": k}})


def test_files_and_lazy_arrays_are_taken_like_arrays(model, tmp_path):
    class Lazy:
        """As Dask and Zarr: a shape and slices, nothing more."""

        def __init__(self, array):
            self.shape, self._array = array.shape, array

        def __getitem__(self, key):
            return self._array[key]

    image = three_greys(5)
    tifffile.imwrite(tmp_path / "a.tif", image)
    expected = model.segment(image)
    for given in (tmp_path / "a.tif", str(tmp_path / "a.tif"), Lazy(image)):
        assert np.array_equal(model.segment(given), expected)
    recipe = {**RECIPE, "embedder": "identity", "clusterer": {"name": "kmeans", "k": 3}}
    states = [
        Pipeline.from_recipe(recipe).fit(given).clusterer.centroids_
        for given in (image, [Lazy(image)], tmp_path / "a.tif", [str(tmp_path / "a.tif")])
    ]
    assert all(np.array_equal(states[0], other) for other in states)


def test_pixels_of_another_size_are_warned_of(caplog):
    recipe = {**RECIPE, "embedder": "identity", "clusterer": {"name": "kmeans", "k": 3}}
    model = Pipeline.from_recipe(recipe).fit(three_greys(), voxel_size=(50, 5, 5))
    with caplog.at_level(logging.WARNING, "sccs"):
        model.segment(three_greys(1), voxel_size=(50, 5, 5))
        assert not caplog.records
        model.segment(three_greys(1), voxel_size=(50, 20, 20))
    assert "20 nm pixels, but the model was trained at 5 nm" in caplog.text


def test_warnings_of_graphs_are_said_once(model):
    class Log:
        said: list[str] = []

        def info(self, message):
            pass

        def warning(self, message):
            self.said.append(message)

    graphs = [
        {"key": f"a:{z}:0:0", "nodes": 200, "isolated": 100 + z, "density": 0.99, "components": 1} for z in range(5)
    ]
    warn_of_graphs(model, graphs, Log())
    assert len(Log.said) == 2 and all(text.startswith("5 of 5 graphs") for text in Log.said)
    assert "a:4:0:0, 104 of 200" in Log.said[0]


def test_an_untrained_model_says_so_and_writes_nothing(tmp_path):
    model = Pipeline.from_recipe(RECIPE)
    for use in (
        lambda: model.segment(three_greys()),
        lambda: model.teach(three_greys(), three_greys()),
        lambda: model.save(tmp_path / "model"),
    ):
        with pytest.raises(UserError, match="not trained yet: call fit"):
            use()
    assert not any(tmp_path.iterdir())


@pytest.mark.skipif(not multiplies_int8(), reason="this processor does not multiply bytes natively")
def test_the_fast_recipe_computes_features_and_neighbours_in_bytes(monkeypatch):
    calls = []
    for owner, name in ((EightBits, "__call__"), (torch, "_int_mm")):
        whole = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *a, name=name, whole=whole: calls.append(name) or whole(*a))
    short = ["train.iterations=20", "clusterer.warmup=5"]
    fast = Pipeline.from_recipe("sccs_fast", short).fit([three_greys()])
    assert set(calls) == {"__call__", "_int_mm"}
    calls.clear()
    fast.segment(three_greys(5))
    assert set(calls) == {"__call__", "_int_mm"}


def test_a_lazy_array_of_booleans_stays_lazy():
    from sccs.data.given import as_array

    stack = dask_array.from_array(np.eye(8, dtype=bool)[None].repeat(3, 0), chunks=(1, 8, 8))
    found = as_array(stack, "stack")
    assert isinstance(found, dask_array.Array) and found.dtype == np.uint8
    assert np.array_equal(found[1].compute(), np.eye(8))


def test_tensors_and_booleans_are_taken_like_arrays(model):
    image = three_greys(5)
    assert (model.segment(torch.from_numpy(image)) == model.segment(image)).all()
    dark = image > 90
    assert (model.segment(dark) == model.segment(dark.astype(np.uint8))).all()


@pytest.mark.parametrize("given", [None, 3])
def test_what_is_neither_image_nor_model_nor_recipe(model, given):
    for use, says in (
        (model.fit, "is not an image"),
        (model.segment, "is not an image"),
        (sccs.load, "is not a model"),
        (Pipeline.from_recipe, "is not a recipe"),
    ):
        with pytest.raises(UserError, match=says):
            use(given)


def labelled(a: int = 1, b: int = 2) -> np.ndarray:
    labels = np.zeros((2, 96, 100), np.uint8)
    labels[0, 10:80, 10], labels[0, 10:80, 90] = a, b
    return labels


@pytest.mark.parametrize(
    "labels, classes, says",
    [
        (labelled(), {300: "a", 1: "b"}, "classes: class codes are 1 to 254, not 300"),
        (labelled(), {1.0: "a", 2: "b"}, "classes: class codes are 1 to 254, not 1.0"),
        (labelled(), {1: "", 2: "b"}, "classes: code 1 has no name"),
        (labelled(), {1: None, 2: "b"}, "classes: code 1 has no name"),
        (labelled(), ["a", "b"], "classes: give a dict"),
        ([1, 2], {1: "a"}, "labels: a list is not an image"),
        (np.zeros((2, 96, 100), np.uint8), {1: "a"}, "touch no superpixel"),
    ],
)
def test_labels_that_teach_nothing_change_nothing(model, labels, classes, says):
    with pytest.raises(UserError, match=says):
        model.teach(labels, three_greys(), classes=classes)
    assert model.taught is None


def test_what_a_model_was_taught_is_saved_with_it(tmp_path):
    model = Pipeline.from_recipe(RECIPE).fit([three_greys()])
    model.teach(torch.from_numpy(labelled()), three_greys(), classes={1: "left", 2: "right"})
    for place in (str(tmp_path / "a" / "model"), tmp_path / "b"):
        model.save(place)
        model.save(place)  # again, in the same place
    P = model.predict_proba(three_greys(3))
    for place in (tmp_path / "a", tmp_path / "b"):
        again = sccs.load(place)
        assert again.classes_ == ["left", "right"] and (again.predict_proba(three_greys(3)) == P).all()
    (tmp_path / "a" / "history").mkdir()
    with pytest.raises(UserError, match="a run with steps of its own"):
        model.save(tmp_path / "a" / "model")


def test_an_array_of_unknown_shape_is_refused(model):
    lazy = dask_array.from_array(np.zeros((4, 96, 96), np.float32), chunks=(2, 96, 96))
    with pytest.raises(UserError, match="unknown shape .* compute_chunk_sizes"):
        model.segment(lazy[lazy[:, 0, 0] >= 0])


def test_an_unknown_device_is_not_blamed_on_the_run(model, tmp_path):
    with pytest.raises(UserError, match="^device 'tpu' is unknown"):
        Pipeline.load(tmp_path, device="tpu")
