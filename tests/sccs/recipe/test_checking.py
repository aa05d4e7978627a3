"""What recipes refuse, and in which words: one line with file, line and dotted path. Paths and plug-ins."""

from pathlib import Path

import pytest

from sccs.recipe import load_recipe, packaged_recipes
from tests.sccs.recipe.toys import BASE, ToyEmbedder, error_of, write


def test_paths_are_relative_to_the_file_that_wrote_them():
    write(
        BASE.replace(
            "data: phantom",
            """\
data:
  name: volumes
  train: [{image: a.tif, labels: "${SCCS_DATA}/l.tif"}, {image: "~/b.h5:/raw"}, {image: /c.tif}]
  classes: {0: rest, 1: nucleus}""",
        ),
        "a/parent.yaml",
    )
    data = load_recipe(write("extends: ../a/parent.yaml\ndata: {test: [{image: t.tif}]}", "b/child.yaml")).data
    assert data["train"][0]["image"] == str(Path.cwd() / "a/a.tif")
    assert data["train"][0]["labels"] == "${SCCS_DATA}/l.tif"
    assert [entry["image"] for entry in data["train"][1:]] == ["~/b.h5:/raw", "/c.tif"]
    assert data["test"][0]["image"] == str(Path.cwd() / "b/t.tif")


def test_a_path_argument_of_a_part_is_relative_too():
    text = BASE.replace("features: toy", "features: {name: toy_file, file: w.bin}")
    assert load_recipe(write(text, "a/r.yaml")).features.kwargs["file"] == Path.cwd() / "a/w.bin"


def test_a_checkpoint_file_is_relative_and_a_checkpoint_name_is_not():
    text = "pretrain: {checkpoint: w.safetensors, teacher: t.safetensors}\n"
    found = load_recipe(write(text, "a/r.yaml")).pretrain
    assert found["checkpoint"] == str(Path.cwd() / "a/w.safetensors")
    assert found["teacher"] == str(Path.cwd() / "a/t.safetensors")
    assert load_recipe(write(text.replace("safetensors", "pth"))).pretrain["checkpoint"] == str(Path.cwd() / "w.pth")


def test_weights_of_a_part_within_concat_are_relative_to_the_recipe_as_well():
    text = "extends: sccs_plus\nfeatures: {of: [{name: mae, checkpoint: w.safetensors}, filters]}\n"
    of = load_recipe(write(text, "a/r.yaml")).features.kwargs["of"]
    assert [block["name"] for block in of] == ["mae", "filters"]
    assert of[0]["checkpoint"] == str(Path.cwd() / "a/w.safetensors")
    assert load_recipe(write("pretrain: {checkpoint: bundled}\n")).pretrain["checkpoint"] == "bundled"


def test_weights_of_terms_that_a_part_brings_along(monkeypatch):
    monkeypatch.setattr(ToyEmbedder, "terms", ("entropy",))
    recipe = load_recipe(write(BASE), ["train.weights.entropy=2", "train.weights.smo=0"])
    assert recipe.train.weights == {"spe": 1.0, "clu": 1.0, "smo": 0.0, "entropy": 2.0}


