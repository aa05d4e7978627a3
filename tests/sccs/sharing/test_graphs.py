"""The graphs of a data set as DGL keeps them: what they hold, that they come back equal, what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
import yaml

from registry.base import UserError
from registry.spg.dgl_adapter import dgl
from sccs.cli import main as command
from sccs.pipeline import Pipeline
from sccs.sharing import graphs as module
from sccs.sharing.graphs import SuperpixelGraphs

CLASSES = {2: "left", 7: "middle", 5: "right"}
SMALL = {
    "description": "three greys",
    "features": "intensity",
    "graph": {"name": "superpixel", "pixels_per_superpixel": 64},
    "embedder": "identity",
    "clusterer": {"name": "kmeans", "k": 3},
    "device": "cpu",
}


def volume(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Image (2, 96, 100) uint8 of three greys and its labels 2, 7, 5, of which 25 columns are 255."""
    third = np.broadcast_to(np.digitize(np.arange(100), [33, 66]), (2, 96, 100))
    noise = np.random.default_rng(seed).normal(0, 8, third.shape)
    labels = np.array([2, 7, 5], np.uint8)[third]
    labels[:, :, 75:] = 255
    return (60 + 60 * third + noise).clip(0, 255).astype(np.uint8), labels


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    """Of a labelled training volume `a`, an unlabelled one `b`, and a labelled test volume `c`."""
    folder = tmp_path_factory.mktemp("data")
    blocks = {}
    for seed, name in enumerate("abc"):
        image, labels = volume(seed)
        tifffile.imwrite(folder / f"{name}.tif", image)
        tifffile.imwrite(folder / f"{name}_labels.tif", labels)
        blocks[name] = {"image": str(folder / f"{name}.tif"), "voxel_size": [16, 8, 8]}
        if name != "b":
            blocks[name]["labels"] = str(folder / f"{name}_labels.tif")
    data = {"name": "volumes", "train": [blocks["a"], blocks["b"]], "test": [blocks["c"]]}
    path = folder / "r.yaml"
    path.write_text(yaml.safe_dump({**SMALL, "data": {**data, "classes": CLASSES, "ignore": 255}}, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def run(recipe) -> Path:
    assert command(["run", str(recipe), "--out", str(recipe.parent / "run")]) == 0
    return recipe.parent / "run"


@pytest.fixture(scope="module")
def saved(recipe) -> Path:
    assert command(["graphs", str(recipe), str(recipe.parent / "graphs")]) == 0
    return recipe.parent / "graphs"


def assert_equal(one, other) -> None:
    """The same DGLGraphs: edges in order, and all data."""
    assert one.num_nodes() == other.num_nodes()
    assert all(torch.equal(a, b) for a, b in zip(one.edges(), other.edges()))
    for name in ("ndata", "edata"):
        data, again = dict(getattr(one, name)), dict(getattr(other, name))
        assert data.keys() == again.keys()
        for key in data:
            assert data[key].dtype == again[key].dtype == torch.float32 and torch.equal(data[key], again[key]), key


# -------------------------------------------------------------------------------------------------------- what is there
def test_each_fov_of_both_splits_has_a_graph_and_its_place(saved):
    graphs = SuperpixelGraphs(saved)
    assert isinstance(graphs, dgl.data.DGLDataset) and len(graphs) == 6 and graphs.num_classes == 3
    assert graphs.classes == CLASSES and list(graphs.classes) == list(CLASSES)
    assert graphs.fovs == [
        {"split": split, "volume": name, "z": z, "y": 0, "x": 0}
        for split, name in (("train", "a"), ("train", "b"), ("test", "c"))
        for z in (0, 1)
    ]
    assert graphs.split("train") == [0, 1, 2, 3] and graphs.split("test") == [4, 5]
    with pytest.raises(UserError, match="split 'val': choose train or test"):
        graphs.split("val")


def test_the_graphs_are_those_that_a_model_of_the_recipe_makes(saved, run):
    model, graphs = Pipeline.load(run), SuperpixelGraphs(saved)
    image = ((volume(2)[0] - (stack := volume(2)[0].astype(float)).mean()) / stack.std()).astype(np.float32)
    for index, z in ((4, 0), (5, 1)):
        expected, graph = model.build(image[z]), graphs[index]
        assert np.array_equal(graphs.regions(index), expected.regions)
        assert graph.ndata["feature"].shape == (expected.n, 2)
        for name in ("feature", "area", "centroid", "grey"):
            torch.testing.assert_close(graph.ndata[name], expected.graph.ndata[name], atol=1e-4, rtol=1e-4)
        assert all(torch.equal(a, b) for a, b in zip(graph.edges(), expected.graph.edges()))
        torch.testing.assert_close(graph.edata["affinity"], expected.affinity, atol=1e-4, rtol=1e-4)


def test_labels_are_the_shares_of_classes_among_labelled_pixels(saved):
    graphs = SuperpixelGraphs(saved)
    labels = volume(2)[1][1]
    regions, share = graphs.regions(5), graphs[5].ndata["labels"]
    assert share.shape == (graphs[5].num_nodes(), 3) and share.dtype == torch.float32
    for node in range(len(share)):
        inside = labels[regions == node]
        inside = inside[inside != 255]
        expected = [float((inside == code).mean()) if len(inside) else 0.0 for code in (2, 7, 5)]
        assert share[node].tolist() == pytest.approx(expected)
    sums = share.sum(1)
    assert set(sums.round(decimals=4).tolist()) == {0.0, 1.0}


def test_fovs_without_labels_have_none(saved):
    graphs = SuperpixelGraphs(saved)
    assert ["labels" in graph.ndata for graph in graphs] == [True, True, False, False, True, True]


def test_the_same_graphs_come_back(recipe, tmp_path):
    made = SuperpixelGraphs(tmp_path / "out", recipe)
    again = SuperpixelGraphs(tmp_path / "out")
    assert len(made) == len(again) == 6 and made.fovs == again.fovs and made.classes == again.classes
    for index, (one, other) in enumerate(zip(made, again)):
        assert_equal(one, other)
        assert np.array_equal(made.regions(index), again.regions(index))
        assert again.regions(index).dtype == np.int32 and again.regions(index).max() == one.num_nodes() - 1


def test_a_run_gives_the_graphs_of_its_data_with_its_fitted_parts(run, saved, tmp_path):
    assert command(["graphs", str(run), str(tmp_path / "out")]) == 0
    for one, other in zip(SuperpixelGraphs(tmp_path / "out"), SuperpixelGraphs(saved)):
        assert_equal(one, other)


def test_the_parts_of_a_run_are_not_fitted_anew(run, tmp_path):
    """On other training images the features of the same test image stay as they were."""
    data = yaml.safe_load((run / "resolved.yaml").read_text())["data"]
    fewer = SuperpixelGraphs(tmp_path / "out", run, [f"data.train=[{{image: {data['train'][1]['image']}}}]"])
    whole = SuperpixelGraphs(tmp_path / "whole", run)
    assert [fov["volume"] for fov in fewer.fovs] == ["b", "b", "c", "c"]
    assert_equal(fewer[3], whole[5])


def test_dgls_loader_batches_them(saved):
    graphs = SuperpixelGraphs(saved, transform=lambda graph: dgl.node_type_subgraph(graph, ["_N"]))
    for graph in graphs.graphs:
        graph.ndata.pop("labels", None)
    batches = list(dgl.dataloading.GraphDataLoader(graphs, batch_size=4))
    assert [batch.batch_size for batch in batches] == [4, 2]
    assert sum(batch.num_nodes() for batch in batches) == sum(graph.num_nodes() for graph in graphs)


def test_saved_graphs_are_read_and_not_made_again(recipe, saved, monkeypatch):
    monkeypatch.setattr(module._Source, "graphs", None)
    assert len(SuperpixelGraphs(saved, recipe)) == 6


def test_no_folder_of_this_computer_is_told_of(saved):
    assert str(saved.parent) not in (saved / "graphs.json").read_text()


# ------------------------------------------------------------------------------------------------------ what is refused
def test_an_existing_place_is_refused_and_left_as_it_is(recipe, tmp_path, fails):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("mine")
    fails(["graphs", recipe, tmp_path / "notes"], "already exists")
    fails(["graphs", recipe, tmp_path / "notes", "--overwrite"], "never overwritten")
    fails(["graphs", recipe, tmp_path / "notes" / "a.txt", "--overwrite"], "never overwritten")
    assert (tmp_path / "notes" / "a.txt").read_text() == "mine" and len(list(tmp_path.iterdir())) == 1


def test_overwrite_replaces_graphs_but_no_folder_that_holds_more(recipe, tmp_path, fails):
    out = tmp_path / "out"
    coarse = ["--set", "graph.pixels_per_superpixel=400"]
    assert command(["graphs", str(recipe), str(out)]) == 0
    before = SuperpixelGraphs(out)[0].num_nodes()
    fails(["graphs", recipe, out, *coarse], "already exists", "--overwrite")
    assert command(["graphs", str(recipe), str(out), *coarse, "--overwrite"]) == 0
    assert SuperpixelGraphs(out)[0].num_nodes() < before
    (out / "mine.txt").write_text("mine")
    fails(["graphs", recipe, out, "--overwrite"], "never overwritten")


def test_nothing_is_left_of_an_attempt_that_fails(recipe, tmp_path, monkeypatch):
    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.np, "savez_compressed", full)
    assert command(["graphs", str(recipe), str(tmp_path / "out")]) == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "options, words",
    [
        (["sccz"], ["did you mean 'sccs'"]),
        (["mae"], ["no `data` block"]),
        (["{recipe}", "--set", "graph.kapa=2"], ["graph.kapa", "did you mean 'kappa'"]),
        (["{run}", "--set", "graph.kappa=2"], ["graph.kappa=2", "of a run can"]),
        (["{run}", "--set", "data.train=[]"], ["data.train"]),
        (["{export}"], ["an export does not include", "give the run"]),
    ],
)
def test_bad_sources_are_one_line(options, words, recipe, run, tmp_path, fails):
    export = run.parent / "export.zip"
    if "{export}" in options and not export.exists():
        assert command(["export", str(run), str(export)]) == 0
    source, *rest = (option.format(recipe=recipe, run=run, export=export) for option in options)
    fails(["graphs", source, tmp_path / "out", *rest], *words)
    assert list(tmp_path.iterdir()) == []


