"""Recipes that ask for too much: numbers, names, sizes, nesting, files that are none. Each gets one line."""

import os

import pytest

from sccs.recipe import load_recipe
from sccs.system import bounds
from tests.sccs.recipe.toys import BASE, error_of, write


@pytest.mark.parametrize(
    "recipe, option, message",
    [
        ("sccs", "graph.kappa=.inf", "graph.kappa: got Infinity; expected 'median' or 'neighbour' or a finite number"),
        ("sccs", "graph.kappa=.nan", "graph.kappa: got NaN; "),
        ("sccs", "graph.kappa=0", "graph.kappa: got 0; "),
        ("sccs", "graph.compactness=.nan", "graph.compactness: got NaN; expected a finite number"),
        ("sccs", "graph.compactness=0", "graph.compactness: got 0; expected greater than or equal to 0.000001"),
        ("sccs", "graph.alpha=.nan", "graph.alpha: got NaN; expected a finite number"),
        ("sccs", "graph.alpha=1", "graph.alpha: got 1; expected greater than 1"),
        ("sccs", "graph.warmup_alpha=-.inf", "graph.warmup_alpha: got -Infinity; expected a finite number"),
        ("sccs", "graph.neighbours=0", "graph.neighbours: got 0; expected greater than or equal to 1"),
        ("sccs", "embedder.mu=.nan", "embedder.mu: got NaN; expected a finite number"),
        ("sccs", "embedder.mu=-1", "embedder.mu: got -1; expected greater than or equal to 0"),
        ("sccs", "embedder.u=1000000", "embedder.u: got 1000000; expected less than or equal to 8192"),
        ("sccs", "embedder.channels=[96,.inf]", "embedder.channels.1: got Infinity; expected an integer"),
        ("sccs", "clusterer.eta=.nan", "clusterer.eta: got NaN; expected a finite number"),
        ("sccs", "clusterer.dropout=1", "clusterer.dropout: got 1; expected less than 1"),
        ("sccs", "clusterer.seed=-1", "clusterer.seed: got -1; expected greater than or equal to 0"),
        ("sccs", "train.lr=.inf", "train.lr: got Infinity; expected a finite number"),
        ("sccs", "train.lr=1e999", "train.lr: got Infinity; expected a finite number"),
        ("sccs", "train.weights.spe=.nan", "train.weights.spe: got NaN; expected a finite number"),
        ("sccs", "train.threads=100000", "train.threads: got 100000; expected less than or equal to 1024"),
        ("sccs", "data.fov=10000000", "data.fov: got 10000000; expected less than or equal to 1000000 or 'full'"),
        ("sccs", "data.seed=-1", "data.seed: got -1; expected greater than or equal to 0"),
        ("sccs", "data.shapes=[[4,4,4],[9999,9999,9999]]", "data.shapes: shape [9999, 9999, 9999]: each side must be"),
        ("mae", "pretrain.lr=.nan", "pretrain.lr: got NaN; expected a finite number"),
        ("mae", "pretrain.scale=[.nan,1]", "pretrain.scale.0: got NaN; expected a finite number"),
    ],
)
def test_odd_numbers_are_told_before_anything_runs(recipe, option, message):
    from sccs.training.pretrain_settings import Pretrain

    if recipe == "mae":
        with pytest.raises(Exception) as error:
            load_recipe(recipe, [option]).validate("pretrain", Pretrain)
        said = str(error.value)
    else:
        said = error_of(recipe, option)
    assert said.startswith(f"--set {option}: {message}"), said


def test_numbers_of_no_option_are_finite_either():
    text = BASE.replace("features: toy", "features: {name: concat, of: [{name: filters, sigmas: [.nan]}, intensity]}")
    assert error_of(write(text)) == "r.yaml:2: features.of: got nan; expected a finite number"
    text = BASE.replace("embedder: toy", "embedder: {name: gnn, conv: ChebConv, options: {k: .inf}}")
    assert error_of(write(text)) == "r.yaml:6: embedder.options: got inf; expected a finite number"


@pytest.mark.parametrize("name", ["x" * 300, "é" * 150])
def test_a_name_that_no_file_can_have(name):
    data = f"data: {{name: volumes, train: [{{image: a.tif, name: {name}}}]}}"
    said = error_of(write(BASE.replace("data: phantom", data)))
    assert said.startswith("r.yaml:1: data.train.0.name: a volume's name may have at most 200 bytes, not 300")


