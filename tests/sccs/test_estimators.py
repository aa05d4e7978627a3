"""scikit-learn's own checks, and arrays of each kind."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils import estimator_checks as checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from registry.base import UserError
from sccs.estimators import KMeans, Segmenter
from sccs.pipeline import Pipeline

RECIPE = {
    "features": "intensity",
    "graph": {"name": "superpixel", "pixels_per_superpixel": 64, "standardize": "none"},
    "embedder": "identity",
    "clusterer": {"name": "kmeans", "k": 3},
    "device": "cpu",
}


def greys(seed: int = 0, depth: int = 5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    truth = np.digitize(np.arange(100), [33, 66])
    return (60 + 60 * truth + rng.normal(0, 8, (depth, 96, 100))).clip(0, 255).astype(np.uint8)


@parametrize_with_checks([KMeans(n_init=2)])
def test_k_means_passes_the_checks_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.mark.parametrize("name", ["n_clusters", "n_init", "iterations"])
def test_k_means_names_a_parameter_that_is_no_count(name):
    with pytest.raises(TypeError, match=name):
        KMeans(**{name: 2.5}).fit(np.eye(4))
    with pytest.raises(ValueError, match=f"{name} == 0, must be >= 1"):
        KMeans(**{name: 0}).fit(np.eye(4))


@pytest.mark.parametrize(
    "check",
    [
        checks.check_parameters_default_constructible,
        checks.check_no_attributes_set_in_init,
        checks.check_get_params_invariance,
        checks.check_set_params,
        checks.check_estimator_repr,
        checks.check_estimator_tags_renamed,
        checks.check_estimator_cloneable,
        checks.check_mixin_order,
    ],
)
def test_the_segmenter_passes_those_that_need_no_table(check):
    check("Segmenter", Segmenter())


def test_k_means_finds_what_is_apart():
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], 50)
    points = 10 * np.eye(3)[truth] + rng.normal(0, 0.5, (150, 3))
    model = KMeans(3, random_state=0).fit(points)
    assert len({(a, b) for a, b in zip(truth, model.labels_)}) == 3
    assert np.array_equal(model.predict(points), model.labels_)
    assert model.inertia_ == pytest.approx(((points - model.cluster_centers_[model.labels_]) ** 2).sum(), rel=1e-5)
    with pytest.raises(ValueError, match="n_clusters.*n_samples=150"):
        KMeans(200).fit(points)


def test_the_segmenter_is_the_pipeline():
    model = Segmenter(RECIPE, voxel_size=(16, 8, 8))
    expected = Pipeline.from_recipe(RECIPE).fit(greys(), voxel_size=(16, 8, 8)).segment(greys(1))
    assert np.array_equal(model.fit(greys()).predict(greys(1)), expected)
    assert model.pipeline_.info["voxel_size"] == (16, 8, 8)
    both = model.predict([greys(1), greys(1)[0]])
    assert np.array_equal(both[0], expected) and both[1].shape == (96, 100)


def test_the_segmenter_sets_clusters_and_seed_and_is_cloned_unfitted():
    model = Segmenter(RECIPE, n_clusters=2, seed=5, options=["graph.pixels_per_superpixel=100"])
    assert set(np.unique(model.fit_predict(greys()))) == {0, 1}
    assert model.pipeline_.recipe.seed == 5 and model.pipeline_.graph.pixels_per_superpixel == 100
    copy = clone(model).set_params(n_clusters=3)
    with pytest.raises(NotFittedError):
        copy.predict(greys())
    assert copy.fit(greys()).pipeline_.k == 3
    with pytest.raises(UserError, match="clusterer.k"):
        Segmenter(RECIPE, n_clusters=0).fit(greys())


# ------------------------------------------------------------------------------------------------------------- arrays
class Watched:
    """An array that notes what is read of it."""

    def __init__(self, array):
        self.array, self.shape, self.dtype, self.ndim, self.read = array, array.shape, array.dtype, array.ndim, []

    def __getitem__(self, key):
        part = self.array[key]
        self.read.append(part.shape)
        return part


def as_zarr(array):
    zarr = pytest.importorskip("zarr")
    chunks = (2, 48, 50)[-array.ndim :]
    stored = zarr.create_array(zarr.storage.MemoryStore(), shape=array.shape, chunks=chunks, dtype=array.dtype)
    stored[:] = array
    return stored


def as_dask(array):
    return pytest.importorskip("dask.array").from_array(array, chunks=(2, 48, 50)[-array.ndim :])


@pytest.mark.parametrize("kind", [np.asarray, as_dask, as_zarr])
def test_arrays_of_each_kind_train_and_are_segmented_alike(kind):
    expected = Pipeline.from_recipe(RECIPE).fit(greys())
    found = Pipeline.from_recipe(RECIPE).fit(kind(greys()))
    assert np.array_equal(found.clusterer.centroids_, expected.clusterer.centroids_)
    assert np.array_equal(found.segment(kind(greys(1))), expected.segment(greys(1)))
    assert np.array_equal(found.segment(kind(greys(1)[0])), expected.segment(greys(1)[0]))


def test_lazy_arrays_are_read_slice_by_slice():
    model = Pipeline.from_recipe(RECIPE).fit(greys())
    watched = Watched(greys(1))
    model.segment(watched)
    assert len(watched.read) >= 5 and set(watched.read) == {(96, 100)}


def test_dask_computes_no_more_than_a_layer_of_blocks():
    dask = pytest.importorskip("dask.array")
    computed = []

    def block(block_info=None):
        location = block_info[None]["array-location"]
        computed.append(location[0])
        return greys(1)[tuple(slice(*span) for span in location)]

    array = dask.map_blocks(block, chunks=((1,) * 5, (96,), (100,)), dtype=np.uint8, meta=np.empty((0, 0, 0), np.uint8))
    model = Pipeline.from_recipe(RECIPE).fit(greys())
    assert np.array_equal(model.segment(array), model.segment(greys(1)))
    assert sorted(computed) == sorted(2 * [(z, z + 1) for z in range(5)])  # once for mean and sd, once to segment


def test_the_seed_may_be_a_numpy_integer():
    assert Segmenter(RECIPE, seed=np.int64(2)).fit(greys()).pipeline_.recipe.seed == 2
