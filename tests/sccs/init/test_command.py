"""`sccs init`: what it says, which recipe it writes, that the recipe runs, and how it reports unusual input."""

import re

import numpy as np
import pytest
import tifffile
import yaml

from registry.base import UserError
from registry.features.contrast import Contrast
from sccs.cli import main
from sccs.data.readers import open_image
from sccs.init import recipe
from sccs.init.command import init
from sccs.init.cost import TRIED, measure
from sccs.init.plan import make_plan
from sccs.init.recipe import shown_path
from sccs.recipe import load_recipe
from tests.sccs.survey_files import phantom_levels, volume, write_n5, write_ome_zarr, write_stacks

FAST = ["features=intensity", "embedder=identity", "clusterer={name: kmeans, k: 3}", "graph.pixels_per_superpixel=64"]


@pytest.fixture
def cells(tmp_path, monkeypatch):
    """Folder of three stacks, named from the current one."""
    monkeypatch.chdir(tmp_path)
    return write_stacks(tmp_path / "cells")


@pytest.fixture(scope="module")
def levels():
    return phantom_levels()


@pytest.fixture
def small_parts(monkeypatch, tmp_path):
    """The recipe that `sccs init` extends is a tiny one."""
    parent = tmp_path / "tiny.yaml"
    parent.write_text("extends: kmeans\nfeatures: intensity\n")
    monkeypatch.setattr(recipe, "PARENT", str(parent))


def test_a_folder_of_volumes_some_to_train_the_rest_to_segment_and_the_recipe_runs(cells, small_parts, capsys):
    assert main(["init", "cells", "--voxel-size", "40", "8", "8"]) == 0
    said = capsys.readouterr().out
    for words in (
        "a.tif: 6 x 96 x 100 (z, y, x), uint8",
        "a_labels.tif: labels, judging by its name",
        "notes.txt",
        "GiB free",
        "megapixels",
        "sccs run cells.yaml",
    ):
        assert words in said, words
    data = load_recipe("cells.yaml").data
    assert [entry["image"][-5:] for entry in data["train"]] == ["a.tif", "b.tif"]
    assert [entry["image"][-5:] for entry in data["test"]] == ["c.tif"]
    assert tuple(data["test"][0]["voxel_size"]) == (40, 8, 8)
    assert main(["run", "cells.yaml", "--out", "run", "--set", *FAST]) == 0
    assert tifffile.imread("run/segmentation/c_clusters.tif").max() <= 2


def test_the_recipe_names_paths_relative_to_itself(cells, small_parts):
    init("cells", "cells/my.yaml")
    assert yaml.safe_load((cells / "my.yaml").read_text())["data"]["test"][0]["image"] == "c.tif"
    assert shown_path("cells/c.tif", cells.parent / "elsewhere") == str(cells / "c.tif")


def test_unknown_voxel_size_is_asked_for_in_the_recipe_and_said(cells, small_parts, capsys):
    init("cells/a.tif")
    assert "voxel size unknown" in capsys.readouterr().out
    assert "# voxel_size: [Z, Y, X]" in (cells.parent / "a.yaml").read_text()