MISTAKES = [
    # keys
    (
        "n_segments: 50",
        "n_segmnts: 50",
        "r.yaml:5: graph.n_segmnts: unknown key; did you mean 'n_segments'? allowed: "
        "n_segments, compactness, edges, kappa, sizes, cells",
    ),
    ("n_segments: 50", "zzz: 50", "r.yaml:5: graph.zzz: unknown key; allowed: n_segments, "),
    ("embedder: toy", "embeder: toy", "r.yaml:6: embeder: unknown key; did you mean 'embedder'? allowed: extends, "),
    ("embedder: toy", "embedder: {name: toy, u: 3}", "r.yaml:6: embedder.u: unknown key; no keys are allowed here"),
    ("embedder: toy\n", "", "r.yaml: embedder: missing; a run needs the blocks data, features, graph, embedder, clust"),
    ("data: phantom\n", "", "r.yaml: data: missing; a run needs the blocks data, "),
    ("name: toy\n  n_seg", "n_seg", "r.yaml:3: graph.name: missing; available: superpixel, "),
    ("k: 4", "k: 4, k: 5", "r.yaml:7: duplicate key 'k', first written on line 7"),
    ("n_segments: 50", "n_segments: 50\n  name: toy", "r.yaml:6: duplicate key 'name', first written on line 4"),
    ("name: toy, k: 4", "name: other", "r.yaml:7: clusterer.rounds: missing, and it has no default"),
    # names
    ("name: toy\n", "name: superpixl\n", "r.yaml:4: graph.name: unknown graph 'superpixl'; did you mean 'superpixel'?"),
    (
        "data: phantom",
        "data: {name: phantom, train: [{image: a.tif}]}",
        "r.yaml:1: data.train: the data set is 'phantom', which has no such key; for your own volumes add ",
    ),
    ("data: phantom", "data: fantom", "r.yaml:1: data.name: unknown data 'fantom'; did you mean 'phantom'? avail"),
    ("features: toy", "features: 3", "r.yaml:2: features: got 3, expected a name or a block; available: mae, "),
    ("features: toy", "features: [toy]", 'r.yaml:2: features: got ["toy"], expected a name or a block; available: mae'),
    ("features: toy", "features: {name: 3}", "r.yaml:2: features.name: got 3, expected a name; available: mae, "),
    # parts within parts
    (
        "features: toy",
        "features:\n  name: concat\n  of:\n  - intensity\n  - filter",
        "r.yaml:6: features.of.1.name: unknown features 'filter'; did you mean 'filters'? available: mae, ",
    ),
    (
        "features: toy",
        "features:\n  name: concat\n  of:\n  - intensity\n  - name: filters\n    sigma: 2",
        "r.yaml:7: features.of.1.sigma: unknown key; did you mean 'sigmas'? allowed: sigmas, sides, areas",
    ),
    (
        "features: toy",
        "features: {name: concat, of: [intensity, 3]}",
        "r.yaml:2: features.of.1: got 3, expected a name",
    ),
    (
        "features: toy",
        "features: {name: concat, of: [intensity, {nam: filters}]}",
        "r.yaml:2: features.of.1.name: missing; available: mae, ",
    ),
    (
        "features: toy",
        "features: {name: concat, of: [mae, {name: concat, of: [mae, {name: filters, sides: [a]}]}]}",
        "r.yaml:2: features.of.1.of.1.sides.0: got 'a'; expected an integer",
    ),
    # types and values
    ("k: 4", "k: '4'", "r.yaml:7: clusterer.k: got '4'; expected an integer"),
    ("k: 4", "k: true", "r.yaml:7: clusterer.k: got true; expected an integer"),
    ("k: 4", "k: 4.5", "r.yaml:7: clusterer.k: got 4.5; expected an integer"),
    ("k: 4", "k: null", "r.yaml:7: clusterer.k: got null; expected an integer"),
    ("n_segments: 50", "n_segments: 0", "r.yaml:5: graph.n_segments: got 0; expected greater than or equal to 1"),
    (
        "n_segments: 50",
        "kappa: medain",
        "r.yaml:5: graph.kappa: got 'medain'; did you mean 'median'? expected a number or 'median'",
    ),
    ("n_segments: 50", "edges: every", "r.yaml:5: graph.edges: got 'every'; expected 'all' or 'knn'"),
    ("n_segments: 50", "sizes: [1,\n    a]", "r.yaml:6: graph.sizes.1: got 'a'; expected an integer"),
    ("n_segments: 50", "cells:\n    one: 1\n    two: b", "r.yaml:7: graph.cells.two: got 'b'; expected an integer"),
    ("data: phantom", "data: {name: phantom, fov: 20}", "r.yaml:1: data.fov: got 20; expected "),
    (
        "data: phantom",
        "data: {name: volumes, train: [{imgae: a.tif}]}",
        "r.yaml:1: data.train.0.imgae: unknown key; did you mean 'image'? allowed: image, labels, ",
    ),
    (
        "data: phantom",
        "data: {name: volumes, classes: {nucleus: 1}}",
        "r.yaml:1: data.classes.nucleus: the key must be an integer",
    ),
    ("data: phantom", "data: phantom\nseed: -1", "r.yaml:2: seed: got -1; expected greater than or equal to 0"),
    ("data: phantom", "data: phantom\ndevice: gpu", "r.yaml:2: device: got 'gpu'; expected auto, cpu, cuda or cuda:N"),
    ("data: phantom", "data: phantom\ntrain: {iterations: -1}", "r.yaml:2: train.iterations: got -1; expected greater"),
    ("data: phantom", "data: phantom\ntrain: {weights: 1}", "r.yaml:2: train.weights: got 1; expected "),
    ("data: phantom", "data: phantom\ntrain: {weights: {clu: no}}", "r.yaml:2: train.weights.clu: got 'no'; exp"),
    (
        "data: phantom",
        "data: phantom\ntrain:\n  weights: {spee: 1}",
        "r.yaml:3: train.weights.spee: no part of this "
        "recipe has such a loss term; offered: none, as nothing is trained",
    ),
    (
        "embedder: toy",
        "embedder: lgc\ntrain: {weights: {spee: 1}}",
        "r.yaml:7: train.weights.spee: no part of this recipe has such a loss term; did you mean 'spe'? offered: spe",
    ),
    ("data: phantom", "data: phantom\ntrain: 3", "r.yaml:2: train: got 3; expected a block of keys"),
    (
        "data: phantom",
        "data: phantom\nevaluation: {mappings: [hungarain]}",
        "r.yaml:2: evaluation.mappings.0: got 'hungarain'; did you mean 'hungarian'? expected 'train', 'hungarian', ",
    ),
    ("data: phantom", "data: phantom\nevaluation: {headline: best}", "r.yaml:2: evaluation.headline: got 'best'; "),
    # inheritance and plug-ins
    (
        "data: phantom",
        "data: phantom\nextends: scs",
        "r.yaml:2: extends: recipe 'scs' not found: neither a file nor a "
        "packaged recipe; did you mean 'sccs'? packaged: ",
    ),
    (
        "data: phantom",
        "data: phantom\nextends: [a, b]",
        'r.yaml:2: extends: must name one parent recipe, not ["a", "b"]',
    ),
    (
        "data: phantom",
        "data: phantom\nplugins: [not_there]",
        "r.yaml:2: plugins.0: cannot import plug-in 'not_there': ModuleNotFoundError: No module named 'not_there'",
    ),
    ("data: phantom", "data: phantom\nplugins: not_there", "r.yaml:2: plugins: got 'not_there'; expected a list"),
    # YAML
    ("k: 4}", "k: 4", "r.yaml:8: not valid YAML: expected ',' or '}'"),
    ("embedder: toy", "embedder: toy: x", "r.yaml:6: not valid YAML: mapping values are not allowed here"),
    ("embedder: toy", "\tembedder: toy", "r.yaml:6: not valid YAML: "),
    ("embedder: toy", "embedder: !!python/object:os.system toy", "r.yaml:6: YAML tags such as "),
    ("embedder: toy", "embedder: &a [*a]", "r.yaml:6: a YAML alias contains itself"),
    ("embedder: toy", "embedder: toy\n? [a]\n: b", "r.yaml:7: a key must be a plain word or number"),
    (BASE, "", "r.yaml:1: a recipe must be a mapping of blocks (data:, features:, ...), not null"),
    (BASE, "- a\n- b\n", 'r.yaml:1: a recipe must be a mapping of blocks (data:, features:, ...), not ["a", "b"]'),
]


