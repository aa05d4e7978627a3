"""Reading a recipe: files and dicts, scalars, what the command line overrides."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from registry.base import UserError
from sccs.recipe import load_recipe
from tests.sccs.recipe.toys import BASE, error_of, write


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


def test_seed_and_device_from_the_command_line_win():
    recipe = load_recipe(write(BASE + "seed: 1\ndevice: cuda:1\n"), seed=5, device="cpu")
    assert (recipe.seed, recipe.device) == (5, "cpu")


def test_a_missing_recipe_and_one_that_cannot_be_read():
    assert error_of("sccss").startswith(
        "recipe 'sccss' not found: neither a file nor a packaged recipe; did you mean 'sccs'? packaged: "
    )
    Path("binary.yaml").write_bytes(b"\xff\xfe\x00")
    assert error_of("binary.yaml").startswith("binary.yaml: cannot be read: ")
    Path("zero.yaml").write_bytes(b"a: \x00")
    assert error_of("zero.yaml").startswith("zero.yaml:1: not valid YAML: ")


def test_a_control_character_is_told_with_its_line(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("extends: sccs\nseed: 1\ndescription: a\x01b\n")
    assert "r.yaml:3: not valid YAML: contains the character 0x01" in error_of(path)


def test_changes_that_are_no_list_of_texts():
    for given in ("graph.kappa=3", [3]):
        with pytest.raises(UserError, match="changes to a recipe are a list"):
            load_recipe("sccs", given)
