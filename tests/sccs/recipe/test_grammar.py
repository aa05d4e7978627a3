"""Recipes: how they merge, what they refuse, and in which words."""

import textwrap
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pytest
import yaml
from pydantic import BaseModel, Field

import registry
from registry.base import Clusterer, Embedder, Features, GraphBuilder, UserError
from sccs.recipe.grammar import find_recipe, load_recipe, packaged_recipes


class ToyFeatures(Features):
    pass


class ToyFile(Features):
    def __init__(self, *, file: Path | None = None):
        self.file = file


class ToyGraph(GraphBuilder):
    def __init__(
        self,
        *,
        n_segments: Annotated[int, Field(ge=1)] = 100,
        compactness: float = 0.2,
        edges: Literal["all", "knn"] = "knn",
        kappa: float | Literal["median"] = 2.0,
        sizes: tuple[int, ...] = (1, 2),
        cells: dict[str, int] = {},
    ):
        self.n_segments, self.sizes = n_segments, sizes
        if compactness < 0:
            raise UserError(f"graph.compactness: {compactness} must not be negative")


class ToyEmbedder(Embedder):
    pass


class ToyClusterer(Clusterer):
    def __init__(self, *, k: int = 8):
        self.k = k


class OtherClusterer(Clusterer):
    def __init__(self, *, rounds: int):
        self.rounds = rounds


BASE = """\
data: phantom
features: toy
graph:
  name: toy
  n_segments: 50
embedder: toy
clusterer: {name: toy, k: 4}
"""


@pytest.fixture(autouse=True)
def toys(monkeypatch, tmp_path):
    """Parts of known signatures beside the real ones, and an empty working directory."""
    monkeypatch.setattr(registry.PARTS, "_entries", {role: dict(t) for role, t in registry.PARTS._entries.items()})
    for role, cls in zip(registry.ROLES, (ToyFeatures, ToyGraph, ToyEmbedder, ToyClusterer)):
        registry.register(role, "toy", cls)
    registry.register("features", "toy_file", ToyFile)
    registry.register("clusterer", "other", OtherClusterer)
    monkeypatch.chdir(tmp_path)


def write(text: str, name: str = "r.yaml") -> str:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(textwrap.dedent(text))
    return name


