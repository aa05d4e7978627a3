"""What a checked recipe gives: parts with their arguments, places, resolved values."""

from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from registry.base import UserError
from sccs.recipe import load_recipe
from tests.sccs.recipe.toys import BASE, ToyGraph, write


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


def test_part_names_ignore_case_and_separators():
    assert load_recipe(write(BASE), ["features=Toy-File"]).features.name == "toy_file"


def test_where_says_which_line_a_value_comes_from():
    recipe = load_recipe(write(BASE), ["graph.kappa=3"])
    assert recipe.where("graph", "n_segments") == "r.yaml:5"
    assert recipe.where("graph", "kappa") == "--set graph.kappa=3"
    assert recipe.where("graph", "edges") == "default"
    assert recipe.where("embedder") == "r.yaml:6"


def test_a_value_that_the_part_refuses_is_told_with_its_line():
    recipe = load_recipe(write(BASE.replace("n_segments: 50", "compactness: -1")))
    with pytest.raises(UserError, match=r"^r.yaml:5: graph.compactness: -1.0 must not be negative$"):
        recipe.graph.build()


def test_a_value_that_the_part_refuses_deep_in_its_block_is_told_with_its_line():
    recipe = load_recipe(write("extends: gnn\nembedder:\n  options:\n    kk: 3\n"))
    with pytest.raises(UserError, match=r"^r.yaml:4: embedder.options.kk: unknown option; did you mean 'k'\?"):
        recipe.embedder.build()


def test_a_recipe_of_pretraining_alone_needs_no_parts():
    class Block(BaseModel):
        steps: int

    recipe = load_recipe(write("pretrain:\n  steps: 3\n"))
    assert recipe.features is None and recipe.data is None and recipe.pretrain == {"steps": 3}
    assert recipe.validate("pretrain", Block).steps == 3
    recipe = load_recipe(write("pretrain:\n  steps: many\n"))
    with pytest.raises(UserError, match=r"^r.yaml:2: pretrain.steps: got 'many'; expected an integer"):
        recipe.validate("pretrain", Block)


def test_a_resolved_recipe_has_the_defaults_of_parts_within_parts():
    """Or a stored model would follow a default that changes."""
    text = "extends: sccs\nfeatures: {name: concat, of: [student, {name: filters, sigmas: [2.0]}]}\n"
    student, filters = load_recipe(write(text)).resolved()["features"]["of"]
    assert student == {"name": "student", "checkpoint": "bundled", "width": 32, "q": 192, "precision": "auto"}
    assert filters == {"name": "filters", "sigmas": [2.0], "sides": [], "areas": []}
