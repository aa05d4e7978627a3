"""Labels that teach nothing, clusters that are not there, damaged files: one line each, and nothing changes."""

import json
import shutil

import numpy as np
import pytest
import tifffile
import yaml

from registry.base import UserError
from sccs.recipe.named import read_state
from sccs.system.tensors import read_arrays, write_arrays
from tests.sccs.test_steps import SHAPE, clicks, folder, go, scene, taught, teach, trained, write  # noqa: F401

CODES = scene(0)[1]


def some(code: int, where=(0, 50, 50)) -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    labels[where] = code
    return labels


def both(code: int) -> np.ndarray:
    return some(1, (0, 30, 30)) + some(code, (0, 90, 150))


@pytest.mark.parametrize(
    "labels, says",
    [
        (
            np.ones((2, 120, 199), np.uint8),
            "labels have shape (2, 120, 199) (z, y, x), but the image has (2, 120, 200)",
        ),
        (both(7), "class 7 has no name; give it one with --name 7=nucleus"),
        (some(1), "all labels have the same class, 'nucleus'"),
        (some(0), "touch no superpixel"),
        (some(255), "touch no superpixel"),
        (both(2).astype(np.float32), "labels are float32, but class codes are integers"),
        (both(2).astype(np.uint16) * 300, "class codes are 1 to 254, not 600"),
    ],
)
def test_label_images(folder, trained, fails, labels, says):  # noqa: F811
    write(folder / "few.tif", labels)
    fails(["teach", folder / "run", folder / "few.tif", "--image", trained / "a.tif"], says)
    assert not (folder / "run" / "history").exists() and read_state(folder / "run").teacher is None


@pytest.mark.parametrize(
    "text, says",
    [
        ("0,0,0,nucleus\n", "line 1: no column 'z'; write the line z,y,x,class above the points"),
        ("z,y,x,class\n0,a,0,nucleus\n", "line 2: y is 'a', but coordinates are whole numbers of voxels"),
        ("z,y,x,class\n0,1,nan,nucleus\n", "line 2: x is 'nan'"),
        ("z,y,x,class\n0,1\n", "line 2: 2 values for 4 columns"),
        ("z,y,x,class\n0,1,1,9\n", "line 2: class 9 has no name"),
        ("z,y,x,class\n0,1,1,nucleus\n0,500,1,rest\n", "a label at z=0 y=500 x=1 lies outside the image of shape"),
        ("z,y,x,class\n0,1,1,\n", "points.csv: no row has a class: fill in the column `class`"),
        ("z,y,x,class\n0,1,1,nucleus\n", "does not say which image its points belong to"),
        ("z,y,x,class,image\n0,1,1,nucleus,c\n", "the run has no image 'c'"),
    ],
)
def test_tables(folder, trained, fails, text, says):  # noqa: F811
    (folder / "points.csv").write_text(text)
    image = [] if "image" in says and "shape" not in says else ["--image", trained / "a.tif"]
    fails(["teach", folder / "run", folder / "points.csv", *image], says)
    assert not (folder / "run" / "history").exists()


def test_labels_that_may_be_of_two_images_or_of_none_ask_which(folder, trained, fails):  # noqa: F811
    fails(["teach", folder / "run", folder / "few.tif"], "2 images of the run have this shape", "--image")
    write(folder / "few.tif", np.ones((1, 90, 90), np.uint8))
    fails(["teach", folder / "run", folder / "few.tif"], "but the run's images have", "--image")


def test_a_place_that_the_run_leaves_out_is_told(trained, tmp_path, fails):  # noqa: F811
    shutil.copytree(trained / "run", tmp_path / "run")
    path = tmp_path / "run" / "resolved.yaml"
    content = yaml.safe_load(path.read_text())
    content["data"]["test"][0]["region"] = {"x": [0, 120]}
    path.write_text(yaml.safe_dump(content))
    (tmp_path / "p.csv").write_text("z,y,x,class,image\n0,1,1,nucleus,b\n1,5,150,rest,b\n")
    fails(["teach", tmp_path / "run", tmp_path / "p.csv"], "z=1 y=5 x=150 lies outside the run's region", "--image")