def error_of(recipe, *overrides: str, **options) -> str:
    with pytest.raises(UserError) as error:
        load_recipe(recipe, overrides, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


# ---- what a recipe gives


def test_a_recipe_names_its_parts_with_all_their_arguments():
    recipe = load_recipe(write(BASE))
    assert recipe.name == "r" and recipe.source == Path.cwd() / "r.yaml"
    assert recipe.graph.name == "toy"
    assert recipe.graph.kwargs == {
        "n_segments": 50,
        "compactness": 0.2,
        "edges": "knn",
        "kappa": 2.0,
        "sizes": (1, 2),
        "cells": {},
    }
    assert (recipe.features.name, recipe.features.kwargs) == ("toy", {})
    assert isinstance(recipe.graph.build(), ToyGraph) and recipe.graph.build().n_segments == 50
    assert recipe.data["name"] == "phantom" and recipe.data["fov"] == 560
    assert (recipe.seed, recipe.device, recipe.plugins, recipe.pretrain) == (0, "auto", [], None)


def test_training_and_evaluation_have_the_papers_values_by_default():
    recipe = load_recipe(write(BASE))
    assert (recipe.train.iterations, recipe.train.lr, recipe.train.batch) == (6000, 0.01, 1)
    assert recipe.train.weights == {"spe": 1.0, "clu": 1.0, "smo": 0.1}
    assert recipe.evaluation.mappings == ["train", "hungarian", "greedy", "majority", "oracle"]
    assert (recipe.evaluation.headline, recipe.evaluation.rest) == ("train", None)


def test_one_weight_leaves_the_others():
    assert load_recipe(write(BASE), ["train.weights.smo=0"]).train.weights == {"spe": 1.0, "clu": 1.0, "smo": 0.0}


def test_a_resolved_recipe_reads_as_itself():
    recipe = load_recipe(write(BASE), ["graph.sizes=[3, 4]", "graph.kappa=median", "seed=7"])
    again = load_recipe(write(yaml.safe_dump(recipe.resolved()), "again.yaml"))
    assert again.resolved() == recipe.resolved()
    assert (again.seed, again.graph.kwargs["sizes"]) == (7, (3, 4))


def test_a_dict_is_a_recipe_too_and_may_hold_arrays():
    image = np.zeros((1, 90, 90), np.uint8)
    block = {"name": "volumes", "train": [{"image": image, "voxel_size": (16, 16, 16)}], "fov": np.int64(90)}
    recipe = load_recipe({**yaml.safe_load(BASE), "data": block})
    assert recipe.data["train"][0]["image"] is image and recipe.data["fov"] == 90
    assert recipe.resolved()["data"]["train"][0]["image"] == "array (1, 90, 90) uint8"
    assert error_of({**yaml.safe_load(BASE), "grpah": "toy"}).startswith("recipe: grpah: unknown key")


def test_scalars_follow_yaml_1_2():
    recipe = load_recipe(write(BASE + "train: {lr: 1e-3}\ndescription: no\n"))
    assert recipe.train.lr == 0.001 and recipe.description == "no"


def test_part_names_ignore_case_and_separators():
    assert load_recipe(write(BASE), ["features=Toy-File"]).features.name == "toy_file"


def test_where_says_which_line_a_value_comes_from():
    recipe = load_recipe(write(BASE), ["graph.kappa=3"])
    assert recipe.where("graph", "n_segments") == "r.yaml:5"
    assert recipe.where("graph", "kappa") == "--set graph.kappa=3"
    assert recipe.where("graph", "edges") == "default"
    assert recipe.where("embedder") == "r.yaml:6"


def test_seed_and_device_from_the_command_line_win():
    recipe = load_recipe(write(BASE + "seed: 1\ndevice: cuda:1\n"), seed=5, device="cpu")
    assert (recipe.seed, recipe.device) == (5, "cpu")


# ---- inheritance


def test_blocks_merge_key_by_key_and_lists_replace():
    write(BASE + "train: {lr: 0.5, weights: {smo: 0}}\nevaluation: {mappings: [train, oracle]}\n", "parent.yaml")
    recipe = load_recipe(
        write("""\
        extends: parent.yaml
        graph: {kappa: 3}
        train: {iterations: 10, weights: {clu: 2}}
        evaluation: {mappings: [train]}
        """)
    )
    assert recipe.graph.kwargs["n_segments"] == 50 and recipe.graph.kwargs["kappa"] == 3
    assert (recipe.train.lr, recipe.train.iterations) == (0.5, 10)
    assert recipe.train.weights == {"spe": 1.0, "clu": 2.0, "smo": 0.0}
    assert recipe.evaluation.mappings == ["train"]


def test_another_name_replaces_the_parents_block_and_the_same_name_keeps_it():
    write(BASE, "parent.yaml")
    other = load_recipe(write("extends: parent.yaml\nclusterer: {name: other, rounds: 2}"))
    assert other.clusterer.kwargs == {"rounds": 2}
    assert load_recipe(write("extends: parent.yaml\nclusterer: TOY")).clusterer.kwargs == {"k": 4}


def test_the_parent_is_relative_to_the_child_and_may_have_a_parent():
    write(BASE, "a/top.yaml")
    write("extends: top.yaml\nseed: 3\ndescription: middle", "a/middle.yaml")
    recipe = load_recipe(write("extends: ../a/middle.yaml\ndevice: cpu", "b/child.yaml"))
    assert (recipe.seed, recipe.device, recipe.graph.kwargs["n_segments"]) == (3, "cpu", 50)
    assert recipe.description == ""  # a description is of one file


def test_a_packaged_recipe_can_be_the_parent():
    recipe = load_recipe(write("extends: sccs\nfeatures: toy\ngraph: toy\nembedder: toy\nclusterer: toy"))
    assert recipe.data["name"] == "phantom"


@pytest.mark.parametrize("name", ["sccs", "sccs.yaml", "recipes/sccs.yaml"])
def test_packaged_recipes_are_found_by_name_from_anywhere(name):
    assert find_recipe(name) == packaged_recipes()["sccs"]


def test_a_file_comes_before_a_packaged_recipe():
    write(BASE, "recipes/sccs.yaml")
    assert load_recipe("recipes/sccs.yaml").graph.name == "toy"


def test_mistake_in_an_inherited_block_names_the_file_where_it_stands():
    write(BASE.replace("n_segments: 50", "n_segmnts: 50"), "a/parent.yaml")
    message = error_of(write("extends: a/parent.yaml\nseed: 1"))
    assert message.startswith("a/parent.yaml:5: graph.n_segmnts: unknown key")


def test_circular_inheritance():
    write("extends: b.yaml", "a.yaml")
    write("extends: a.yaml", "b.yaml")
    assert error_of("a.yaml") == (
        "b.yaml:1: extends: recipes extend one another in a circle: a.yaml -> b.yaml -> a.yaml"
    )


# ---- paths


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
    text = "pretrain: {checkpoint: w.safetensors}\n"
    assert load_recipe(write(text, "a/r.yaml")).pretrain["checkpoint"] == str(Path.cwd() / "a/w.safetensors")
    assert load_recipe(write(text.replace("safetensors", "pth"))).pretrain["checkpoint"] == str(Path.cwd() / "w.pth")


def test_weights_of_a_part_within_concat_are_relative_to_the_recipe_as_well():
    text = "extends: sccs_plus\nfeatures: {of: [{name: mae, checkpoint: w.safetensors}, filters]}\n"
    of = load_recipe(write(text, "a/r.yaml")).features.kwargs["of"]
    assert of == [{"name": "mae", "checkpoint": str(Path.cwd() / "a/w.safetensors")}, "filters"]
    assert load_recipe(write("pretrain: {checkpoint: bundled}\n")).pretrain["checkpoint"] == "bundled"


# ---- --set


def test_set_changes_values_with_yaml_types():
    recipe = load_recipe(
        write(BASE),
        [
            "graph.kappa=median",
            "graph.n_segments=7",
            "train.lr=1e-3",
            "evaluation.mappings=[oracle, train]",
            "train.threads=null",
        ],
    )
    assert (recipe.graph.kwargs["kappa"], recipe.graph.kwargs["n_segments"]) == ("median", 7)
    assert (recipe.train.lr, recipe.train.threads) == (0.001, None)
    assert recipe.evaluation.mappings == ["oracle", "train"]


@pytest.mark.parametrize("option", ["clusterer=other", "clusterer.name=other"])
def test_set_of_another_part_replaces_the_block(option):
    assert load_recipe(write(BASE), [option, "clusterer.rounds=3"]).clusterer.kwargs == {"rounds": 3}


def test_set_reaches_into_lists():
    text = BASE.replace("data: phantom", "data: {name: volumes, train: [{image: a.tif}]}")
    assert load_recipe(write(text), ["data.train.0.name=x"]).data["train"][0]["name"] == "x"
    assert error_of(write(text), "data.train.1.name=x") == (
        "--set data.train.1.name=x: data.train is a list of 1, it has no '1'"
    )


@pytest.mark.parametrize(
    "option, message",
    [
        (
            "graph.n_segmnts=3",
            "--set graph.n_segmnts=3: graph.n_segmnts: unknown key; did you mean 'n_segments'? allowed: "
            "n_segments, compactness, edges, kappa, sizes, cells",
        ),
        (
            "grpah.kappa=3",
            "--set grpah.kappa=3: grpah: unknown key; did you mean 'graph'? allowed: extends, description, ",
        ),
        ("graph.kappa.x=3", "--set graph.kappa.x=3: graph.kappa.x: unknown"),
        ("graph.n_segments.x=3", "--set graph.n_segments.x=3: graph.n_segments is the value 50, it has no 'x'"),
        ("graph.kappa", "--set graph.kappa: write --set block.key=value"),
        ("=3", "--set =3: write --set block.key=value"),
        ("graph.sizes=[1", "--set graph.sizes=[1: not valid YAML: "),
        ("extends=other", "--set extends=other: extends cannot be set; name the other recipe instead"),
    ],
)
def test_set_that_is_wrong(option, message):
    if option.startswith("graph.kappa.x"):  # a block where a number belongs: told by the type
        assert error_of(write(BASE), option).endswith("graph.kappa: got {\"x\": 3}; expected a number or 'median'")
    else:
        assert error_of(write(BASE), option).startswith(message)


# ---- mistakes, each one line with file, line and dotted path


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
        "r.yaml:1: data.train: the data set is 'phantom', which has no such key; for volumes of your own write also ",
    ),
    ("data: phantom", "data: fantom", "r.yaml:1: data.name: unknown data 'fantom'; did you mean 'phantom'? avail"),
    ("features: toy", "features: 3", "r.yaml:2: features: got 3, expected a name or a block; available: mae, "),
    ("features: toy", "features: [toy]", 'r.yaml:2: features: got ["toy"], expected a name or a block; available: mae'),
    ("features: toy", "features: {name: 3}", "r.yaml:2: features.name: got 3, expected a name; available: mae, "),
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
    ("data: phantom", "data: phantom\nextends: [a, b]", 'r.yaml:2: extends: names one parent recipe, not ["a", "b"]'),
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
    (BASE, "", "r.yaml:1: a recipe is a mapping of blocks (data:, features:, ...), not null"),
    (BASE, "- a\n- b\n", 'r.yaml:1: a recipe is a mapping of blocks (data:, features:, ...), not ["a", "b"]'),
]


