"""Models that travel: what `sccs export` writes, that it loads anywhere, and what damage is answered with."""

import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml

import sccs
from registry.base import UserError
from sccs.cli import main as command
from sccs.data.volumes import Dataset, LabelCodes, Volume
from sccs.evaluation.naming import read_names
from sccs.pipeline import Pipeline
from sccs.recipe import load_recipe
from sccs.sharing.export import portable

SMALL = {
    "description": "three greys",
    "features": "intensity",
    "graph": {"name": "superpixel", "pixels_per_superpixel": 64, "standardize": "none"},
    "embedder": "identity",
    "clusterer": {"name": "kmeans", "k": 3},
    "device": "cpu",
}
PLUGIN = """
from registry.base import FeatureMap, Features


class Half(Features):
    def extract(self, image):
        return FeatureMap(image[..., None] / 2, 1.0, 0.0, image.shape)


SCCS_COMPONENTS = {"features": {"half": Half}}
"""


def volume(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Image (2, 96, 100) uint8 of three greys and its labels 0, 1, 2."""
    labels = np.broadcast_to(np.digitize(np.arange(100), [33, 66]), (2, 96, 100)).astype(np.uint8)
    noise = np.random.default_rng(seed).normal(0, 8, labels.shape)
    return (60 + 60 * labels + noise).clip(0, 255).astype(np.uint8), labels


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A finished run on labelled volumes with absolute paths; one cluster has a name."""
    folder = tmp_path_factory.mktemp("training")
    for name, seed in (("a", 0), ("b", 1)):
        for suffix, array in zip(("", "_labels"), volume(seed)):
            tifffile.imwrite(folder / f"{name}{suffix}.tif", array)
    data = {"name": "volumes", "classes": {0: "dark", 1: "grey", 2: "bright"}}
    for part, name in (("train", "a"), ("test", "b")):
        data[part] = [
            {
                "image": str(folder / f"{name}.tif"),
                "labels": str(folder / f"{name}_labels.tif"),
                "voxel_size": [16, 8, 8],
            }
        ]
    (folder / "r.yaml").write_text(yaml.safe_dump({**SMALL, "data": data}))
    assert command(["run", str(folder / "r.yaml"), "--out", str(folder / "run")]) == 0
    assert command(["name", str(folder / "run"), "1=grey matter:#00ff00", "2=in|out"]) == 0
    return folder / "run"


@pytest.fixture(params=["folder", "out.zip"])
def exported(request, run, tmp_path) -> Path:
    out = tmp_path / request.param
    assert command(["export", str(run), str(out), "--licence", "CC-BY-4.0", "--author", "A. B."]) == 0
    return out


def contents(export: Path) -> dict[str, bytes]:
    if export.is_file():
        with zipfile.ZipFile(export) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    return {path.relative_to(export).as_posix(): path.read_bytes() for path in export.rglob("*") if path.is_file()}


# -------------------------------------------------------------------------------------------------------- the content
def test_every_file_has_its_hash(exported):
    files = contents(exported)
    assert {
        "README.md",
        "recipe.yaml",
        "classes.yaml",
        "metrics.json",
        "environment.json",
        "model/model.json",
        "model/clusterer.safetensors",
    } < set(files)
    listing = files.pop("SHA256SUMS").decode()
    assert listing == "".join(f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files))


def test_nothing_tells_where_the_model_was_trained(run, exported):
    assert any(str(run.parent).encode() in content for content in contents(run).values())
    for name, content in contents(exported).items():
        assert str(run.parent).encode() not in content, name
        assert b"/tmp" not in content and str(Path.cwd()).encode() not in content, name


def test_the_model_card_tells_what_the_model_is(exported):
    card = contents(exported)["README.md"].decode()
    for said in (
        "# three greys",
        "license: cc-by-4.0",
        "CC-BY-4.0",
        "A. B.",
        "16 x 8 x 8 nm",
        "a (2 fields of view)",
        "| 1 | grey matter |",
        "| 0 | - |",
        "| 2 | in\\|out |",
        "mapping `train`",
        "| **mean** | ",
        f"sccs {sccs.__version__}",
        "numpy ",
        "Not for diagnosis",
        "labels | not used in training",
    ):
        assert said in card, said


def test_the_recipe_can_be_read_again(exported, tmp_path):
    path = tmp_path / "again.yaml"
    path.write_bytes(contents(exported)["recipe.yaml"])
    recipe = load_recipe(path)
    assert recipe.clusterer.kwargs["k"] == 3 and recipe.data["train"][0]["image"] == str(tmp_path / "a.tif")


def test_the_same_run_gives_the_same_bytes(run, exported, tmp_path):
    again = tmp_path / f"again-{exported.name}"
    assert command(["export", str(run), str(again), "--licence", "CC-BY-4.0", "--author", "A. B."]) == 0
    assert contents(again) == contents(exported)
    if exported.is_file():
        assert again.read_bytes() == exported.read_bytes()


