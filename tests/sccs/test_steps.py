"""Teach, split, merge, name, take back: what a person does to a run, by commands, and the same pixels everywhere."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml

import sccs
from sccs import steps
from sccs.cli import main as command
from sccs.model.teacher import Teacher
from sccs.recipe import history
from sccs.recipe.named import read_state
from sccs.report.figures import read_run

SHAPE = (2, 120, 200)  # three fields of view in a row
RECIPE = {
    "features": "filters",
    "graph": {"name": "superpixel", "pixels_per_superpixel": 64, "edges": "knn+adjacent", "neighbours": 4},
    "embedder": {"name": "lgc_principal", "u": 3, "hops": 1},
    "clusterer": {"name": "kmeans", "k": 4},
    "device": "cpu",
}
NAMES = {1: "nucleus", 2: "mitochondria"}


def scene(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Image uint8 of three greys under noise, and codes 0 (rest), 1, 2 that fill it."""
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    wave = np.sin(x / 14 + seed) + np.sin(y / 12 + z / 3)
    codes = np.where(wave > 0.6, 1, np.where(wave < -0.8, 2, 0)).astype(np.uint8)
    grey = np.array([120, 60, 190])[codes] + np.random.default_rng(seed).normal(0, 18, SHAPE)
    return grey.clip(0, 255).astype(np.uint8), codes


def clicks(codes: np.ndarray, n: int = 6, seed: int = 0) -> np.ndarray:
    """Labels of single pixels, n of each class, with codes 1, 2, 3; the third is the rest."""
    labels, rng = np.zeros_like(codes), np.random.default_rng(seed)
    for code, given in ((1, 1), (2, 2), (0, 3)):
        places = np.argwhere(codes == code)
        labels[tuple(places[rng.choice(len(places), n, replace=False)].T)] = given
    return labels


def write(path: Path, array: np.ndarray) -> Path:
    tifffile.imwrite(path, array, photometric="minisblack")
    return path


