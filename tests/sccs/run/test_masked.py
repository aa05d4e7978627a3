"""Volumes with masks: nothing outside is trained on, segmented, drawn or asked about, by whichever command."""

import json
import shutil

import numpy as np
import pytest
import tifffile
import yaml

from sccs.cli import main
from sccs.data import load_dataset
from sccs.inference.suggest import suggestions
from sccs.pipeline import Pipeline
from sccs.report.views import SliceView
from tests.sccs.run.small import fails
from tests.sccs.three_greys import recipe, three_greys

SHAPE = (2, 240, 250)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("masked")
    mask = np.zeros((2, 48, 50), np.uint8)  # cells of 5 px
    mask[:, :, :31] = mask[:, 40:] = 1
    image = three_greys(shape=SHAPE)
    image[:, :200, 155:] = np.random.default_rng(5).integers(0, 255, (2, 200, 95))  # a fourth texture, all masked
    tifffile.imwrite(folder / "a.tif", image, photometric="minisblack")
    tifffile.imwrite(folder / "m.tif", mask, photometric="minisblack")
    entry = {"image": "a.tif", "mask": "m.tif", "voxel_size": [30, 8, 8]}
    data = {"name": "volumes", "fov": 120, "train": [entry], "test": [{**entry, "name": "b"}]}
    (folder / "recipe.yaml").write_text(yaml.safe_dump({**recipe(), "data": data}))
    assert main(["run", str(folder / "recipe.yaml"), "--out", str(folder / "run")]) == 0
    return folder


@pytest.fixture(scope="module")
def inside(folder):
    return tifffile.imread(folder / "m.tif").repeat(5, 1).repeat(5, 2) != 0


def test_labels_end_at_the_mask_in_the_run_and_in_segment(folder, inside, capsys):
    labels = tifffile.imread(folder / "run/segmentation/b_clusters.tif")
    assert ((labels != 255) == inside).all() and set(np.unique(labels)) == {0, 1, 2, 255}
    given = [str(folder / name) for name in ("run", "a.tif", "again.tif")]
    assert main(["segment", *given, "--voxel-size", "30", "8", "8", "--mask", str(folder / "m.tif")]) == 0
    assert (tifffile.imread(folder / "again.tif") == labels).all()
    assert "trained within masks" not in capsys.readouterr().err
    assert main(["segment", *given[:2], str(folder / "bare.tif"), "--voxel-size", "30", "8", "8"]) == 0
    assert "trained within masks; without --mask" in capsys.readouterr().err


def test_only_superpixels_inside_are_trained_on(folder, inside):
    log = (folder / "run/log.txt").read_text()
    made = json.loads((folder / "run/graphs.json").read_text())
    assert f"{len(made)} training FOVs" in log
    pipeline = Pipeline.load(folder / "run")
    # three greys, all of them clusters: none is spent on the masked texture
    greys = [pipeline.segment(three_greys(seed=9, shape=(1, 96, 100)))[0][:, part] for part in (10, 50, 90)]
    assert len({int(np.median(each)) for each in greys}) == 3


def test_the_report_and_suggestions_stay_inside(folder, inside):
    view = SliceView.load(folder / "run/figures/data/b_z0000.npz")
    assert ((view.regions >= 0) == inside[0]).all()
    pipeline = Pipeline.load(folder / "run")
    block = yaml.safe_load((folder / "recipe.yaml").read_text())["data"]
    asked = suggestions(pipeline, load_dataset(block, folder, 0).train, 40)
    assert len(asked) == 40 and all(inside[each.z, each.y, each.x] for each in asked)


def test_graphs_for_dgl_have_the_nodes_of_training(folder, tmp_path):
    from sccs.sharing.graphs import SuperpixelGraphs

    assert main(["graphs", str(folder / "run"), str(tmp_path / "graphs")]) == 0
    made = json.loads((folder / "run/graphs.json").read_text())
    graphs = SuperpixelGraphs(tmp_path / "graphs")
    assert [graphs[i].num_nodes() for i in range(len(made))] == [entry["nodes"] for entry in made]


def test_split_and_teach_work_within_masks(folder, tmp_path):
    run = shutil.copytree(folder / "run", tmp_path / "run")
    assert main(["split", str(run), "0", "--into", "2"]) == 0
    points = tmp_path / "points.csv"
    points.write_text("z,y,x,class\n0,20,20,left\n0,20,120,middle\n0,220,230,right\n")
    assert main(["teach", str(run), str(points), "--image", str(folder / "a.tif")]) == 0
    labels = tifffile.imread(run / "segmentation/b_classes.tif")
    assert (labels[tifffile.imread(folder / "m.tif").repeat(5, 1).repeat(5, 2) == 0] == 255).all()


def test_masks_that_leave_nothing_or_do_not_fit(folder, tmp_path, capsys):
    empty = np.zeros((2, 48, 50)), "the masks leave no field of view to train on"
    lines = np.zeros(SHAPE)
    lines[..., ::5] = 1
    thin = lines, "the mask leaves no superpixel of the field of view a:0:0:0"
    for mask, said in (empty, thin, (np.ones((2, 48, 90)), "nothing.tif: has shape (2, 48, 90)")):
        tifffile.imwrite(tmp_path / "nothing.tif", mask.astype(np.uint8), photometric="minisblack")
        block = yaml.safe_load((folder / "recipe.yaml").read_text())
        entry = {"image": str(folder / "a.tif"), "mask": "nothing.tif"}
        block["data"] |= {"train": [entry], "test": []}
        (tmp_path / "bad.yaml").write_text(yaml.safe_dump(block))
        fails(capsys, [tmp_path / "bad.yaml", "--out", tmp_path / "run"], said)
        assert mask is lines or not (tmp_path / "run").exists()
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
