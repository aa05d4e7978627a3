"""Fields of view by tensors, in batches: the labels of the CPU's way, on the CPU."""

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.harness import phantom
from registry.base import UserError
from sccs.data import load_dataset
from sccs.inference.labels import Probabilities
from sccs.model import batches
from sccs.model.edits import Edit, Edits
from sccs.pipeline import Pipeline

SIDE = 160
SYSTEMS = {
    "sccs_fast": ["graph.slic=grid", "train.iterations=60", "clusterer.warmup=30"],
    "sccs_plus": ["features.of=[student, filters]", "clusterer.iterations=30"],
}


def trained(system: str) -> Pipeline:
    """On one synthetic slice."""
    model = Pipeline.from_recipe(system, SYSTEMS[system], device="cpu")
    return model.fit(load_dataset(phantom(SIDE, depth=4, test_slices=1), Path.cwd(), 0, model.min_side))


@pytest.fixture(scope="module")
def models() -> dict[str, Pipeline]:
    return {system: trained(system) for system in ("sccs_fast", "sccs_plus")}


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    dataset = load_dataset(phantom(SIDE, depth=4, test_slices=3), Path.cwd(), 1)
    return [fov.image for fov in dataset.test[0].fovs()][:3]


@pytest.fixture
def switched(monkeypatch):
    """switched(model): the same model, by tensors."""

    def switch(model: Pipeline) -> Pipeline:
        monkeypatch.setattr(model, "tensors", True)
        return model

    return switch


@pytest.mark.parametrize("system", ["sccs_fast", "sccs_plus"])
def test_labels_of_a_batch_are_those_of_the_cpu(models, images, switched, system):
    expected = [models[system].segment_fov(image) for image in images]
    model = switched(models[system])
    batch = dict(model.segment_fovs(enumerate(images)))
    for b, (one, image) in enumerate(zip(expected, images)):
        for mine in (batch[b], model.segment_fov(image)):
            assert mine.clusters.dtype == np.uint8 and (mine.clusters == one.clusters).mean() >= 0.995
            assert np.array_equal(mine.graph.regions, one.graph.regions)
            assert np.abs(mine.Z - one.Z).max() <= 1e-4 * one.Z.std()
            assert np.array_equal(mine.assignment[mine.graph.regions], mine.clusters)
            assert list(mine.seconds) == ["features", "graph", "embed", "cluster"]


def test_sizes_go_into_batches_of_their_own_and_nothing_stays_nothing(models, images, switched, monkeypatch):
    model, sizes = switched(models["sccs_fast"]), []
    monkeypatch.setattr(model, "pixels_at_once", 2 * SIDE**2)
    real = batches.segment
    monkeypatch.setattr(batches, "segment", lambda model, some: (sizes.append(len(some)), real(model, some))[1])
    views = {"a": images[0], "b": None, "c": images[1][:96], "d": images[1], "e": images[2]}
    found = dict(model.segment_fovs(views.items()))
    assert sizes == [2, 1, 1] and found["b"] is None
    for key, image in views.items():
        assert image is None or np.array_equal(found[key].clusters, model.segment_fov(image).clusters)


def test_a_whole_slice_is_stitched_as_on_the_cpu(models, images, switched, monkeypatch):
    model = models["sccs_fast"]
    monkeypatch.setitem(model.info, "fov", 112)
    volume = (np.stack(images[:2]) * 20 + 120).clip(0, 255).astype(np.uint8)
    expected = model.segment(volume)
    assert (switched(model).segment(volume) == expected).mean() >= 0.995


def test_a_part_that_takes_no_tensors_gets_dgl_graphs(models, images, switched, monkeypatch):
    model = models["sccs_fast"]
    expected = model.segment_fov(images[0])
    monkeypatch.setattr(type(model.clusterer), "takes_tensors", False)
    found = dict(switched(model).segment_fovs(enumerate(images)))[0]
    assert (found.clusters == expected.clusters).mean() >= 0.995 and batches.on_cpu(model) == ["mlp_incremental"]


def test_merged_clusters_are_merged_and_classes_taught_are_told(models, images, switched, monkeypatch):
    model = models["sccs_plus"]
    plain = switched(model).segment_fov(images[0]).clusters
    monkeypatch.setattr(model, "edits", Edits("", model.k, (Edit(of=[1, 2], to=[0]),), (None,)))
    merged = dict(model.segment_fovs(enumerate(images)))[0].clusters
    assert np.array_equal(merged, np.where(np.isin(plain, [1, 2]), 0, plain))
    monkeypatch.setattr(model, "edits", None)
    labels = np.zeros((1, SIDE, SIDE), np.uint8)
    labels[0, 20:60:4, 20:60:4], labels[0, 100:140:4, 100:140:4] = 1, 2
    model.teach(labels, images[0][None], classes={1: "one", 2: "two"})
    result = model.segment_fov(images[0])
    told = Probabilities().of(model, result, result.clusters)
    monkeypatch.setattr(model, "tensors", False)
    result = model.segment_fov(images[0])
    assert np.abs(told - Probabilities().of(model, result, result.clusters)).mean() < 1e-3
    monkeypatch.setattr(model, "taught", None)


def test_a_batch_that_memory_does_not_hold_is_halved(models, images, switched, monkeypatch):
    model, real, sizes, room = switched(models["sccs_fast"]), batches._segment, [], 2

    def limited(model, some):
        sizes.append(len(some))
        if len(some) > room:
            raise torch.cuda.OutOfMemoryError("full")
        return real(model, some)

    monkeypatch.setattr(model, "pixels_at_once", model.pixels_at_once)
    monkeypatch.setattr(batches, "_segment", limited)
    four = [*images, images[0]]
    found = dict(model.segment_fovs(enumerate(four)))
    assert sizes == [4, 2, 2] and model.pixels_at_once == 2 * SIDE**2 and len(found) == 4
    room = 0
    with pytest.raises(UserError, match=r"^cpu: out of memory with one field of view of 160 x 160 px; .*--device cpu$"):
        model.segment_fov(images[0])


def test_what_stays_on_the_cpu_is_told(models):
    assert batches.on_cpu(models["sccs_fast"]) == []
    found = batches.on_cpu(models["sccs_plus"])
    assert found == ["Filters", "superpixels (only graph.slic: grid without sigma runs on the device)"]
    pixels = Pipeline.from_recipe("pixel_kmeans", device="cpu")
    assert not pixels.tensors and batches.on_cpu(pixels) == [
        "all except the networks (the graph part does not support tensors)"
    ]


@pytest.mark.gpu
def test_a_gpu_gives_nearly_the_same_labels(models, images, tmp_path):
    for system, model in models.items():
        model.save(tmp_path / system)
        there = Pipeline.load(tmp_path / system, "cuda")
        assert there.tensors
        found = dict(there.segment_fovs(enumerate(images)))
        for b, image in enumerate(images):
            assert (found[b].clusters == model.segment_fov(image).clusters).mean() >= 0.995