@pytest.mark.parametrize("old, new, message", MISTAKES)
def test_mistakes(old, new, message):
    assert BASE.count(old) == 1
    assert error_of(write(BASE.replace(old, new))).startswith(message)


def test_several_mistakes_are_counted():
    text = BASE.replace("n_segments: 50", "a: 1\n  b: 2").replace("k: 4", "k: x")
    assert error_of(write(text)).endswith("(and 2 more mistakes)")
    assert error_of(write(BASE.replace("n_segments: 50", "a: 1\n  b: 2"))).endswith("(and 1 more mistake)")


def test_plugins_bring_parts_that_the_same_recipe_names():
    write(
        "from registry.base import Embedder\nclass Mine(Embedder):\n    pass\n"
        "SCCS_COMPONENTS = {'embedder': {'mine': Mine}}\n",
        "a/mine.py",
    )
    text = BASE.replace("embedder: toy", "embedder: mine\nplugins: [mine.py]")
    recipe = load_recipe(write(text, "a/r.yaml"))
    assert type(recipe.embedder.build()).__name__ == "Mine"
    assert recipe.plugins == [str(Path.cwd() / "a/mine.py")]


@pytest.mark.parametrize("name", sorted(packaged_recipes()))
def test_every_packaged_recipe_is_sound(name):
    recipe = load_recipe(name)
    assert load_recipe(recipe.resolved()).resolved() == recipe.resolved()