def test_an_unfinished_run_is_refused(run, tmp_path, fails):
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "resolved.yaml").write_text((run / "resolved.yaml").read_text())
    fails(["graphs", tmp_path / "half", tmp_path / "out"], "contains no trained model")


def test_features_that_learn_from_labels_need_some(tmp_path, fails, recipe):
    image = recipe.parent / "b.tif"
    data = {"name": "volumes", "train": [{"image": str(image)}], "test": []}
    features = {"name": "segmenter", "checkpoint": None, "depth": 1, "steps": 2}
    (tmp_path / "r.yaml").write_text(yaml.safe_dump({**SMALL, "features": features, "data": data}))
    fails(["graphs", tmp_path / "r.yaml", tmp_path / "out"], "segmenter needs labels for training")


def test_graphs_of_other_settings_are_not_taken_for_those_asked_for(recipe, saved):
    with pytest.raises(UserError, match="made with another `graph`"):
        SuperpixelGraphs(saved, recipe, ["graph.pixels_per_superpixel=400"])
    SuperpixelGraphs(saved, recipe, ["clusterer.k=5"])  # of which the graphs know nothing


def test_a_folder_without_graphs_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match="saved graphs are missing or damaged; make them with `sccs graphs`"):
        SuperpixelGraphs(tmp_path / "nothing")
    assert list(tmp_path.iterdir()) == []


def test_damaged_graphs_and_those_of_another_format_cannot_be_read(recipe, tmp_path):
    SuperpixelGraphs(tmp_path / "out", recipe)
    facts = json.loads((tmp_path / "out" / "graphs.json").read_text())
    (tmp_path / "out" / "graphs.bin").write_bytes(b"half")
    with pytest.raises(UserError, match="damaged"):
        SuperpixelGraphs(tmp_path / "out")
    (tmp_path / "out" / "graphs.json").write_text(json.dumps({**facts, "format": 2}))
    with pytest.raises(UserError, match="format 2, but this version reads 1"):
        SuperpixelGraphs(tmp_path / "out")