def go(*arguments) -> int:
    return command([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with a finished run, its images a.tif and b.tif, and labels few.tif of the first."""
    folder = tmp_path_factory.mktemp("steps")
    data: dict = {"name": "volumes", "fov": 120, "classes": {0: "rest", **NAMES}}
    for part, name, seed in (("train", "a", 0), ("test", "b", 1)):
        image, codes = scene(seed)
        write(folder / f"{name}.tif", image)
        write(folder / f"{name}_labels.tif", codes)
        data[part] = [{"image": f"{name}.tif", "labels": f"{name}_labels.tif", "voxel_size": [8, 8, 8]}]
    write(folder / "few.tif", clicks(scene(0)[1]))
    (folder / "recipe.yaml").write_text(yaml.safe_dump({**RECIPE, "data": data}))
    assert go("run", folder / "recipe.yaml", "--out", folder / "run") == 0
    return folder


@pytest.fixture
def folder(trained, tmp_path) -> Path:
    """The same, to be changed; the run's images stay where they are."""
    shutil.copytree(trained / "run", tmp_path / "run")
    shutil.copy(trained / "few.tif", tmp_path)
    return tmp_path


@pytest.fixture
def taught(folder, trained) -> Path:
    assert teach(folder, trained) == 0
    return folder


def teach(folder: Path, trained: Path, *options) -> int:
    image = ["--image", trained / "a.tif"]
    return go("teach", folder / "run", folder / "few.tif", *image, "--name", "3=rest", *options)


def clusters(run: Path, name: str = "a") -> np.ndarray:
    return tifffile.imread(run / "segmentation" / f"{name}_clusters.tif")


def test_a_few_clicks_find_the_classes_of_another_image(taught):
    image, codes = scene(1)
    found = sccs.load(taught / "run").predict(image)
    assert (found == codes).mean() > 0.85
    assert set(np.unique(found)) <= {0, 1, 2}  # the codes of the run's data, by name


def test_command_blocks_python_and_report_show_the_same_classes_and_probabilities(taught, trained, tmp_path):
    zarr = pytest.importorskip("zarr")
    run, image, size = taught / "run", trained / "b.tif", ["--voxel-size", 8, 8, 8]
    model = sccs.load(run)
    codes, P = model.predict(scene(1)[0]), model.predict_proba(scene(1)[0])
    for output, options in (("o.tif", []), ("o.ome.zarr", ["--block", 1, 1, 1])):
        p = tmp_path / f"p_{output.replace('.', '_')}.ome.zarr"
        assert go("segment", run, image, tmp_path / output, "--classes", "--probabilities", p, *size, *options) == 0
        stored = zarr.open_array(p / "0", mode="r")[:]
        assert (np.moveaxis(stored[:-1], 0, -1) == np.rint(255 * P)).all()
        two = np.sort(P, -1)[..., -2:]
        assert (stored[-1] == np.rint(255 * (1 - (two[..., 1] - two[..., 0])))).all()
    assert (tifffile.imread(tmp_path / "o.tif") == codes).all()
    assert (zarr.open_array(tmp_path / "o.ome.zarr" / "labels" / "classes" / "0", mode="r")[:] == codes).all()
    seen = read_run(run)
    view = next(view for view in seen.views if view.volume == "b")
    names = ["rest", *NAMES.values()]
    assert seen.rule == "taught" and (view.class_image(seen.class_of_cluster, names) == codes[view.z]).all()


def test_an_export_knows_what_the_run_was_taught(taught, tmp_path):
    run, out = taught / "run", tmp_path / "out.zip"
    assert go("export", run, out) == 0
    one, other = sccs.load(run), sccs.load(out)
    assert other.classes_ == one.classes_
    assert (other.predict_proba(scene(1)[0]) == one.predict_proba(scene(1)[0])).all()


def test_teaching_in_python_does_what_the_command_does(taught, trained):
    run = taught / "run"
    model = sccs.Pipeline.load(run, taught=False)
    with pytest.raises(Exception, match="not been taught yet"):
        model.predict(scene(1)[0])
    model.teach(clicks(scene(0)[1]), scene(0)[0], classes={3: "rest"})
    assert (model.predict_proba(scene(1)[0]) == sccs.load(run).predict_proba(scene(1)[0])).all()
    assert model.classes_ == sccs.load(run).classes_


@pytest.mark.slow
def test_points_in_a_table_are_labels_too_and_more_labels_add_up(folder, trained):
    run, labels = folder / "run", clicks(scene(0)[1])
    rows = ["z,y,x,class,image"]
    rows += [f"{z},{y},{x},{['', 'Nucleus', '2', 'rest'][labels[z, y, x]]},a" for z, y, x in np.argwhere(labels)]
    rows += ["0,0,0,,a"]  # nobody answered
    (folder / "points.csv").write_text("\n".join(rows) + "\n")
    assert go("teach", run, folder / "points.csv") == 0
    by_points = Teacher.read(run / read_state(run).teacher)
    assert teach(folder, trained, "--anew") == 0
    by_image = Teacher.read(run / read_state(run).teacher)
    assert {c.name.lower() for c in by_points.classes} == {c.name.lower() for c in by_image.classes}
    assert len(by_points.head.points_) == len(by_image.head.points_) > 0
    write(folder / "few.tif", clicks(scene(0)[1], seed=5))
    assert teach(folder, trained) == 0
    assert len(Teacher.read(run / read_state(run).teacher).head.points_) > len(by_image.head.points_)


def test_a_split_parts_one_cluster_the_same_way_in_all_images(folder):
    run = folder / "run"
    assert go("name", run, "1=nucleus") == 0
    before = {name: clusters(run, name) for name in "ab"}
    assert go("split", run, 1, "--into", 3) == 0
    model, parts = sccs.load(run), {1, 4, 5}
    assert model.k == json.loads((run / "metrics.json").read_text())["k"] == 6
    for name, seed in (("a", 0), ("b", 1)):
        after = clusters(run, name)
        assert np.isin(after[before[name] == 1], sorted(parts)).mean() > 0.98  # borders of fields may move
        assert (model.segment(scene(seed)[0]) == after).all()
    assert parts <= set(np.unique(clusters(run, "a")))
    assert {c: entry["name"] for c, entry in read_state(run).clusters.items()} == dict.fromkeys(parts, "nucleus")


def test_a_merge_gives_one_cluster_the_others_superpixels_and_a_name(folder):
    run = folder / "run"
    assert go("name", run, "3=nucleus", "0=rest") == 0
    before = clusters(run)
    assert go("merge", run, 2, 3) == 0
    view = next(view for view in read_run(run).views if view.volume == "a")
    assert 3 not in view.clusters and 3 not in clusters(run)
    assert ((clusters(run) == 2) == ((before == 2) | (before == 3))).mean() > 0.98  # borders of fields may move
    assert {c: entry["name"] for c, entry in read_state(run).clusters.items()} == {0: "rest", 2: "nucleus"}


@pytest.mark.slow
def test_every_step_is_taken_back_one_by_one(folder, trained, capsys):
    run = folder / "run"
    before, segmented = {}, clusters(run)
    for step in (
        lambda: go("name", run, "0=rest"),
        lambda: go("split", run, 1, "--into", 2),
        lambda: go("merge", run, 0, 2),
        lambda: teach(folder, trained),
        lambda: go("name", run, "0="),
    ):
        before[len(before)] = (run / "classes.yaml").read_text() if (run / "classes.yaml").exists() else None
        assert step() == 0
    capsys.readouterr()
    assert go("history", run) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[3] for line in lines] == ["name", "split", "merge", "teach", "name"]
    for number in (4, 3, 2, 1, 0):
        assert go("undo", run) == 0
        assert ((run / "classes.yaml").read_text() if (run / "classes.yaml").exists() else None) == before[number]
    assert (clusters(run) == segmented).all() and history.steps(run) == []
    assert go("undo", run) == 2 and not history.is_behind(run)  # refused before anything changes


def test_what_no_label_touched_keeps_its_name_where_the_teacher_is_unsure(folder, trained):
    run = folder / "run"
    assert go("name", run, *(f"{c}=vesicles" for c in range(4))) == 0
    assert teach(folder, trained) == 0
    model = sccs.load(run)
    assert "vesicles" in model.classes_
    taught = model.taught
    P = np.array([[0.9, 0.06, 0.04], [0.34, 0.33, 0.33]], np.float32)
    classes = taught.blended(P, np.array([0, 0])).argmax(1)
    assert taught.names[classes[0]] == taught.names[0] and taught.names[classes[1]] == "vesicles"


def test_suggestions_are_answered_in_the_table_that_they_come_in(folder, trained, capsys):
    run, codes = folder / "run", scene(0)[1]
    assert go("suggest", run, "-n", 12, "--out", folder / "ask.csv") == 0
    for _ in range(2):
        rows = (folder / "ask.csv").read_text().splitlines()
        assert rows[0] == "z,y,x,class,image" and len(rows) == 13
        answered = [rows[0]]
        for row in rows[1:]:
            z, y, x, given, image = row.split(",")
            assert (given, image) == ("", "a")
            answered.append(f"{z},{y},{x},{['rest', 'nucleus', 'mitochondria'][codes[int(z), int(y), int(x)]]},{image}")
        (folder / "ask.csv").write_text("\n".join(answered) + "\n")
        assert go("teach", run, folder / "ask.csv") == 0
        assert go("suggest", run, "-n", 12, "--out", folder / "ask.csv") == 2  # it is there already
        assert go("suggest", run, "-n", 12, "--out", folder / "ask.csv", "--overwrite") == 0
        assert not {row[:-2] for row in answered[1:]} & set((folder / "ask.csv").read_text().splitlines())
    assert len(set(sccs.load(run).classes_)) == 3
    capsys.readouterr()
    assert go("suggest", run, "-n", 3, "--image", trained / "b.tif") == 0
    assert len(capsys.readouterr().out.splitlines()) == 4


@pytest.mark.slow
def test_class_files_follow_names_splits_and_what_was_taught(folder, trained, tmp_path):
    run = folder / "run"
    by_mapping = classes_of(run)
    steps = [
        lambda: go("name", run, "0=Nucleus", "3=vesicles"),
        lambda: go("split", run, 0, "--into", 2),
        lambda: teach(folder, trained),
        lambda: go("name", run, "3=", "1=rest"),
        lambda: go("merge", run, 1, 2),
    ]
    kept = []
    for number, step in enumerate(steps):
        assert step() == 0
        kept.append({name: classes_of(run, name) for name in "ab"})
        for name in "ab":
            out = tmp_path / f"{number}{name}.tif"
            image = [trained / f"{name}.tif", out, "--classes", "--voxel-size", 8, 8, 8]
            assert go("segment", run, *image) == 0
            assert (kept[-1][name] == tifffile.imread(out)).all()
    assert 3 in kept[0]["a"] and 3 not in by_mapping
    for before in reversed(kept[:-1]):
        assert go("undo", run) == 0
        assert all((classes_of(run, name) == before[name]).all() for name in "ab")
    assert go("undo", run) == 0 and (classes_of(run) == by_mapping).all()


def test_what_was_taught_is_scored_where_there_are_labels(taught):
    run = taught / "run"
    metrics = json.loads((run / "metrics.json").read_text())
    for part, name, seed in (("train", "a", 0), ("test", "b", 1)):
        found, codes = classes_of(run, name), scene(seed)[1]
        for code, of in {0: "rest", **NAMES}.items():
            dsc = 2 * ((found == code) & (codes == code)).sum() / ((found == code).sum() + (codes == code).sum())
            assert metrics[part]["taught"]["classes"][of]["dsc"] == pytest.approx(dsc)
    assert metrics["per_slice"]["taught"]["nucleus"]["n"] == SHAPE[0] and metrics["headline"] == "train"
    assert go("undo", run) == 0
    assert "taught" not in json.loads((run / "metrics.json").read_text())["test"]


def classes_of(run: Path, name: str = "a") -> np.ndarray:
    return tifffile.imread(run / "segmentation" / f"{name}_classes.tif")


def test_a_page_asks_what_the_table_asks_with_a_picture_of_each(folder, trained, capsys):
    run, page, table = folder / "run", folder / "ask.html", folder / "ask.csv"
    for doubted in (False, True):  # of clusters, then of a teacher
        assert go("suggest", run, "-n", 6, "--page", page, "--out", table, "--overwrite") == 0
        html, rows = page.read_text(), table.read_text().splitlines()[1:]
        asked = re.findall(r'data-place="([^"]*)" data-image="([^"]*)"', html)
        assert [f"{place},,{image}" for place, image in asked] == rows and len(rows) == 6
        assert html.count("data:image/webp") == 6 and '<option value="nucleus">' in html and "://" not in html
        assert ("doubt" in html) == doubted
        assert teach(folder, trained) == 0
    assert go("suggest", run, "--page", page) == 2 and "already exists" in capsys.readouterr().err
    for _ in range(2):  # that of the run is made anew each time
        assert go("suggest", run, "-n", 3, "--page") == 0
    assert 'href="suggestions.html"' in (run / "report.html").read_text()
    assert (run / "suggestions.html").read_text().count("data:image/webp") == 3


def test_a_superpixel_at_the_border_is_shown_whole(folder):
    for each in steps.suggest(folder / "run", 40):
        assert each.image.shape == each.mask.shape and max(each.mask.shape) <= 72 and each.mask.any()


@pytest.mark.parametrize("then", ["name", "teach", "undo"])
def test_what_a_killed_step_did_not_draw_the_next_command_draws(folder, trained, tmp_path, monkeypatch, capsys, then):
    whole = tmp_path / "whole"
    shutil.copytree(folder / "run", whole)
    steps_ = [["split", 1, "--into", 2]]
    if then == "undo":
        steps_ = [["name", "0=a"], *steps_]
    for step in steps_:
        assert go(step[0], whole, *step[1:]) == 0
        with monkeypatch.context() as patch:
            if step[0] == "split":
                patch.setattr(steps, "remake_products", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            assert go(step[0], folder / "run", *step[1:]) == (130 if step[0] == "split" else 0)
    assert (clusters(folder / "run") != clusters(whole)).any()
    capsys.readouterr()
    assert go("history", folder / "run") == 0
    assert "do not show the last step" in capsys.readouterr().err
    if then == "undo":  # of the split, then of the name
        assert go("undo", folder / "run") == go("undo", whole) == 0
    elif then == "name":
        assert go("name", folder / "run", "0=a") == 0
    else:
        assert teach(folder, trained) == 0
    assert (clusters(folder / "run") == clusters(whole)).all()
    assert go("history", folder / "run") == 0
    assert "do not show" not in capsys.readouterr().err