def test_an_existing_recipe_is_kept(cells, small_parts, capsys):
    (cells.parent / "cells.yaml").write_text("mine")
    assert main(["init", "cells"]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (cells.parent / "cells.yaml").read_text() == "mine"
    assert main(["init", "cells", "--overwrite"]) == 0
    assert "extends" in (cells.parent / "cells.yaml").read_text()


@pytest.mark.parametrize(
    "given, word",
    [
        ("nothing.tif", "no such file"),
        ("cells/notes.txt", "unknown image format"),
        ("empty", "no image to segment"),
        ("flat.tif", "is empty"),
        ("tiny.tif", "smaller than a window"),
    ],
)
def test_odd_input_is_answered_in_one_line_and_nothing_is_written(given, word, cells, capsys):
    (cells.parent / "empty").mkdir()
    tifffile.imwrite("flat.tif", np.full((3, 96, 96), 7, np.uint8), metadata={"axes": "ZYX"})
    tifffile.imwrite("tiny.tif", volume(shape=(9, 12)))
    assert main(["init", given, "--out", "r.yaml"]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line]
    assert word in line
    assert not (cells.parent / "r.yaml").exists()


def test_minutes_are_positive():
    with pytest.raises(UserError, match="positive"):
        init("x.tif", minutes=0)


PYRAMIDS = {
    "a4.ome.zarr": lambda path, levels: write_ome_zarr(path, levels, "0.4"),
    "a5.ome.zarr": lambda path, levels: write_ome_zarr(path, levels, "0.5"),
    "channels.ome.zarr": lambda path, levels: write_ome_zarr(path, levels, "0.4", "tczyx"),
    "inside.zarr": lambda path, levels: write_ome_zarr(path, levels, "0.5", inside="recon/em"),
    "organelle.n5": write_n5,
    "viewer.n5": lambda path, levels: write_n5(path, levels, organelle=False),
}


@pytest.mark.parametrize("name", PYRAMIDS)
def test_the_recipe_for_a_pyramid_takes_the_level_that_suits_and_runs(
    levels, name, tmp_path, monkeypatch, small_parts, capsys
):
    monkeypatch.chdir(tmp_path)
    PYRAMIDS[name](tmp_path / name, levels)
    assert main(["init", name, "--out", "r.yaml"]) == 0
    said = capsys.readouterr().out
    assert "level 1 chosen: its pixel size is closest to 12 nm" in said and "4 x 120 x 128 (z, y, x), uint8" in said
    assert main(["show", "r.yaml"]) == 0
    (entry,) = load_recipe("r.yaml").data["train"]
    assert (entry["level"], tuple(entry["voxel_size"]), entry["image"]) == (1, (30, 12, 12), str(tmp_path / name))
    capsys.readouterr()
    assert main(["run", "r.yaml", "--out", "run", "--set", *FAST]) == 0
    assert "3 of 3 clusters in use" in capsys.readouterr().err + (tmp_path / "run" / "log.txt").read_text()
    (labels,) = (tmp_path / "run" / "segmentation").glob("*_clusters.tif")
    assert open_image(labels).shape == (4, 120, 128) and open_image(labels).voxel_size == (30, 12, 12)


def test_a_name_with_line_ends_adds_nothing_to_the_recipe(cells, small_parts):
    (cells / "a.tif").rename(cells / "a\nplugins: [evil.py]\n#.tif")
    init("cells/a\nplugins: [evil.py]\n#.tif", "my.yaml")
    assert "plugins" not in yaml.safe_load((cells.parent / "my.yaml").read_text())


def test_auto_looks_trains_and_says_where_the_report_is(cells, small_parts, capsys, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    assert main(["auto", "cells/a.tif", "--voxel-size", "40", "8", "8", "--out", "run"]) == 0
    assert "report: run/report.html" in capsys.readouterr().out and (cells.parent / "run" / "report.html").exists()
    assert not opened  # as there is no terminal
    assert main(["auto", "cells/a.tif", "--out", "again"]) == 2 and not (cells.parent / "again").exists()
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert main(["auto", "cells/a.tif", "--recipe", "other.yaml", "--out", "again"]) == 0
    assert opened == [(cells.parent / "again" / "report.html").as_uri()]
    assert main(["auto", "cells/a.tif", "--overwrite", "--out", "third", "--no-open"]) == 0 and len(opened) == 1


def test_empty_background_gets_a_mask_that_the_recipe_names_and_the_run_heeds(
    tmp_path, monkeypatch, small_parts, capsys
):
    monkeypatch.chdir(tmp_path)
    image = volume(depth=2, shape=(96, 208))
    image[:, :, 104:] = np.random.default_rng(1).normal(230, 4, (2, 96, 104)).clip(0, 255)
    tifffile.imwrite("cell.tif", image, photometric="minisblack")
    assert main(["init", "cell.tif", "--voxel-size", "40", "8", "8"]) == 0
    said = capsys.readouterr().out
    assert "looks like empty background" in said and "cell_mask.tif" in said
    written = open_image("cell_mask.tif", codes=True)
    mask = np.asarray(written.array[:, :, :])
    assert mask.shape == image.shape and not mask[:, :, 128:].any() and mask[:, :, :80].all()
    assert written.voxel_size == (40, 8, 8)
    assert load_recipe("cell.yaml").data["train"][0]["mask"][-13:] == "cell_mask.tif"
    assert main(["run", "cell.yaml", "--out", "run", "--set", *FAST]) == 0
    labels = tifffile.imread("run/segmentation/cell_clusters.tif")
    assert ((labels == 255) == (mask == 0)).all()
    assert main(["init", "cell.tif", "--out", "all.yaml", "--no-mask"]) == 0
    assert "mask" not in yaml.safe_load((tmp_path / "all.yaml").read_text())["data"]["train"][0]


def test_a_mask_that_is_there_is_kept_unless_it_may_be_replaced(tmp_path, monkeypatch, small_parts):
    monkeypatch.chdir(tmp_path)
    image = volume(depth=1, shape=(96, 208))
    image[:, :, 104:] = 255
    tifffile.imwrite("cell.tif", image, photometric="minisblack")
    (tmp_path / "cell_mask.tif").write_text("mine")
    with pytest.raises(UserError, match="cell_mask.tif: already exists; choose another name with --out"):
        init("cell.tif")
    assert (tmp_path / "cell_mask.tif").read_text() == "mine" and not (tmp_path / "cell.yaml").exists()
    init("cell.tif", overwrite=True)
    assert not tifffile.imread("cell_mask.tif")[..., 128:].any()


def test_a_recipe_that_cannot_be_written_leaves_no_mask(tmp_path, monkeypatch, small_parts):
    def full(*_):
        raise OSError(28, "No space left on device", "cell.yaml")

    monkeypatch.chdir(tmp_path)
    image = volume(depth=1, shape=(96, 208))
    image[:, :, 104:] = 255
    tifffile.imwrite("cell.tif", image, photometric="minisblack")
    monkeypatch.setattr("sccs.init.command.write_text", full)
    assert main(["init", "cell.tif"]) == 2
    assert [each.name for each in tmp_path.glob("cell*")] == ["cell.tif"]


@pytest.mark.parametrize("shape", [(15, 200), (200, 15)])
def test_volumes_smaller_than_the_smallest_slice_are_left_out(cells, small_parts, shape, capsys):
    tifffile.imwrite("cells/thin.tif", volume(depth=2, shape=shape), photometric="minisblack")
    assert main(["init", "cells"]) == 0
    assert "thin.tif: left out, as its slices are smaller than 16 px" in capsys.readouterr().out
    text = (cells.parent / "cells.yaml").read_text()
    assert "image: cells/thin.tif" not in text and "left out" in text


def test_another_recipe_can_be_extended(cells, capsys):
    assert main(["init", "cells", "--extends", "sccs_plus_fine"]) == 0
    text = (cells.parent / "cells.yaml").read_text()
    assert "extends: sccs_plus_fine" in text and "learning" not in text
    assert load_recipe("cells.yaml").resolved()["clusterer"]["k"] == 32
    with pytest.raises(SystemExit):
        main(["init", "cells", "--extends", "kmeans"])
    assert "sccs_plus_own" in capsys.readouterr().err


def test_a_recipe_that_trains_by_iterations_can_be_extended(cells, capsys):
    assert main(["init", "cells", "--extends", "sccs_fast"]) == 0
    written = load_recipe("cells.yaml").resolved()
    assert (written["train"]["iterations"], written["clusterer"]["warmup"]) == (6000, 1500)
    assert re.search(r"training \d+ s", capsys.readouterr().out)


def test_the_time_of_features_that_learn_is_estimated_from_a_few_steps(cells, monkeypatch, tmp_path, capsys):
    taken = []
    monkeypatch.setattr(Contrast, "fit", lambda self, images: taken.append(self.steps) or fit(self, images))
    parent = tmp_path / "tiny.yaml"
    small = "{name: contrast, width: 4, q: 6, batch: 2, places: 4, crop: 32, steps: 3000}"
    parent.write_text(f"extends: kmeans\nfeatures: {{name: concat, of: [{small}, intensity]}}\n")
    monkeypatch.setattr(recipe, "PARENT", str(parent))
    init("cells", "my.yaml")
    said = capsys.readouterr().out
    assert taken == [1, TRIED] and "learning features" in said
    assert load_recipe("my.yaml").resolved()["features"]["of"][0]["steps"] == 3000


@pytest.mark.parametrize("minutes, left, told", [(30, 29, False), (2, 1, False), (1, 0.1, True)])
def test_learning_takes_its_time_from_the_rest(cells, monkeypatch, capsys, minutes, left, told):
    """Features that learn for a minute leave the rest of --minutes to everything else, but never nothing."""
    planned = []

    def slow(pipeline, found):
        cost, graph = measure(pipeline, found)
        cost.learning = 60
        return cost, graph

    def plan(volumes, most, cost, minutes):
        planned.append(minutes)
        return make_plan(volumes, most, cost, minutes)

    monkeypatch.setattr("sccs.init.command.measure", slow)
    monkeypatch.setattr("sccs.init.command.make_plan", plan)
    init("cells", "my.yaml", minutes=minutes)
    assert planned == [pytest.approx(left)]
    said = capsys.readouterr().out
    assert ("learning features takes about 1:00 min of --minutes 1; allow more" in said) == told


fit = Contrast.fit