def test_a_run_that_was_trained_again_since(taught, trained, fails):  # noqa: F811
    from safetensors.numpy import load_file, save_file

    path = taught / "run" / "model" / "clusterer.safetensors"
    state = load_file(path)
    save_file({**state, "centroids": state["centroids"] + np.float32(0.01)}, path)
    says = "its model has changed since it was taught"
    fails(["segment", taught / "run", trained / "b.tif", taught / "o.tif", "--classes"], says, "--anew", "sccs undo")
    fails(["teach", taught / "run", taught / "few.tif", "--image", trained / "a.tif"], says)
    assert teach(taught, trained, "--anew") == 0
    assert go("segment", taught / "run", trained / "b.tif", taught / "o.tif", "--classes") == 0


def test_nothing_was_taught_yet(folder, trained, fails):  # noqa: F811
    out = ["segment", folder / "run", trained / "b.tif", folder / "o.tif"]
    fails([*out, "--probabilities", folder / "p.ome.zarr"], "has not been taught", "sccs teach")
    fails([*out, "--classes"], "no names yet")
    assert not (folder / "o.tif").exists()


@pytest.mark.parametrize(
    "head, says",
    [
        ("kmeans", "cannot learn from a few labels; choose one of label_spreading"),
        ("sparse_tree", "--head sparse_tree: no such head; did you mean 'sparse_trees'? choose one of"),
    ],
)
def test_another_head(folder, trained, fails, head, says):  # noqa: F811
    image = ["--image", trained / "a.tif"]
    fails(["teach", folder / "run", folder / "few.tif", *image, "--name", "3=rest", "--head", head], says)


def test_clusters_that_cannot_be_split_or_merged(folder, fails):  # noqa: F811
    run = folder / "run"
    fails(["split", run, 9, "--into", 2], "no cluster 9; the run has 0, 1, 2, 3")
    fails(["merge", run, 1], "give two or more different clusters")
    fails(["merge", run, 1, 1], "different clusters")
    fails(["split", run, 1, "--into", 254], "of 255 cluster numbers are taken")
    assert go("merge", run, 0, 1) == 0
    fails(["split", run, 1, "--into", 2], "no cluster 1; the run has 0, 2, 3")
    fails(["name", run / "nowhere", "1=x"], "no such run folder")


@pytest.mark.parametrize("damage", ["gone", "cut", "bytes", "json", "names", "kind", "trees"])
def test_a_damaged_teacher_is_one_line(taught, trained, fails, damage):  # noqa: F811
    stem = taught / "run" / read_state(taught / "run").teacher
    arrays, about = stem.with_suffix(".safetensors"), stem.with_suffix(".json")
    content = json.loads(about.read_text())
    if damage == "gone":
        arrays.unlink()
    elif damage == "cut":
        arrays.write_bytes(arrays.read_bytes()[:-100])
    elif damage == "bytes":
        data = bytearray(arrays.read_bytes())
        data[-5] ^= 255
        arrays.write_bytes(data)
    elif damage == "json":
        about.write_text("{")
    elif damage == "names":
        about.write_text(json.dumps({**content, "classes": content["classes"][:2]}))
    elif damage == "kind":
        about.write_text(json.dumps({**content, "head": "kmeans"}))
    else:
        about.write_text(json.dumps({**content, "arguments": {**content["arguments"], "trees": "many"}}))
    fails(["segment", taught / "run", trained / "b.tif", taught / "o.tif", "--classes"], "teacher")
    assert not (taught / "o.tif").exists()
    assert go("undo", taught / "run") == 0


def test_exports_are_taught_in_the_run_that_they_came_from(taught, trained, fails):  # noqa: F811
    assert go("export", taught / "run", taught / "out") == 0
    fails(["teach", taught / "out", taught / "few.tif", "--image", trained / "a.tif"], "an export, not a run")


