"""`sccs init`: what it sees, which recipe it writes, that the recipe runs, and what odd input is answered with."""

import json
import sys

import numpy as np
import pytest
import tifffile
import yaml
from PIL import Image

import sccs.init
from registry.base import UserError
from sccs.cli import main
from sccs.data.readers import open_image
from sccs.data.survey import choose_level, examine, find_volumes, look_at, survey
from sccs.init import Cost, init, make_plan, shown_path
from sccs.recipe import load_recipe

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
    for words in (
        "a.tif: 6 x 96 x 100 (z, y, x), uint8",
        "a_labels.tif: labels, by its name",
        "notes.txt",
        "GiB are free",
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


# ------------------------------------------------------------------------------------------------- images with levels
def halved(image):
    Z, Y, X = image.shape
    return image.reshape(Z, Y // 2, 2, X // 2, 2).mean((2, 4)).astype(np.uint8)


@pytest.fixture(scope="module")
def levels():
    """A synthetic phantom of 4 slices at 30 x 6 x 6 nm, and its coarser levels; the third is below 80 px."""
    from sccs.data import load_dataset

    shapes = [[4, 240, 256]] * 2
    image = np.asarray(load_dataset({"name": "phantom", "shapes": shapes}, ".", 0).train[0].image[:])
    return [image, halved(image), halved(halved(image))]


def write_ome_zarr(path, levels, version, axes="zyx", inside=""):
    zarr = pytest.importorskip("zarr")
    top = zarr.create_group(str(path), zarr_format=3 if version == "0.5" else 2)
    group = top.create_group(inside) if inside else top
    datasets = []
    for i, level in enumerate(levels):
        data = level.reshape((1,) * (len(axes) - 3) + level.shape)
        group.create_array(str(i), data=data, chunks=(1,) * (len(axes) - 2) + (64, 64))
        scale = [1.0] * (len(axes) - 3) + [0.03, 0.006 * 2**i, 0.006 * 2**i]
        datasets.append({"path": str(i), "coordinateTransformations": [{"type": "scale", "scale": scale}]})
    kinds = {"t": {"type": "time"}, "c": {"type": "channel"}}
    named = [{"name": a, **kinds.get(a, {"type": "space", "unit": "micrometer"})} for a in axes]
    image = {"axes": named, "datasets": datasets}
    group.attrs.update(
        {"ome": {"version": version, "multiscales": [image]}}
        if version == "0.5"
        else {"multiscales": [{"version": version, **image}]}
    )


def write_n5(path, levels, organelle=True):
    tensorstore = pytest.importorskip("tensorstore")
    for i, level in enumerate(levels):
        place, factor = path / "em" / f"s{i}", 2**i
        tensorstore.open(
            {
                "driver": "n5",
                "kvstore": {"driver": "file", "path": f"{place}/"},
                "metadata": {
                    "dimensions": list(level.shape[::-1]),
                    "blockSize": [64, 64, 1],
                    "dataType": "uint8",
                    "compression": {"type": "gzip"},
                },
            },
            create=True,
        ).result().write(level.T).result()
        about = json.loads((place / "attributes.json").read_text())
        if organelle:
            about["transform"] = {
                "axes": ["z", "y", "x"],
                "scale": [30, 6 * factor, 6 * factor],
                "translate": [0, 3 * (factor - 1), 3 * (factor - 1)],
                "units": ["nm"] * 3,
            }
        else:
            about |= {"downsamplingFactors": [factor, factor, 1]}
        (place / "attributes.json").write_text(json.dumps(about))
    (path / "attributes.json").write_text('{"n5": "2.0.0"}')
    if not organelle:
        pixels = {"pixelResolution": {"dimensions": [6, 6, 30], "unit": "nm"}}
        (path / "em" / "attributes.json").write_text(json.dumps(pixels))


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
    assert "level 1 is taken: pixels nearest to 12 nm" in said and "4 x 120 x 128 (z, y, x), uint8" in said
    assert main(["show", "r.yaml"]) == 0
    (entry,) = load_recipe("r.yaml").data["train"]
    assert (entry["level"], tuple(entry["voxel_size"]), entry["image"]) == (1, (30, 12, 12), str(tmp_path / name))
    capsys.readouterr()
    assert main(["run", "r.yaml", "--out", "run", "--set", *FAST]) == 0
    assert "3 of 3 clusters in use" in capsys.readouterr().err + (tmp_path / "run" / "log.txt").read_text()
    (labels,) = (tmp_path / "run" / "segmentation").glob("*_clusters.tif")
    assert open_image(labels).shape == (4, 120, 128) and open_image(labels).voxel_size == (30, 12, 12)


def test_levels_smaller_than_a_window_are_not_chosen(levels, tmp_path):
    assert choose_level([(6, 6, 6), (12, 12, 12)], [(9, 90, 150), (9, 45, 75)])[0] == 0
    assert choose_level([(6, 6, 6), (12, 12, 12)], [(9, 45, 75), (9, 22, 37)])[0] == 1  # as none is large enough
    write_ome_zarr(
        tmp_path / "a.ome.zarr", [level[:, :130, :130] for level in levels[:1]] + [levels[1][:, :65, :65]], "0.5"
    )
    found = examine(str(tmp_path / "a.ome.zarr"))
    assert found.level == 0 and found.chosen_for.endswith("of the levels of 80 px and more")


def test_the_finest_size_tells_those_of_all_levels(levels, tmp_path):
    write_n5(tmp_path / "a.n5", levels)
    for i in range(3):
        file = tmp_path / "a.n5" / "em" / f"s{i}" / "attributes.json"
        about = json.loads(file.read_text())
        file.write_text(json.dumps({key: value for key, value in about.items() if key != "transform"}))
    assert examine(str(tmp_path / "a.n5")).level == 0  # nobody knows
    found = examine(str(tmp_path / "a.n5"), voxel_size=(30, 6, 6))
    assert (found.level, found.voxel_size) == (1, (30, 12, 12))


def test_memory_is_told_where_the_system_does_not_count_it(monkeypatch):
    from sccs.init import peak_memory

    assert peak_memory() > 2**24
    monkeypatch.setitem(sys.modules, "resource", None)  # Windows has none
    assert peak_memory() == 2**30
