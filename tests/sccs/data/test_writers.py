"""Label volumes written and read back; voxel size, colours and names in the file; nothing half-written."""

import json

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.base import UserError
from sccs.data import writers
from sccs.data.readers import open_image
from sccs.data.writers import write_labels

NAMES = {0: "rest", 1: "nucleus", 255: "ignore"}
COLOURS = {0: (0, 0, 0), 1: (255, 200, 10)}


def volume(shape, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, 4, shape).astype(dtype)


def needs(path):
    if str(path).endswith("zarr"):
        pytest.importorskip("zarr")
    return path


@pytest.fixture(params=["a.tif", "a.tiff", "a.ome.zarr", "a.zarr"])
def target(request, tmp_path):
    return needs(tmp_path / request.param)


@pytest.mark.parametrize("suffix", ["tif", "ome.zarr"])
@settings(max_examples=15)
@given(
    shape=st.tuples(st.integers(1, 5), st.integers(1, 9), st.integers(2, 9)),
    dtype=st.sampled_from(["u1", "u2", "i2", "i4", "i8", "?"]),
    voxel_size=st.none() | st.tuples(*[st.floats(0.01, 5000)] * 3),
    seed=st.integers(0, 99),
)
def test_round_trip(tmp_path_factory, suffix, shape, dtype, voxel_size, seed):
    path = needs(tmp_path_factory.mktemp("round") / f"labels.{suffix}")
    labels = volume(shape, dtype, seed)
    write_labels(path, iter(labels), shape, voxel_size)
    source = open_image(path)
    assert source.dtype == np.uint8 and source.shape == shape
    np.testing.assert_array_equal(source.array[:], labels.astype(np.uint8))
    if voxel_size is None:
        assert source.voxel_size is None
    else:
        assert source.voxel_size == pytest.approx(voxel_size, rel=1e-4)


def test_slices_are_taken_one_at_a_time(target, monkeypatch):
    monkeypatch.setattr(writers, "LAYER_BYTES", 2 * 20 * 30)  # two slices to a Zarr layer
    labels, taken = volume((7, 20, 30)), []

    def slices():
        for z, plane in enumerate(labels):
            taken.append(z)
            yield plane

    write_labels(target, slices(), labels.shape)
    assert taken == list(range(7))
    np.testing.assert_array_equal(open_image(target).array[:], labels)


def test_imagej_finds_axes_voxel_size_names_and_colours(tmp_path):
    write_labels(tmp_path / "a.tif", volume((3, 8, 6)), (3, 8, 6), (40, 4.6, 4.6), names=NAMES, colours=COLOURS)
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        assert tif.is_imagej and not tif.is_bigtiff
        assert tif.series[0].axes == "ZYX" and tif.pages[0].compression.name.endswith("DEFLATE")
        found = tif.imagej_metadata
        across = tif.pages[0].tags["XResolution"].value
    assert found["unit"] == "nm" and found["spacing"] == 40 and across[1] / across[0] == pytest.approx(4.6)
    assert "1 = nucleus" in found["Info"]
    assert found["LUTs"].reshape(3, 256)[:, 1].tolist() == [255, 200, 10]


def test_beyond_4_gb_a_bigtiff_with_ome_metadata(tmp_path, monkeypatch):
    monkeypatch.setattr(writers, "CLASSIC_TIFF_BYTES", 10)
    labels = volume((3, 8, 3))
    write_labels(tmp_path / "a.tif", labels, labels.shape, (40, 4.6, 5), names=NAMES, colours=COLOURS)
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        assert tif.is_bigtiff and tif.is_ome
    source = open_image(tmp_path / "a.tif")
    assert source.voxel_size == (40, 4.6, 5)
    np.testing.assert_array_equal(source.array[:], labels)


def test_ome_zarr_is_version_05_with_units_colours_and_names(tmp_path):
    pytest.importorskip("zarr")
    write_labels(tmp_path / "a.ome.zarr", volume((3, 8, 6)), (3, 8, 6), (40, 4, 5), names=NAMES, colours=COLOURS)
    meta = json.loads((tmp_path / "a.ome.zarr" / "zarr.json").read_text())
    ome = meta["attributes"]["ome"]
    assert meta["zarr_format"] == 3 and ome["version"] == "0.5"
    image = ome["multiscales"][0]
    assert [(a["name"], a["type"], a["unit"]) for a in image["axes"]] == [(n, "space", "nanometer") for n in "zyx"]
    assert image["datasets"] == [
        {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [40.0, 4.0, 5.0]}]}
    ]
    assert {"label-value": 1, "rgba": [255, 200, 10, 255]} in ome["image-label"]["colors"]
    assert {"label-value": 255, "name": "ignore"} in ome["image-label"]["properties"]


def test_an_existing_output_is_refused_unless_told_otherwise(target):
    old, new = volume((2, 8, 6)), volume((2, 8, 6), seed=1)
    write_labels(target, old, old.shape)
    with pytest.raises(UserError, match="already exists; choose another name, or pass overwrite=True"):
        write_labels(target, new, new.shape)
    np.testing.assert_array_equal(open_image(target).array[:], old)
    write_labels(target, new, new.shape, overwrite=True)
    np.testing.assert_array_equal(open_image(target).array[:], new)
    assert [p.name for p in target.parent.iterdir()] == [target.name]


def broken_off(labels):
    yield labels[0]
    raise RuntimeError("the model fell over")


@pytest.mark.parametrize(
    "slices, error, match",
    [
        (broken_off, RuntimeError, "fell over"),
        (lambda v: v[:1], ValueError, "got 1 slices, expected 3"),
        (lambda v: np.concatenate([v, v]), ValueError, "more slices than the expected 3"),
        (lambda v: v[:, :4], ValueError, r"slice 0 has shape \(4, 6\)"),
        (lambda v: v.astype(int) + 256, ValueError, "labels must be integers in 0..255"),
        (lambda v: v.astype(float), ValueError, "labels must be integers in 0..255"),
    ],
)
def test_a_failure_leaves_nothing_and_keeps_the_old(target, slices, error, match):
    labels = volume((3, 8, 6))
    with pytest.raises(error, match=match):
        write_labels(target, slices(labels), labels.shape)
    assert not list(target.parent.iterdir())
    write_labels(target, labels, labels.shape)
    with pytest.raises(error, match=match):
        write_labels(target, slices(labels), labels.shape, overwrite=True)
    np.testing.assert_array_equal(open_image(target).array[:], labels)
    assert [p.name for p in target.parent.iterdir()] == [target.name]


def test_unknown_suffix(tmp_path):
    with pytest.raises(UserError, match=r"unknown output format '.png': name it .tif, .tiff or .ome.zarr"):
        write_labels(tmp_path / "a.png", volume((1, 4, 4)), (1, 4, 4))


@pytest.mark.parametrize("shape", [(4, 4), (0, 4, 4)])
def test_a_volume_has_three_axes(tmp_path, shape):
    with pytest.raises(ValueError, match="three axes"):
        write_labels(tmp_path / "a.tif", [], shape)


def test_a_tiff_one_pixel_wide_is_refused(tmp_path):
    with pytest.raises(ValueError, match="one pixel wide"):
        write_labels(tmp_path / "a.tif", volume((2, 4, 1)), (2, 4, 1))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.tif", "a.ome.zarr"])
def test_a_folder_of_something_else_is_never_replaced(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "raw").write_text("raw")
    with pytest.raises(UserError, match="a folder"):
        write_labels(tmp_path / name, [np.zeros((4, 5), np.uint8)], (1, 4, 5), overwrite=True)
    assert (tmp_path / name / "raw").read_text() == "raw"