def test_an_export_can_be_exported_and_keeps_what_it_says(exported, tmp_path):
    again = tmp_path / "again"
    assert command(["export", str(exported), str(again)]) == 0
    assert contents(again) == contents(exported)


@pytest.mark.parametrize(
    "path, short",
    [
        ("/home/me/cells/a.tif", "a.tif"),
        ("/home/me/a.h5:/em/raw", "a.h5:/em/raw"),
        ("/d/a.zarr/em/s0", "a.zarr/em/s0"),
        ("/home/me/slices/*.tif", "slices/*.tif"),
        ("/home/me/slices/", "slices"),
        ("rel/a.tif", "rel/a.tif"),
        ("${DATA}/a.tif", "${DATA}/a.tif"),
        ("https://a.org/b/c.zarr", "https://a.org/b/c.zarr"),
        ("file:///home/me/a.zarr", "a.zarr"),
    ],
)
def test_paths_are_cut_down_to_names(path, short):
    assert portable({"x": [{"image": path}], "n": 3}) == {"x": [{"image": short}], "n": 3}


# ------------------------------------------------------------------------------------------------------------ loading
def test_it_segments_as_the_run_does_without_the_run(run, exported, tmp_path):
    image = volume(7)[0]
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    moved = Path(shutil.move(exported, moved))
    assert np.array_equal(sccs.load(moved).segment(image), sccs.load(run).segment(image))
    assert sccs.load(moved).info["voxel_size"] == [16, 8, 8]


def test_segment_takes_it_with_its_names(exported, tmp_path):
    tifffile.imwrite(tmp_path / "c.tif", volume(7)[0])
    assert command(["segment", str(exported), str(tmp_path / "c.tif"), str(tmp_path / "out.tif")]) == 0
    assert tifffile.imread(tmp_path / "out.tif").shape == (2, 96, 100)
    assert read_names(exported)[1] == {"name": "grey matter", "colour": "#00ff00"}
    with tifffile.TiffFile(tmp_path / "out.tif") as file:
        assert "grey matter" in str(file.pages[0].tags.values()) + str(file.imagej_metadata)


def test_a_zip_that_was_packed_as_a_folder_loads_too(run, tmp_path):
    assert command(["export", str(run), str(tmp_path / "folder")]) == 0
    shutil.make_archive(str(tmp_path / "repacked"), "zip", tmp_path, "folder")
    assert sccs.load(tmp_path / "repacked.zip").k == 3


def test_a_bare_model_folder_can_be_exported(run, tmp_path):
    shutil.copytree(run / "model", tmp_path / "saved")
    assert command(["export", str(tmp_path / "saved"), str(tmp_path / "out")]) == 0
    assert sccs.load(tmp_path / "out").k == 3
    assert "no labelled test volumes" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize(
    "name, harm, said",
    [
        ("model/clusterer.safetensors", "flip", "clusterer"),
        ("model/clusterer.safetensors", "remove", "clusterer"),
        ("recipe.yaml", "flip", "recipe.yaml"),
        ("SHA256SUMS", "flip", "SHA256SUMS|README.md"),
    ],
)
def test_damage_is_found_and_the_file_named(exported, tmp_path, name, harm, said):
    files = contents(exported)
    if harm == "flip":
        files[name] = files[name][:40] + bytes([files[name][40] ^ 1]) + files[name][41:]
    else:
        del files[name]
    damaged = tmp_path / ("damaged.zip" if exported.is_file() else "damaged")
    if exported.is_file():
        with zipfile.ZipFile(damaged, "w") as archive:
            for each, content in files.items():
                archive.writestr(each, content)
    else:
        for each, content in files.items():
            (damaged / each).parent.mkdir(parents=True, exist_ok=True)
            (damaged / each).write_bytes(content)
    with pytest.raises(UserError, match=f"({said}).* is missing or damaged"):
        sccs.load(damaged)


def test_zips_that_are_no_export_are_refused(tmp_path):
    (tmp_path / "text.zip").write_text("not a zip")
    with pytest.raises(UserError, match="not a readable zip"):
        sccs.load(tmp_path / "text.zip")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("a.txt", "a")
    with pytest.raises(UserError, match="has no SHA256SUMS"):
        sccs.load(tmp_path / "other.zip")
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr("SHA256SUMS", "0" * 64 + "  ../evil\n")
    with pytest.raises(UserError, match="SHA256SUMS is missing or damaged"):
        sccs.load(tmp_path / "evil.zip")
    assert not (tmp_path / "evil").exists()


# ------------------------------------------------------------------------------------------------------- other recipes
def saved(folder: Path, recipe: dict, data) -> Path:
    """A model trained and saved from Python."""
    Pipeline.from_recipe(recipe).fit(data).save(folder / "saved" / "model")
    return folder / "saved"


