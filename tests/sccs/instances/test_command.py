"""`sccs objects`: what it writes, from any input, by any workers, after any end; and what it refuses."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas
import pytest
import tifffile

from sccs.cli import main
from sccs.data.writers import write_labels
from sccs.instances.stores import Memory
from sccs.instances.table import object_table
from sccs.instances.work import Wishes, Work, carry_out_here
from tests.sccs.instances.maps import EDGES, blobs

zarr = pytest.importorskip("zarr")
pytest.importorskip("cc3d")
pytest.importorskip("edt")
BLOCK = ["--block", "10", "20", "28"]
SPLIT = ["--split", "10", "--fill", "all"]


def run(*arguments) -> None:
    assert main(["objects", *map(str, arguments)]) == 0


def labels_of(out, name="granules", level=0):
    return zarr.open_array(Path(out, "objects.ome.zarr", "labels", name, str(level)), mode="r")[:]


@pytest.fixture
def whole():
    """Objects of the class map in memory."""
    image = np.arange(20 * 40 * 50, dtype=np.uint16).reshape(20, 40, 50)
    wishes = Wishes(classes={"granules": 1, "nucleus": 2}, split=10.0, fill=np.inf)
    return carry_out_here(Work(blobs(), Memory(), wishes, EDGES, image, (20, 40, 50)))


def check_same(out, whole):
    for name in ("granules", "nucleus"):
        np.testing.assert_array_equal(labels_of(out, name), whole.store.open(f"labels/{name}/0"))
    right = object_table(whole)
    found = pandas.read_csv(Path(out, "objects.csv"))
    pandas.testing.assert_frame_equal(found[list(right.columns)], right, check_dtype=False, rtol=1e-6)


def test_labels_tables_and_a_page(place, whole, capsys):
    run("labels.tif", "out", "--image", "image.tif", *SPLIT, *BLOCK)
    assert "granules, " in capsys.readouterr().out
    check_same("out", whole)
    assert sorted(os.listdir("out")) == sorted(
        ["objects.csv", "objects.json", "objects.ome.zarr", "objects.parquet", "report.html", "summary.csv"]
    )
    pandas.testing.assert_frame_equal(
        pandas.read_parquet("out/objects.parquet"), object_table(whole), check_dtype=False
    )
    page = Path("out/report.html").read_text()
    assert (
        "granules" in page and "<svg" in page and "data:image/webp" in page and "http://" not in page.split("<svg")[0]
    )
    settings = page.split('id="settings"')[1]
    assert '<th scope="row">--fill</th><td class="text">all</td>' in settings and "--min-size" in settings
    assert json.loads(Path("out/objects.json").read_text())["classes"] == {"granules": 1, "nucleus": 2}
    assert not [name for name in os.listdir(".") if "partial" in name or ".lock" in name]


def test_a_named_class_that_does_not_occur_is_skipped_unless_it_was_asked_for(place, capsys):
    labels = blobs()
    names = {0: "unrecognized", 1: "granules", 2: "nucleus", 3: "golgi"}
    write_labels(place / "more.tif", labels, labels.shape, EDGES, names=names)
    run("more.tif", "out", *BLOCK)
    assert json.loads(Path("out/objects.json").read_text())["classes"] == {"granules": 1, "nucleus": 2}
    assert main(["objects", "more.tif", "other", "--class", "golgi"]) == 2
    assert "class golgi (3) does not occur" in capsys.readouterr().err


@pytest.mark.slow
def test_two_workers_give_the_same(place, whole):
    run("labels.tif", "out", "--image", "image.tif", *SPLIT, *BLOCK, "--workers", "2")
    check_same("out", whole)


KILL = """
import os, sys
from sccs.instances.work import Work
from sccs.cli import main
done, do = [], Work.do
def dying(self, task):
    do(self, task)
    done.append(task)
    if len(done) == int(sys.argv[1]):
        os._exit(9)
