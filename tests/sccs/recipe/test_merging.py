"""How recipes are found and merge, and what ``--set`` changes."""

import pytest

from registry.base import UserError
from sccs.recipe import find_recipe, load_recipe, packaged_recipes
from tests.sccs.recipe.toys import BASE, error_of, write


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
    assert error_of("a.yaml") == ("b.yaml:1: extends: recipes extend one another in a loop: a.yaml -> b.yaml -> a.yaml")


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
        "--set data.train.1.name=x: data.train is a list of 1 and has no '1'"
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
        ("graph.n_segments.x=3", "--set graph.n_segments.x=3: graph.n_segments is the value 50 and has no 'x'"),
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


@pytest.mark.parametrize("name", ["~/r.yaml", "~nobody_of_this_name/r.yaml"])
def test_a_home_that_nobody_knows_is_a_folder_that_is_not_there(monkeypatch, name):
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # what it gives without HOME and passwd entry
    with pytest.raises(UserError, match=f"recipe '{name}' not found"):
        find_recipe(name)