@pytest.mark.parametrize("old, new, message", MISTAKES)
def test_mistakes(old, new, message):
    assert BASE.count(old) == 1
    assert error_of(write(BASE.replace(old, new))).startswith(message)


def test_several_mistakes_are_counted():
    text = BASE.replace("n_segments: 50", "a: 1\n  b: 2").replace("k: 4", "k: x")
    assert error_of(write(text)).endswith("(and 2 more mistakes)")
    assert error_of(write(BASE.replace("n_segments: 50", "a: 1\n  b: 2"))).endswith("(and 1 more mistake)")


def test_a_missing_recipe_and_one_that_cannot_be_read():
    assert error_of("sccss").startswith(
        "recipe 'sccss' not found: neither a file nor a packaged recipe; did you mean 'sccs'? packaged: "
    )
    Path("binary.yaml").write_bytes(b"\xff\xfe\x00")
    assert error_of("binary.yaml").startswith("binary.yaml: cannot be read: ")
    Path("zero.yaml").write_bytes(b"a: \x00")
    assert error_of("zero.yaml").startswith("zero.yaml:1: not valid YAML: ")


def test_a_value_that_the_part_refuses_is_told_with_its_line():
    recipe = load_recipe(write(BASE.replace("n_segments: 50", "compactness: -1")))
    with pytest.raises(UserError, match=r"^r.yaml:5: graph.compactness: -1.0 must not be negative$"):
        recipe.graph.build()


# ---- plug-ins and pre-training


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


def test_a_recipe_of_pretraining_alone_needs_no_parts():
    class Block(BaseModel):
        steps: int

    recipe = load_recipe(write("pretrain:\n  steps: 3\n"))
    assert recipe.features is None and recipe.data is None and recipe.pretrain == {"steps": 3}
    assert recipe.validate("pretrain", Block).steps == 3
    recipe = load_recipe(write("pretrain:\n  steps: many\n"))
    with pytest.raises(UserError, match=r"^r.yaml:2: pretrain.steps: got 'many'; expected an integer"):
        recipe.validate("pretrain", Block)


@pytest.mark.parametrize("name", sorted(packaged_recipes()))
def test_every_packaged_recipe_is_sound(name):
    recipe = load_recipe(name)
    assert load_recipe(recipe.resolved()).resolved() == recipe.resolved()