Work.do = dying
main(["objects", *sys.argv[2:]])
"""


@pytest.mark.slow
@pytest.mark.parametrize("after", [1, 15, 40])
def test_killed_it_goes_on_and_does_damaged_blocks_again(place, whole, capsys, after):
    arguments = ["labels.tif", "out", "--image", "image.tif", *SPLIT, *BLOCK]
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", KILL, str(after), *arguments], env={**os.environ, "PYTHONPATH": str(root)}
    )
    assert done.returncode == 9 and not Path("out").exists()
    if after > 1:
        shutil.rmtree("out.partial/work/0/holes/c")
    run(*arguments, "--resume")
    assert ("will be computed again" in capsys.readouterr().err) == (after > 1)
    check_same("out", whole)
    assert not Path("out.partial").exists()


def test_an_error_of_ours_keeps_what_is_done(place, fails, monkeypatch, capsys):
    do = Work.do

    def full(self, task):
        if task.stage == "0/faces":
            raise OSError(28, "No space left on device", "out.partial/work/x")
        do(self, task)

    monkeypatch.setattr(Work, "do", full)
    assert main(["objects", "labels.tif", "out"]) == 2
    assert "pass --resume to continue" in capsys.readouterr().err
    fails(["objects", "labels.tif", "out"], "unfinished")
    monkeypatch.undo()
    os.chdir(place)
    again = ["objects", "labels.tif", "out", "--min-size", "9", "--resume"]
    fails(again, "--resume: min_size is 9.0, but the unfinished work was started with 0.0")
    run("labels.tif", "out", "--resume")


def test_codes_names_and_units_on_the_command_line(place, capsys):
    run("plain.tif", "out", "--class", "granules=1", "--min-size", "20vx")
    said = capsys.readouterr()
    assert "voxel size unknown, so all measurements are in voxels" in said.err
    assert "objects left out" in said.out and "left out" not in said.err
    table = pandas.read_csv("out/objects.csv")
    assert set(table["class"]) == {"granules"} and table["volume_px3"].min() >= 20
    run("plain.tif", "out2", "--class", "1", "2", "--voxel-size", *EDGES, "--min-size", "32000nm3")
    table = pandas.read_csv("out2/objects.csv")
    assert set(table["class"]) == {"label_1", "label_2"} and 32000 <= table["volume_nm3"].min() < 64000


def test_a_2d_image_is_told(place, capsys):
    tifffile.imwrite("flat.tif", blobs()[10])
    run("flat.tif", "out")
    assert "a 2-D image, so areas and perimeters" in capsys.readouterr().err
    assert "area_px2" in pandas.read_csv("out/objects.csv")


def test_names_and_voxel_size_of_an_ome_zarr(place):
    from sccs.data.label_store import write_store

    write_store("a.ome.zarr", blobs(), (20, 40, 50), "classes", voxel_size=EDGES, names={1: "granules", 2: "nucleus"})
    run("a.ome.zarr", "out", "--class", "Granules")
    assert set(pandas.read_csv("out/objects.csv")["class"]) == {"granules"}


def test_a_run_with_one_class_map(place, fails):
    Path("run/segmentation").mkdir(parents=True)
    Path("run/resolved.yaml").write_text("data: phantom\n")
    fails(["objects", "run", "out"], "give one of its class maps: none")
    shutil.copyfile("labels.tif", "run/segmentation/a_classes.tif")
    run("run", "out", "--class", "nucleus")
    shutil.copyfile("labels.tif", "run/segmentation/b_classes.tif")
    fails(["objects", "run", "out2"], "run/segmentation/a_classes.tif, run/segmentation/b_classes.tif")


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["labels.tif", "out", "--class", "golgi"], "has no class named 'golgi' (it names 0 unrecognized, 1 granules"),
        (["plain.tif", "out", "--class", "golgi"], "it names none); give --class golgi=CODE"),
        (
            ["labels.tif", "out", "--class", "golgi=7"],
            "class golgi (7) does not occur; the file contains 0 unrecognized",
        ),
        (["labels.tif", "out", "--class", "1", "granules"], "is chosen twice"),
        (["labels.tif", "out", "--class", "300"], "class codes are 0 to 254"),
        (["labels.tif", "out", "--to", "golgi"], "--to golgi: no class has that name"),
        (["labels.tif", "out", "--inside", "golgi"], "--inside golgi: no class has that name"),
        (["image.tif", "out"], "have 999: class codes are 0 to 255"),
        (["labels.tif", "out", "--image", "other.tif"], "--image other.tif: has shape (1, 4, 4)"),
        (["labels.tif", "out", "--min-size", "many"], "--min-size many: write voxels"),
        (["labels.tif", "out", "--min-size", "4nm2"], "--min-size 4nm2: write voxels"),
        (["plain.tif", "out", "--min-size", "4nm3"], "give --voxel-size, or use voxels"),
        (["labels.tif", "out", "--split", "0"], "--split 0.0: write a depth in nm, above 0"),
        (["labels.tif", "out", "--smooth", "-1"], "--smooth -1.0: write a length"),
        (["labels.tif", "out.tif"], "OUT is a folder"),
        (["labels.tif", "full"], "already exists"),
        (["labels.tif", "full", "--overwrite"], "not written by `sccs objects`"),
        (["missing.tif", "out"], "no such file"),
        (["raw.ome.zarr/s0", "raw.ome.zarr/out"], "lies in LABELS"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_and_nothing_is_left(place, fails, capsys, arguments, words):
    tifffile.imwrite("other.tif", np.zeros((4, 4), np.uint8) + np.eye(4, dtype=np.uint8))
    tifffile.imwrite("image.tif", np.full((3, 4, 5), 999, np.uint16), metadata={"axes": "ZYX"})
    Path("full").mkdir()
    zarr.create_group("raw.ome.zarr").create_array("s0", data=blobs())
    before = sorted(os.walk("."))
    if arguments[0] in ("plain.tif", "image.tif"):
        assert main(["objects", *arguments]) == 2  # may say, too, that voxels have no size
        assert "sccs: error: " in (said := capsys.readouterr().err) and words in said
    else:
        fails(["objects", *arguments], words)
    assert sorted(os.walk(".")) == before


def test_overwrite_replaces_what_objects_wrote(place):
    run("labels.tif", "out")
    run("labels.tif", "out", "--overwrite", "--class", "nucleus")
    assert set(pandas.read_csv("out/objects.csv")["class"]) == {"nucleus"}
