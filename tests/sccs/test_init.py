"""`sccs init`: what it sees, which recipe it writes, that the recipe runs, and what odd input is answered with."""
import numpy as np
import pytest
import tifffile
import yaml
from PIL import Image

import sccs.init
from registry.base import UserError
from sccs.cli import main
from sccs.data.readers import open_image
from sccs.init import Cost, init, make_plan, shown_path
from sccs.recipe import load_recipe
from sccs.survey import choose_level, examine, find_volumes, look_at, survey

FAST = ["features=intensity", "embedder=identity", "clusterer={name: kmeans, k: 3}", "graph.pixels_per_superpixel=64"]
COST = Cost(pixels=10_000, nodes=100, seconds=1.0, connect=0.1, graph_bytes=1000, cache_bytes=500, peak=10**8)


def volume(seed=0, depth=6, shape=(96, 100)):
    """(Z, Y, X) uint8: bright ground, dark lines, noise."""
    rng = np.random.default_rng(seed)
    image = 170 + rng.normal(0, 4, (depth, *shape))
    image[:, ::9] -= 90
    return image.clip(0, 255).astype(np.uint8)


@pytest.fixture
def cells(tmp_path, monkeypatch):
    """Folder with three stacks, labels of one of them and a text."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cells").mkdir()
    for name, seed in (("a", 0), ("b", 1), ("c", 2)):
        tifffile.imwrite(tmp_path / "cells" / f"{name}.tif", volume(seed))
    tifffile.imwrite(tmp_path / "cells" / "a_labels.tif", volume() // 100)
    (tmp_path / "cells" / "notes.txt").write_text("block 7")
    return tmp_path / "cells"


@pytest.fixture
def small_parts(monkeypatch, tmp_path):
    """The recipe that `sccs init` extends is a tiny one."""
    parent = tmp_path / "tiny.yaml"
    parent.write_text("extends: kmeans\nfeatures: intensity\n")
    monkeypatch.setattr(sccs.init, "PARENT", str(parent))


def test_a_folder_of_volumes_some_to_train_the_rest_to_segment_and_the_recipe_runs(cells, small_parts, capsys):
    assert main(["init", "cells", "--voxel-size", "40", "8", "8"]) == 0
    said = capsys.readouterr().out
    for words in ("a.tif: 6 x 96 x 100 (z, y, x), uint8", "a_labels.tif: labels, by its name", "notes.txt",
                  "GiB are free", "megapixels", "sccs run cells.yaml"):
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


@pytest.mark.parametrize("given, word", [("nothing.tif", "no such file"), ("cells/notes.txt", "unknown image format"),
                                         ("empty", "no image to segment"), ("flat.tif", "is empty"),
                                         ("tiny.tif", "smaller than a window")])
def test_odd_input_is_answered_in_one_line_and_nothing_is_written(given, word, cells, capsys):
    (cells.parent / "empty").mkdir()
    tifffile.imwrite("flat.tif", np.full((3, 96, 96), 7, np.uint8), metadata={"axes": "ZYX"})
    tifffile.imwrite("tiny.tif", volume(shape=(9, 12)))
    assert main(["init", given, "--out", "r.yaml"]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line]
    assert word in line
    assert not (cells.parent / "r.yaml").exists()


def test_numbered_images_of_one_size_are_slices_of_one_volume(tmp_path):
    for z, plane in enumerate(volume()):
        Image.fromarray(plane).save(tmp_path / f"s_{z}.png")
    paths, notes = find_volumes(str(tmp_path))
    assert paths == [str(tmp_path)] and "6 images of one size" in notes[0]
    Image.fromarray(volume(shape=(120, 90))[0]).save(tmp_path / "s_9.png")
    assert len(find_volumes(str(tmp_path))[0]) == 7  # several sizes: images of their own


def test_a_damaged_volume_among_others_is_left_out_and_said(cells):
    (cells / "d.tif").write_bytes(b"II*\0 no more")
    volumes, notes = survey(str(cells))
    assert [found.name for found in volumes] == ["a", "b", "c"]
    assert any("d.tif" in note for note in notes)


def test_contrast_is_looked_at(tmp_path):
    def remarks(image):
        tifffile.imwrite(tmp_path / "x.tif", image, metadata={"axes": "ZYX"})
        return " ".join(look_at(open_image(tmp_path / "x.tif")).remarks())

    good = volume()
    assert remarks(good) == ""
    assert "inverted" in remarks(255 - good)
    padded, half = good.copy(), good.copy()
    padded[0] = 0
    half[:, :40] = 255
    assert "1 of 6 slices looked at are empty" in remarks(padded)
    assert "exactly 255" in remarks(half)
    assert "labels" in remarks(good // 100)


def test_the_level_nearest_to_the_pixels_of_the_features_is_taken(tmp_path):
    assert choose_level([(4, 4, 4), (8, 8, 8), (16, 16, 16), (32, 32, 32)])[0] == 2
    assert choose_level([None, None])[0] == 0
    image = volume(shape=(400, 400))
    with tifffile.TiffWriter(tmp_path / "p.tif", ome=True) as file:
        file.write(image, subifds=1, metadata={"axes": "ZYX"})
        file.write(image[:, ::2, ::2], subfiletype=1)
    found = examine(str(tmp_path / "p.tif"), voxel_size=(40, 6, 6))
    assert (found.level, found.source.shape, found.voxel_size) == (1, (6, 200, 200), (40, 12, 12))


def test_the_plan_keeps_within_graphs_and_time(tmp_path):
    tifffile.imwrite(tmp_path / "big.tif", volume(depth=40, shape=(1200, 100)))
    found = examine(str(tmp_path / "big.tif"))
    plan = make_plan([found], 12, COST, minutes=2)  # three FOVs a slice
    assert plan.fovs("train") <= 12 and plan.train[0].region == {"z": [4, 40, 10]}
    assert plan.pixels("train") + plan.pixels("test") <= 2 * 60 * COST.pixels
    assert plan.slices == 6
    one = make_plan([found], 2, COST, minutes=20)
    assert one.train[0].shape == (2, 560, 100)


def test_empty_slices_at_the_ends_are_not_learnt_from(tmp_path):
    image = volume(depth=12)
    image[:2], image[-3:] = 0, 0
    tifffile.imwrite(tmp_path / "p.tif", image)
    plan = make_plan([examine(str(tmp_path / "p.tif"))], 100, COST, minutes=30)
    assert plan.train[0].region == {"z": [2, 9]}


def test_minutes_are_positive():
    with pytest.raises(UserError, match="positive"):
        init("x.tif", minutes=0)