def test_probabilities_take_no_place_of_others(taught, trained, fails):  # noqa: F811
    run, image, out = taught / "run", trained / "b.tif", taught / "o.ome.zarr"
    fails(["segment", run, image, out, "--probabilities", out], "OUTPUT")
    fails(
        ["segment", run, image, taught / "o.tif", "--probabilities", taught / "p.tif"], "a name that ends in .ome.zarr"
    )
    fails(["segment", run, image, out, "--probabilities", out / "p.ome.zarr"], "overlaps with OUTPUT")
    fails(["segment", run, image, out / "o.tif", "--probabilities", out], "overlaps with OUTPUT")
    assert tifffile.imread(image).shape == SHAPE


@pytest.mark.parametrize("option", ["--out", "--page"])
def test_suggestions_take_the_place_of_no_image(folder, trained, fails, option):  # noqa: F811
    shutil.copy(trained / "a.tif", folder / "a.tif")
    (folder / "link").hardlink_to(folder / "a.tif")
    before = (folder / "a.tif").read_bytes()
    suggest = ["suggest", folder / "run", "--overwrite"]
    fails([*suggest, "--image", folder / "a.tif", option, folder / "link"], "is the image", "never overwritten")
    fails([*suggest, "--image", trained / "a.tif", option, folder / "a.tif"], "is not a text file")
    fails([*suggest, option, folder / "run" / "classes.yaml"], "lies in RUN")
    assert (folder / "a.tif").read_bytes() == before
    fails([*suggest, "--out", folder / "x", "--page", folder / "x"], "given as both --out and --page")


@pytest.mark.parametrize("key, value", [("weights", np.float16), ("weights", np.inf), ("mean", np.nan)])
def test_coordinates_of_a_teacher_that_are_no_numbers(taught, trained, fails, key, value):  # noqa: F811
    path = (taught / "run" / read_state(taught / "run").teacher).with_suffix(".safetensors")
    arrays, _ = read_arrays(path)
    of = f"coordinates.{key}"
    arrays[of] = arrays[of].astype(value) if value is np.float16 else np.full_like(arrays[of], value)
    write_arrays(path, arrays)
    fails(["segment", taught / "run", trained / "b.tif", taught / "o.tif", "--classes"], "teacher.json: damaged")


def test_steps_without_numbers_left_and_names_of_other_digits(folder, fails):  # noqa: F811
    history = folder / "run" / "history"
    (history / "٠٠٠٩").mkdir(parents=True)
    assert go("name", folder / "run", "0=a") == 0 and (history / "0001").is_dir()
    step = json.loads((history / "0001" / "step.json").read_text())
    (history / "0001").rename(history / "99999999")
    (history / "99999999" / "step.json").write_text(json.dumps({**step, "number": 99_999_999}))
    fails(["name", folder / "run", "0=b"], "there is no number after 99999999")
    (history / "99999999" / "step.json").unlink()
    fails(["history", folder / "run"], "step.json: cannot be read", "move its folder `history` away")


def test_a_command_in_the_history_is_one_line(folder, capsys):  # noqa: F811
    assert go("name", folder / "run", "0=a") == 0
    path = folder / "run" / "history" / "0001" / "step.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "command": "a\n  2  b"}))
    capsys.readouterr()
    assert go("history", folder / "run") == 0
    assert capsys.readouterr().out.endswith("  a\\n  2  b\n")


@pytest.mark.parametrize(
    "edits",
    [
        {"k": 9, "edits": []},
        {"edits": [{"of": [1], "to": [1, 254]}]},
        {"edits": [{"of": [1], "to": [1, 1]}]},
        {"edits": [{"of": [7], "to": [1]}]},
    ],
)
def test_edits_that_do_not_fit_the_model(folder, trained, fails, edits):  # noqa: F811
    assert go("split", folder / "run", 1, "--into", 2) == 0
    path = folder / "run" / "history" / "0001" / "edits.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **edits}))
    fails(["segment", folder / "run", trained / "b.tif", folder / "o.tif"], "edits.json: ", "sccs undo", "`edits:`")


