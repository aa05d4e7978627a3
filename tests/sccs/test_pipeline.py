"""Data in, labels out; save and load; the cache."""

import logging
from pathlib import Path

import numpy as np
import pytest
import tifffile

import registry
import sccs
from registry.base import FeatureMap, Features, UserError
from sccs.data.volumes import FOV, Dataset, LabelCodes, Volume
from sccs.model.fovs import TrainingLabels, anchor_score, node_labels
from sccs.pipeline import Pipeline
from sccs.system import cache
from sccs.system.log import quiet_log
from sccs.training.fit import warn_of_graphs

RECIPE = {
    "features": "intensity",
    "graph": {"name": "superpixel", "pixels_per_superpixel": 64, "standardize": "none"},
    "embedder": {"name": "lgc", "u": 2, "channels": [4]},
    "clusterer": {"name": "mlp_incremental", "k": 3, "warmup": 20},
    "train": {"iterations": 150, "checkpoint_every": 100},
    "device": "cpu",
}


def three_greys(seed: int = 0, shape=(2, 96, 100)) -> np.ndarray:
    """Left, middle, right third of three greys, with noise."""
    rng = np.random.default_rng(seed)
    truth = np.digitize(np.arange(shape[2]), [shape[2] // 3, 2 * shape[2] // 3])
    return (60 + 60 * truth + rng.normal(0, 8, shape)).clip(0, 255).astype(np.uint8)


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
        (np.zeros((2, 2, 96, 96)), "no volume"),
        (np.zeros((96, 96), np.uint8), "constant"),
        (np.full((96, 96), np.nan), "NaN"),
        (np.random.default_rng(0).random((12, 40)), "smaller than a window"),
        ([[1, 2], [3, 4]], "list is no image"),
        ("nowhere.tif", "nowhere.tif"),
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
    assert "20 nm pixels, the model was trained at 5 nm" in caplog.text


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


# ------------------------------------------------------------------------------------------------- supervised parts
CLASSES = {7: "middle", 2: "left", 5: "right"}  # positions go by this order, not by the codes


def labelled(labels: np.ndarray | None = None, unlabelled: bool = True) -> Dataset:
    """The thirds with codes 2, 7, 5, the upper rows ignored; then, if asked for, a volume without labels."""
    codes = LabelCodes(CLASSES, ignore=255)
    if labels is None:
        labels = np.broadcast_to(np.array([2, 7, 5])[np.minimum(np.arange(100) // 33, 2)], (2, 96, 100)).copy()
        labels[:, :10] = 255
    volumes = [Volume("a", three_greys(), labels=labels, codes=codes)]
    return Dataset("thirds", volumes + [Volume("b", three_greys(1))] * unlabelled, [], CLASSES, ignore=255)


def recipe(**parts) -> dict:
    return {**RECIPE, "embedder": "identity", "clusterer": {"name": "kmeans", "k": 3}, **parts}


def test_labels_are_positions_in_the_order_of_classes_and_minus_one_without_a_label():
    labels = TrainingLabels(labelled())
    for _ in range(2):  # a part may go through them more than once
        given = list(labels)
        assert [label.shape for label in given] == [(96, 100)] * 4
        assert all(label.dtype == np.int32 for label in given)
        assert given[0][50, [10, 50, 90]].tolist() == [1, 0, 2] and (given[0][:10] == -1).all()
        assert (given[2] == -1).all() and (given[3] == -1).all()


def test_labels_of_nodes_are_the_pixels_of_each_class():
    pipeline = Pipeline.from_recipe(recipe())
    dataset = labelled()
    graphs = [pipeline.pool(fov.image) for volume in dataset.train for fov in volume.fovs()]
    counts = node_labels(graphs, dataset)
    assert [count.shape for count in counts] == [(graph.n, 3) for graph in graphs]
    assert all(count.dtype == np.int64 for count in counts)
    assert counts[0].sum(0).tolist() == [86 * 33, 86 * 33, 86 * 34] and not counts[3].any()
    region = graphs[0].regions == graphs[0].regions[50, 10]
    assert counts[0][graphs[0].regions[50, 10]].tolist() == [0, region.sum(), 0]


class Heard(Features):
    """Grey values, and what `fit` was given."""

    def fit(self, images, *more):
        self.heard = len(list(images)), [list(each) for each in more]

    def extract(self, image):
        return FeatureMap(image[..., None], 1.0, 0.0, image.shape)


class Taught(Heard):
    supervised = True


@pytest.mark.parametrize("kind, expected", [(Heard, 0), (Taught, 1)])
def test_features_hear_of_labels_if_they_are_supervised_and_not_else(kind, expected):
    pipeline = Pipeline.from_recipe(recipe())
    pipeline.features = kind()
    pipeline.fit(labelled())
    images, more = pipeline.features.heard
    assert images == 4 and len(more) == expected
    if more:
        assert all(map(np.array_equal, more[0], TrainingLabels(labelled())))


def test_what_an_unsupervised_system_learns_does_not_depend_on_labels():
    rng = np.random.default_rng(0)
    states = []
    for labels in (None, rng.choice([2, 5, 7, 255], (2, 96, 100))):
        pipeline = Pipeline.from_recipe({**RECIPE, "train": {"iterations": 40}}).fit(labelled(labels))
        states.append([getattr(pipeline, role).get_state() for role in registry.ROLES])
    for one, other in zip(*states):
        assert one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    "parts, name",
    [
        ({"clusterer": {"name": "linear_probe", "k": 3}}, "linear_probe"),
        ({"features": "segmenter", "graph": "pixel", "clusterer": {"name": "class_scores", "k": 3}}, "segmenter"),
    ],
)
def test_supervised_parts_on_data_without_labels_are_refused_before_anything_is_computed(parts, name, monkeypatch):
    pipeline = Pipeline.from_recipe(recipe(**parts))
    assert pipeline.supervised == [name]
    monkeypatch.setattr(pipeline.features, "fit", None)
    with pytest.raises(UserError, match=f"^data.train: {name} must learn from labels, but no training volume has any"):
        pipeline.fit([three_greys()])


@pytest.mark.parametrize(
    "parts",
    [
        {"clusterer": {"name": "linear_probe", "k": 4}},
        {
            "features": {
                "name": "segmenter",
                "head": "linear",
                "checkpoint": None,
                "depth": 1,
                "steps": 40,
                "lr": 2e-3,
                "batch": 2,
            },
            "graph": "pixel",
            "clusterer": {"name": "class_scores", "k": 4},
        },
    ],
)
def test_a_supervised_system_finds_the_classes_by_their_positions_and_is_loaded_without_labels(parts, tmp_path):
    pipeline = Pipeline.from_recipe(recipe(**parts)).fit(labelled())
    found = pipeline.segment(three_greys(1))
    for (a, b), position in (((0, 30), 1), ((36, 63), 0), ((70, 100), 2)):
        assert (found[..., a:b] == position).mean() > 0.9
    pipeline.save(tmp_path / "model")
    assert np.array_equal(sccs.load(tmp_path).segment(three_greys(1)), found)


def test_a_run_says_that_labels_took_part():
    class Log:
        said: list[str] = []

        def __getattr__(self, name):
            return getattr(quiet_log(), name)

        def info(self, message):
            self.said.append(message)

    for parts in ({}, {"clusterer": {"name": "linear_probe", "k": 3}}):
        Log.said = []
        Pipeline.from_recipe(recipe(**parts)).fit(labelled(), log=Log())
        assert any("labels" in line and "linear_probe" in line for line in Log.said) == bool(parts)


# --------------------------------------------------------------------------------------------------------- the cache
@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("SCCS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("graph, kept", [("superpixel", "nodes"), ("pixel", "features")])
def test_nodes_are_kept_or_features_where_nodes_are_too_large(folder, graph, kept):
    recipe = {**RECIPE, "graph": graph, "embedder": "identity", "clusterer": {"name": "kmeans", "k": 3}}
    Pipeline.from_recipe(recipe).fit([three_greys()])
    assert [path.name for path in folder.iterdir()] == [kept]
    assert len(list(folder.rglob("*.safetensors"))) == 2  # one a slice


def test_a_cache_that_cannot_be_written_is_warned_of_once(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SCCS_CACHE", str(tmp_path / "file" / "cache"))
    image = ((three_greys(9)[0] - 120) / 50).astype(np.float32)
    for _ in range(2):
        Pipeline.from_recipe(RECIPE).pool(image)
    warned = [message for message in caplog.messages if "cannot be written" in message]
    assert len(warned) == 1 and "SCCS_CACHE" in warned[0]


class Learned(Features):
    """A part whose result depends on what it learned, which only its state tells."""

    factor = np.ones(1, np.float32)

    def extract(self, image):
        return FeatureMap((image * self.factor)[..., None], 1.0, 0.0, image.shape)

    def get_state(self):
        return {"factor": self.factor}


def test_what_a_part_learned_seed_and_code_are_in_the_key():
    image = np.zeros((20, 20), np.float32)
    model = Pipeline.from_recipe(RECIPE)
    model.features = Learned()
    first = model._features_key(image)
    assert first == model._features_key(image.copy())
    model.features.factor = np.full(1, 2, np.float32)
    assert model._features_key(image) not in (first, None)


def test_a_part_whose_source_is_not_there_is_not_kept(folder):
    scope = {"Learned": Learned, "__name__": "typed_in"}
    exec("class Typed(Learned): pass", scope)
    assert cache.code_version(scope["Typed"]) is None
    model = Pipeline.from_recipe(RECIPE)
    model.features = scope["Typed"]()
    model.pool(np.random.default_rng(0).random((40, 40), np.float32))
    assert not list(folder.rglob("*.safetensors"))


def test_only_code_counts_not_what_is_said_of_it():
    assert cache.code_only('def f(x):\n    """Old."""\n    return x  # old\n') == cache.code_only("def f(x): return x")
    assert cache.code_only("def f(x): return x") != cache.code_only("def f(x): return -x")
    one, other = (f"def f(x):\n    if x:\n        raise UserError({text})" for text in ("'no'", "f'not {x}'"))
    assert cache.code_only(one) == cache.code_only(other)
