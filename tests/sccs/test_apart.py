"""No command writes over what it reads, nor into it, whatever its options and whatever the output is called."""

import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile

from sccs.pipeline import Pipeline
from tests.sccs.quickest import RECIPE

zarr = pytest.importorskip("zarr")
IMAGE = np.random.default_rng(0).integers(0, 255, (3, 96, 100)).astype(np.uint8)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    Pipeline.from_recipe(RECIPE).fit(IMAGE[0]).save(folder / "run" / "model")
    tifffile.imwrite(folder / "raw.tif", IMAGE, metadata={"axes": "ZYX"})
    tifffile.imwrite(folder / "mask.tif", np.ones(IMAGE.shape, np.uint8), metadata={"axes": "ZYX"})
    (folder / "slices").mkdir()
    for number, plane in enumerate(IMAGE):
        tifffile.imwrite(folder / "slices" / f"z{number}.tif", plane)
    group = zarr.create_group(folder / "raw.ome.zarr")
    group.create_array("s0", data=IMAGE)
    zarr.create_group(folder / "b.ome.zarr.partial").create_array("s0", data=IMAGE)
    companions = [folder / f"part{number}.ome.tif" for number in (0, 1)]
    for path, plane in zip(companions, IMAGE):
        tifffile.imwrite(path, plane)
    (folder / "r.yaml").write_text(
        "extends: intensity_kmeans\ndata: {name: volumes, train: [{image: run/segmentation/a.tif}]}\n"
        "clusterer: {name: kmeans, k: 3}\n"
    )
    (folder / "run" / "segmentation").mkdir()
    shutil.copyfile(folder / "raw.tif", folder / "run" / "segmentation" / "a.tif")
    (folder / "run" / "resolved.yaml").write_text((folder / "r.yaml").read_text().replace("run/", f"{folder}/run/"))
    return folder


@pytest.fixture
def place(source, tmp_path, monkeypatch) -> Path:
    """A copy of the files, with links, as the working folder."""
    shutil.copytree(source, tmp_path / "files")
    monkeypatch.chdir(tmp_path / "files")
    os.link("raw.tif", "hard.tif")
    Path("soft.tif").symlink_to("raw.tif")
    Path("soft.ome.zarr").symlink_to("raw.ome.zarr")
    return tmp_path / "files"


def content(folder: Path) -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in sorted(folder.rglob("*"))
    }


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    "arguments, words",
    [
        (["run", "raw.tif", "raw.tif"], "is INPUT"),
        (["run", "soft.tif", "raw.tif"], "is INPUT"),
        (["run", "raw.tif", "soft.tif"], "is INPUT"),
        (["run", "raw.tif", "hard.tif"], "is INPUT"),
        (["run", "raw.ome.zarr/s0", "raw.ome.zarr"], "contains INPUT"),
        (["run", "raw.ome.zarr/s0", "soft.ome.zarr"], "contains INPUT"),
        (["run", "raw.ome.zarr/s0", "raw.ome.zarr/labels.ome.zarr"], "lies in INPUT"),
        (["run", "raw.ome.zarr/s0", "raw.ome.zarr/labels.tif"], "lies in INPUT"),
        (["run", "b.ome.zarr.partial/s0", "b.ome.zarr"], "contains INPUT"),
        (["run", "slices", "slices/new.tif"], "lies in INPUT"),
        (["run", "slices/*.tif", "slices/z9.tif"], "part of INPUT"),
        (["run", "slices", "slices/z1.tif"], "is INPUT|lies in INPUT"),
        (["run", "raw.tif", "mask.tif", "--mask", "mask.tif"], "is the mask"),
        (["run", "raw.tif", "raw.ome.zarr", "--mask", "raw.ome.zarr/s0"], "contains the mask"),
        (["run", "raw.tif", "run/segmentation/a.tif"], "lies in RUN"),
        (["run", "raw.tif", "run/new.ome.zarr"], "lies in RUN"),
    ],
    ids=lambda value: " ".join(value[1:]) if isinstance(value, list) else "",
)
def test_segment(place, fails, arguments, words, overwrite):
    before = content(place)
    if not overwrite and os.path.lexists(arguments[2]):
        words = "already exists|" + words
    refuses(fails, ["segment", *arguments, *(["--overwrite"] if overwrite else [])], words)
    assert content(place) == before


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["run", "r.yaml", "--out", "run", "--overwrite"], "contains the recipe's `image`"),
        (["run", "r.yaml", "--out", "run/segmentation/a.tif", "--overwrite"], "is a file"),
        (
            ["run", "r.yaml", "--out", "raw.ome.zarr/run", "--set", "data.train.0.image=raw.ome.zarr"],
            "lies in the recipe's `image`",
        ),
        (["export", "run", "run", "--overwrite"], "not an export"),
        (["graphs", "run", "run", "--overwrite"], "is RUN"),
        (
            ["graphs", "run", "raw.ome.zarr/graphs", "--set", "data.train.0.image=raw.ome.zarr"],
            "lies in the recipe's `image`",
        ),
        (["init", "raw.ome.zarr", "--out", "raw.ome.zarr/r.yaml"], "lies in INPUT"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_other_commands(place, fails, arguments, words):
    before = content(place)
    refuses(fails, arguments, words)
    assert content(place) == before


def refuses(fails, arguments: list[str], words: str) -> None:
    """One of the words that are parted by | is in the one line."""
    for number, word in enumerate(choice := words.split("|")):
        try:
            return fails(arguments, word)
        except AssertionError:
            if number == len(choice) - 1:
                raise


def test_a_companion_of_an_ome_tiff_is_part_of_the_input(place, fails):
    """The first file's metadata names the second one."""
    xml = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:a">'
        '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="100" SizeY="96" '
        'SizeZ="2" SizeC="1" SizeT="1"><Channel ID="C:0" SamplesPerPixel="1"/>'
        '<TiffData FirstZ="0" IFD="0" PlaneCount="1"><UUID FileName="part0.ome.tif">urn:uuid:a</UUID></TiffData>'
        '<TiffData FirstZ="1" IFD="0" PlaneCount="1"><UUID FileName="part1.ome.tif">urn:uuid:b</UUID></TiffData>'
        "</Pixels></Image></OME>"
    )
    tifffile.imwrite("part0.ome.tif", IMAGE[0], description=xml, metadata=None)
    tifffile.imwrite(
        "part1.ome.tif", IMAGE[1], description=xml.replace('UUID="urn:uuid:a">', 'UUID="urn:uuid:b">'), metadata=None
    )
    before = content(place)
    fails(["segment", "run", "part0.ome.tif", "part1.ome.tif", "--overwrite"], "is INPUT")
    assert content(place) == before


def test_compare(place, fails, tmp_path):
    (place / "run" / "metrics.json").write_text('{"clusters_used": {"train": 3, "test": 3}}')
    before = content(place)
    fails(["compare", "run", "--csv", "run/metrics.json"], "lies in RUN")
    assert content(place) == before