@pytest.mark.parametrize("harm", ["cut", "folder"])
@pytest.mark.parametrize(
    "name", ["graphs.json", "environment.json", "tables.json", "tables_taught.json", "timing.json", "report.html"]
)
def test_a_step_on_a_damaged_run_changes_nothing(taught, trained, fails, name, harm):  # noqa: F811
    """What a step would fail to update afterwards is told before it is recorded, so that repeating it is safe."""
    run, path = taught / "run", taught / "run" / name
    if harm == "folder":
        path.unlink(missing_ok=True)
        path.mkdir()
    elif name == "report.html":
        pytest.skip("it is only written")
    else:
        path.write_text('{"a": 1')
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    for step in (
        ["undo", run],
        ["merge", run, 0, 1],
        ["split", run, 1, "--into", 2],
        ["name", run, "1=other"],
        ["teach", run, taught / "few.tif", "--image", trained / "a.tif"],
        ["suggest", run, "--page"],
    ):
        fails(step, name)
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before


def test_an_update_that_fails_after_a_step_says_that_the_step_counts(folder, fails, monkeypatch):  # noqa: F811
    def full(*_):
        raise UserError("no space left")

    monkeypatch.setattr("sccs.steps.remake_products", full)
    fails(["merge", folder / "run", 0, 1], "no space left (the step took effect", "sccs history")
    monkeypatch.undo()
    assert go("undo", folder / "run") == 0 and read_state(folder / "run").edits is None


@pytest.mark.parametrize(
    "names, says",
    [
        (["300=x", "2=y"], "--name: class codes are 1 to 254, not 300"),
        (["255=x", "2=y"], "--name: class codes are 1 to 254, not 255"),
        (["0=x"], "--name: class codes are 1 to 254, not 0"),
        (["1=", "2=y"], "--name: code 1 has no name"),
    ],
)
def test_names_of_codes_that_no_label_can_have(folder, trained, fails, names, says):  # noqa: F811
    fails(["teach", folder / "run", folder / "few.tif", "--image", trained / "a.tif", "--name", *names], says)
    assert not (folder / "run" / "history").exists()


@pytest.mark.parametrize("code", [255, 300])
def test_codes_in_a_table_that_no_label_can_have(folder, trained, fails, code):  # noqa: F811
    (folder / "points.csv").write_text(f"z,y,x,class\n0,1,1,{code}\n")
    says = f"line 2: class codes are 1 to 254, not {code}"
    fails(["teach", folder / "run", folder / "points.csv", "--image", trained / "a.tif"], says)


def test_a_merged_cluster_takes_no_name_and_is_not_listed(folder, fails, capsys):  # noqa: F811
    run = folder / "run"
    assert go("merge", run, 0, 1) == 0
    fails(["name", run, "1=ghost"], "1=ghost: cluster 1 was merged into another")
    capsys.readouterr()
    assert go("name", run) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["0", "2", "3"]


def test_a_merged_cluster_is_in_no_legend(folder, trained):  # noqa: F811
    run, out = folder / "run", folder / "out.zarr"
    assert go("merge", run, 0, 1) == 0
    assert go("segment", run, trained / "a.tif", out) == 0
    kept = [json.loads(path.read_text())["attributes"] for path in out.rglob("zarr.json")]
    (label,) = [each["ome"]["image-label"] for each in kept if "image-label" in each.get("ome", {})]
    assert sorted(each["label-value"] for each in label["properties"]) == [0, 2, 3, 255]
    assert 1 not in [each["label-value"] for each in label["colors"]]
    with tifffile.TiffFile(run / "segmentation" / "a_clusters.tif") as file:
        assert [line.split(" = ")[0] for line in file.imagej_metadata["Info"].split("\n")] == ["0", "2", "3", "255"]
