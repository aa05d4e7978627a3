"""A finished run whose files somebody damaged: every command that reads them says which file and what, in one line."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml
from safetensors.numpy import load_file, save_file

from registry.base import UserError
from sccs.recipe import load_recipe
from sccs.run_folder import prepare_folder

FIXTURE = Path(__file__).resolve().parents[2] / "fixtures" / "before_rooms" / "run"
VIEW = "figures/data/phantom_c1_z0002.npz"


@pytest.fixture
def run(tmp_path) -> Path:
    shutil.copytree(FIXTURE, tmp_path / "run")
    return tmp_path / "run"


def change(path: Path, keys: str, value: object) -> None:
    """Set one value of a JSON file."""
    content = json.loads(path.read_text())
    inside = content
    *above, last = (int(key) if key.isdecimal() and isinstance(content, list) else key for key in keys.split("."))
    for key in above:
        inside = inside[key]
    inside[last] = value
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    "name, keys, value, commands",
    [
        ("metrics.json", "test.train.mean.dsc", "x", "name compare export"),
        ("metrics.json", "test.train.classes.nucleus", None, "name compare export"),
        ("metrics.json", "mapping.train", ["nucleus"], "name compare export"),
        ("metrics.json", "k", 7, "name compare export"),
        ("metrics.json", "k", 10**30, "name compare"),
        ("metrics.json", "clusters_used", {}, "name compare"),
        ("metrics.json", "headline", ["train"], "name compare"),
        ("metrics.json", "notes", [{}], "name compare"),
        ("tables.json", "k", 3, "name"),
        ("tables.json", "train", {"a:0:0:0": [[1, 2]]}, "name"),
        ("tables.json", "train_pixels", [1], "name"),
        ("tables.json", "mappings", ["best"], "name"),
        ("timing.json", "total", [1], "name"),
        ("timing.json", "graph", float("nan"), "name compare"),
        ("graphs.json", "0.nodes", "many", "name export"),
        ("graphs.json", "0.key", 3, "name export"),
        ("environment.json", "packages", 3, "name export"),
        ("model/model.json", "fov", "abc", "export segment name"),
        ("model/model.json", "classes", {"x": "nucleus"}, "export segment name"),
        ("model/model.json", "recipe", [], "export segment name"),
        ("model/model.json", "recipe.clusterer.k", "x", "export segment"),
        ("model/model.json", "recipe.plugins", [3], "export segment name"),
        ("model/model.json", "recipe.extends", "sccs", "export segment name"),
        ("model/model.json", "voxel_size", [16, 0, 16], "export segment name"),
        ("model/model.json", "k", 0, "export segment name"),
    ],
)
def test_values_of_another_kind(run, fails, name, keys, value, commands):
    change(run / name, keys, value)
    check(run, fails, name, commands)


def check(run: Path, fails, name: str, commands: str) -> None:
    before = (run / "classes.yaml").read_bytes()
    image, out = run / "segmentation" / "phantom_c1_classes.tif", run.parent / "out.tif"
    calls = {
        "name": ["name", run, "1=other"],
        "compare": ["compare", run],
        "export": ["export", run, run.parent / "out.zip"],
        "segment": ["segment", run, image, out],
    }
    for command in commands.split():
        fails(calls[command], Path(name).stem)
        assert (run / "classes.yaml").read_bytes() == before and not (run / "history").exists()
        assert not out.exists() and not (run.parent / "out.zip").exists()


BROKEN = [b"", b"\xff\xfe\x00", b"[" * 100_000, b'{"a": ' + b"9" * 5000 + b"}", b'{"a": 1', b"\x1b[2J"]


@pytest.mark.parametrize("content", BROKEN)
@pytest.mark.parametrize(
    "name, commands",
    [
        ("metrics.json", "name compare export"),
        ("tables.json", "name"),
        ("timing.json", "name compare"),
        ("environment.json", "name export"),
        ("graphs.json", "name export"),
        ("model/model.json", "export segment name"),
        ("metrics.jsonl", "name"),
        (VIEW, "name"),
        ("model/clusterer.safetensors", "export segment"),
    ],
)
def test_files_that_are_cut_or_filled_with_something_else(run, fails, name, content, commands):
    if name == "metrics.jsonl" and content == b"":
        pytest.skip("a training of no steps")
    (run / name).write_bytes(content)
    check(run, fails, name, commands)


@pytest.mark.parametrize("content", ["[1, 2]", "seed: abc", "data: [", "train: 3", "a: &a [*a]", "seed: " + "9" * 5000])
def test_a_damaged_recipe_of_a_run(run, fails, content):
    (run / "resolved.yaml").write_text(content)
    check(run, fails, "resolved", "name compare")
    recipe = run / "recipe.yaml"
    fails(["run", recipe, "--out", run, "--resume"], "resolved.yaml")


@pytest.mark.parametrize("name", ["metrics.json", "classes.yaml", "resolved.yaml", "timing.json", "metrics.jsonl"])
def test_a_pipe_in_the_place_of_a_file(run, fails, name):
    (run / name).unlink()
    os.mkfifo(run / name)
    fails(["name", run, "1=other"], name, "a named pipe")


def test_weights_that_are_a_pipe(run, fails):
    path = run / "model" / "graph.safetensors"
    path.unlink()
    os.mkfifo(path)
    check(run, fails, "graph.safetensors", "export segment")


@pytest.mark.parametrize(
    "role, name, harm",
    [
        ("graph", "mean", lambda a: a[:-1]),
        ("graph", "kappa", lambda a: a * np.nan),
        ("graph", "kappa", lambda a: -a),
        ("graph", "scale", lambda a: a.astype(np.int8)[None]),
        ("clusterer", "layers.1.weight", lambda a: a[:-1]),
        ("clusterer", "layers.1.bias", lambda a: a * np.nan),
        ("clusterer", "layers.1.bias", lambda a: a + np.inf),
        ("clusterer", "centroids.counts", lambda a: a[:-1]),
        ("embedder", "weights.0", lambda a: a[:-1]),
        ("embedder", "scale_", lambda a: a[:, :-1] if a.ndim > 1 else a[:-1]),
        ("features", "mlp_ratio", lambda a: -a),
        ("features", "mlp_ratio", lambda a: a[:0]),
    ],
)
def test_arrays_of_another_shape_kind_or_number(run, fails, role, name, harm):
    path = run / "model" / f"{role}.safetensors"
    arrays = load_file(path)
    arrays[name] = np.ascontiguousarray(harm(arrays[name]))
    save_file(arrays, path)
    check(run, fails, "run", "export segment")


def test_arrays_that_lack_or_are_too_many(run, fails):
    path = run / "model" / "graph.safetensors"
    arrays = load_file(path)
    save_file({**arrays, "evil": arrays["mean"]}, path)
    check(run, fails, "evil", "export segment")
    del arrays["mean"]
    save_file(arrays, path)
    check(run, fails, "mean", "export segment")


def test_a_view_that_would_draw_elsewhere(run, fails):
    with np.load(run / VIEW) as stored:
        arrays = {name: stored[name] for name in stored.files}
    about = json.loads(str(arrays["about"]))
    for harm in ({"volume": "../../../evil"}, {"z": -1}, {"tiles": [[10**6, 0, 1, 1]]}, {"split": "x"}, {"classes": 3}):
        np.savez(run / VIEW, **{**arrays, "about": np.array(json.dumps({**about, **harm}))})
        check(run, fails, "phantom_c1_z0002", "name")
    for harm in (
        {"clusters": arrays["clusters"] + 100},
        {"regions": arrays["regions"][:-1]},
        {"image": arrays["bases"]},
    ):
        np.savez(run / VIEW, **{**arrays, **harm})
        check(run, fails, "phantom_c1_z0002", "name")


def test_names_that_matplotlib_would_read_as_formulas(run, capsys):
    from sccs.cli import main

    assert main(["name", str(run), r"1=$\frac{$", "2=$x_", "3=100 $ or $ 200"]) == 0
    assert r"$\frac{$" in (run / "report.html").read_text()
    assert yaml.safe_load((run / "classes.yaml").read_text())["clusters"][1]["name"] == r"$\frac{$"
    assert main(["name", str(run)]) == 0


@pytest.mark.parametrize("name", ["a\x1b[2J", "a\nb", "x" * 101, "\u202egnp.exe", "\udcff"])
def test_names_that_no_page_can_show_are_refused(run, fails, name):
    before = (run / "classes.yaml").read_bytes()
    says = "set LC_ALL=C.UTF-8" if name == "\udcff" else "at most 100 characters, all printable"
    fails(["name", run, f"1={name}"], says)
    assert (run / "classes.yaml").read_bytes() == before


@pytest.mark.parametrize("harm", ["text", "cut", "folder", "pipe", "float"])
def test_damaged_clusters_of_a_run_are_told_before_a_name_is_taken(run, fails, harm):
    path = run / "segmentation" / "phantom_c1_clusters.tif"
    content = path.read_bytes()
    path.unlink()
    if harm == "folder":
        path.mkdir()
    elif harm == "pipe":
        os.mkfifo(path)
    elif harm == "float":
        tifffile.imwrite(path, np.zeros((4, 80, 80), np.float32), photometric="minisblack")
    else:
        path.write_bytes(b"hello" if harm == "text" else content[:300])
    fails(["name", run, "1=other"], "phantom_c1_clusters.tif")
    assert not (run / "history").exists()


@pytest.mark.parametrize("resume", [True, False])
@pytest.mark.parametrize("name", ["log.txt", "metrics.jsonl", "report.html", "tensorboard", "segmentation"])
def test_something_else_in_the_place_of_what_a_run_writes(run, resume, name):
    """A pipe or folder for a file, a file for a folder: told before anything is removed, and nothing waits for it."""
    path = run / name
    if path.is_dir():
        shutil.rmtree(path)
        path.write_text("mine")
    else:
        path.unlink(missing_ok=True)
        path.mkdir() if name == "report.html" else os.mkfifo(path)
    recipe = load_recipe(run / "resolved.yaml")
    before = sorted(file.relative_to(run) for file in run.rglob("*"))
    with pytest.raises(UserError, match=str(path)):
        prepare_folder(recipe, run, "cpu", resume)
    assert sorted(file.relative_to(run) for file in run.rglob("*")) == before