def test_plug_ins_travel_and_run_only_where_they_are_trusted(tmp_path, monkeypatch):
    plugin = tmp_path / "half.py"
    plugin.write_text(PLUGIN)
    model = saved(tmp_path, {**SMALL, "features": "half", "plugins": [str(plugin)]}, volume(0)[0])
    out = tmp_path / "out.zip"
    assert command(["export", str(model), str(out)]) == 0
    expected = sccs.load(model).segment(volume(3)[0])
    plugin.unlink()
    with pytest.raises(UserError, match="plugins/half.py.*SCCS_TRUST_PLUGINS=1"):
        sccs.load(out)
    code = "import sys, numpy, sccs; numpy.save(sys.argv[2], sccs.load(sys.argv[1]).segment(numpy.load(sys.argv[3])))"
    np.save(tmp_path / "image.npy", volume(3)[0])
    monkeypatch.setenv("SCCS_TRUST_PLUGINS", "1")
    subprocess.run([sys.executable, "-c", code, out, tmp_path / "found.npy", tmp_path / "image.npy"], check=True)
    assert np.array_equal(np.load(tmp_path / "found.npy"), expected)
    assert "plugins/half.py" in contents(out)["README.md"].decode()


def test_a_plug_in_that_is_gone_is_said(tmp_path, fails):
    plugin = tmp_path / "quarter.py"
    plugin.write_text(PLUGIN.replace("half", "quarter").replace("Half", "Quarter"))
    model = saved(tmp_path, {**SMALL, "features": "quarter", "plugins": [str(plugin)]}, volume(0)[0])
    plugin.unlink()
    fails(["export", model, tmp_path / "out"], "quarter.py", "no longer exists")
    assert not (tmp_path / "out").exists()


def test_supervised_recipes_say_that_labels_took_part(tmp_path):
    image, labels = volume(0)
    codes = LabelCodes({0: "dark", 1: "grey", 2: "bright"})
    data = Dataset("greys", [Volume("a", image, labels=labels, codes=codes)], [], codes.classes)
    model = saved(tmp_path, {**SMALL, "clusterer": {"name": "linear_probe", "k": 3}}, data)
    assert command(["export", str(model), str(tmp_path / "out")]) == 0
    assert np.array_equal(sccs.load(tmp_path / "out").segment(image), sccs.load(model).segment(image))
    assert "**used in training**, by linear_probe" in (tmp_path / "out" / "README.md").read_text()


def test_what_is_synthetic_is_called_so(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    path = tmp_path / "run" / "model" / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "data": "phantom"}))
    assert command(["export", str(tmp_path / "run"), str(tmp_path / "out")]) == 0
    assert "Test volumes of phantom (synthetic images)" in (tmp_path / "out" / "README.md").read_text()


# ----------------------------------------------------------------------------------------------------------- refusals
def test_an_existing_output_is_refused_and_replaced_when_asked(run, exported, fails):
    before = contents(exported)
    fails(["export", run, exported], "already exists", "--overwrite")
    assert contents(exported) == before
    assert command(["export", str(run), str(exported), "--overwrite"]) == 0
    assert contents(exported) != before  # without the licence


def test_only_an_export_is_ever_written_over(run, tmp_path, fails):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    (tmp_path / "notes.txt").write_text("")
    fails(["export", run, tmp_path / "mine", "--overwrite"], "not an export")
    fails(["export", run, run, "--overwrite"], "not an export")
    fails(["export", run, tmp_path / "notes.txt", "--overwrite"], "not a zip")
    fails(["export", run, tmp_path / "encoder.onnx"], "a folder or a zip")
    assert command(["export", str(run), str(tmp_path / "out")]) == 0
    (tmp_path / "out" / "notes.txt").write_text("")
    fails(["export", run, tmp_path / "out", "--overwrite"], "notes.txt")
    assert (tmp_path / "mine" / "thesis.tex").exists() and (run / "report.html").exists()


def test_what_is_no_run_is_refused_and_leaves_nothing(run, tmp_path, fails):
    for name in ("nowhere", "empty"):
        fails(["export", tmp_path / name, tmp_path / "out"], name, "no trained model")
        (tmp_path / "empty").mkdir(exist_ok=True)
    (tmp_path / "pretrained" / "model").mkdir(parents=True)
    (tmp_path / "pretrained" / "model" / "mae.safetensors").write_bytes(b"")
    fails(["export", tmp_path / "pretrained", tmp_path / "out"], "a pre-training", "mae.safetensors")
    shutil.copytree(run, tmp_path / "half")
    (tmp_path / "half" / "model" / "clusterer.safetensors").write_bytes(b"half")
    fails(["export", tmp_path / "half", tmp_path / "out.zip"], "damaged")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "half", "pretrained"]


def test_an_export_is_not_named_or_compared(exported, fails):
    fails(["name", exported, "1=dark"], "an export, not a run")
    fails(["compare", exported], "an export, not a run")