def test_voxel_sizes_are_finite():
    data = "data: {name: volumes, train: [{image: a.tif, voxel_size: [.nan, 1, .inf]}]}"
    assert error_of(write(BASE.replace("data: phantom", data))).startswith(
        "r.yaml:1: data.train.0.voxel_size.0: got NaN; expected a finite number"
    )


# ---- size and shape of the text


def laughs(levels: int, width: int = 9) -> str:
    lines = ["a0: &a0 [x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * width)}]" for i in range(1, levels)]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    "text, message",
    [
        (laughs(30), "r.yaml:6: more than 50000 values, with aliases (*) expanded"),
        (f"data: {'[' * 3000}{']' * 3000}", "r.yaml:1: blocks nested more than 64 deep"),
        (f"data: {'{a: ' * 3000}1{'}' * 3000}", "r.yaml:1: blocks nested more than 64 deep"),
        ("".join(f"{' ' * i}a:\n" for i in range(1000)), "r.yaml:64: blocks nested more than 64 deep"),
        (f"seed: {'9' * 5000}", "r.yaml:1: 99999"),
        (f"seed: -{'1' * 20}", "r.yaml:1: -11111111111111111111 is an integer of 20 digits; the largest has 19"),
        (f"{'9' * 900}: 1", "r.yaml:1: 99999"),
        ('data: "a\\0b"', r"r.yaml:1: invalid character '\x00'"),
        ('data: "\\ud800"', r"r.yaml:1: invalid character '\ud800'"),
        ("".join(f"k{i}: {i}\n" for i in range(20000)), "r.yaml:1: k0: unknown key; "),
        ("train: {" + ", ".join(f"k{i}: 1" for i in range(20000)) + "}", "r.yaml:1: train.k0: unknown key; "),
    ],
)
def test_texts_beyond_any_measure(text, message):
    assert error_of(write(text)).startswith(message)


def test_a_recipe_of_50_megabytes_is_not_read(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_bytes(b"description: " + b"x" * (50 << 20))
    assert error_of("r.yaml") == "r.yaml: larger than 1 MiB, the limit for such a file"


def test_a_recipe_as_large_as_recipes_are_is_read():
    volumes = "".join(
        f"    - {{image: a{i}.tif, labels: b{i}.tif, region: {{z: [0, {i + 1}]}}}}\n" for i in range(2000)
    )
    text = BASE.replace("data: phantom", f"data:\n  name: volumes\n  classes: {{1: cell}}\n  train:\n{volumes}")
    assert len(load_recipe(write(text)).data["train"]) == 2000


def test_a_dict_that_contains_itself_and_one_with_a_huge_number():
    recipe: dict = {"extends": "kmeans"}
    recipe["train"] = recipe
    assert error_of(recipe) == "recipe: blocks nested more than 64 deep"
    assert error_of({"extends": "kmeans", "seed": 10**5000}) == "recipe: an integer of more than 19 digits"


def test_long_chains_of_parents():
    for i in range(1200):
        write(f"extends: c{i + 1}.yaml\n", f"c{i}.yaml")
    write(BASE, "c1200.yaml")
    assert error_of("c0.yaml") == f"c32.yaml:1: extends: more than {bounds.PARENTS} recipes extend one another"
    assert load_recipe("c1180.yaml").clusterer.kwargs == {"k": 4}


def test_files_that_are_none(tmp_path):
    os.mkfifo("pipe.yaml")
    os.symlink("loop.yaml", "loop.yaml")
    os.symlink("/dev/zero", "zero.yaml")
    os.mkdir("folder.yaml")
    assert error_of("pipe.yaml").endswith("pipe.yaml: expected a file, but found a named pipe")
    assert error_of("zero.yaml").endswith("zero.yaml: expected a file, but found a device")
    assert error_of("folder.yaml").endswith("folder.yaml: expected a file, but found a folder")
    assert "loop.yaml: cannot be read: Too many levels of symbolic links" in error_of("loop.yaml")
    assert "not found" in error_of("x" * 5000)
    for name in ("pipe", "loop", "zero"):
        assert error_of(write(f"extends: {name}.yaml\n")).startswith("r.yaml:1: extends: ")


def test_a_text_that_looks_like_a_number_stays_text():
    from sccs.recipe.located import Place, parse_yaml
    from sccs.recipe.stored import to_yaml

    for value in ("1e3", "08", "1", "-.5", ".inf", "no", "null", "nucleus", "2024-01-01", 1e3, 8, None, True, 1e-5):
        again = parse_yaml(to_yaml({"a": value}), lambda line: Place("", line, None)).plain()["a"]
        assert (again, type(again)) == (value, type(value))
