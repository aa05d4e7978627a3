"""Zarr and OME-Zarr: levels, axes, units, groups, shards, damage."""

import json

import numpy as np
import pytest

from registry.base import UserError
from sccs.data.readers import open_image
from tests.sccs.data.image_files import fails, said, same, volume, write_zarr


def write_ome_zarr(path, levels, scales, version="0.5", axes="zyx", unit="nanometer", base="scale", base_scale=None):
    """An OME-Zarr image; `scales` one a level."""
    zarr = pytest.importorskip("zarr")
    kinds = {"c": "channel", "t": "time"}
    named = [
        {"name": a, "type": kinds.get(a, "space"), **({"unit": unit} if unit and a not in kinds else {})} for a in axes
    ]
    datasets = [
        {"path": f"{base}{i}", "coordinateTransformations": [{"type": "scale", "scale": list(s)}]}
        for i, s in enumerate(scales)
    ]
    image = {"axes": named, "datasets": datasets}
    if base_scale:
        image["coordinateTransformations"] = [{"type": "scale", "scale": base_scale}]
    v3 = version == "0.5"
    attributes = (
        {"ome": {"version": version, "multiscales": [image]}}
        if v3
        else {"multiscales": [{"version": version, **image}]}
    )
    zarr.create_group(str(path), zarr_format=3 if v3 else 2, attributes=attributes)
    for i, data in enumerate(levels):
        write_zarr(path / f"{base}{i}", data, 3 if v3 else 2)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr_levels_axes_and_units(tmp_path, version):
    fine = volume((6, 10, 8))
    write_ome_zarr(
        tmp_path / "a.ome.zarr",
        [fine, fine[:, ::2, ::2]],
        [(0.05, 0.01, 0.02), (0.05, 0.02, 0.04)],
        version,
        unit="micrometer",
    )
    assert same(tmp_path / "a.ome.zarr", fine).voxel_size == (50, 10, 20)
    assert same(tmp_path / "a.ome.zarr", fine[:, ::2, ::2], level=1).voxel_size == (50, 20, 40)
    assert same(tmp_path / "a.ome.zarr" / "scale1", fine[:, ::2, ::2]).voxel_size == (50, 20, 40)
    fails(tmp_path / "a.ome.zarr", "has 2 level(s) (scale0, scale1), but `level: 2` was requested", level=2)


def test_ome_zarr_with_channel_and_time(tmp_path):
    data = volume((1, 1, 4, 9, 7))
    write_ome_zarr(tmp_path / "a.zarr", [data], [(1, 1, 2, 1, 1)], "0.4", "tczyx", base_scale=[1, 1, 8, 4, 4])
    assert same(tmp_path / "a.zarr", data[0, 0]).voxel_size == (16, 4, 4)
    write_ome_zarr(tmp_path / "b.zarr", [volume((2, 4, 9, 7))], [(1, 1, 1, 1)], axes="czyx")
    fails(tmp_path / "b.zarr", "has 2 channels, but SCCS needs greyscale images")


def test_ome_zarr_axis_order_is_the_files(tmp_path):
    data = volume((7, 9, 4))
    write_ome_zarr(tmp_path / "a.zarr", [data], [(4, 8, 16)], axes="xyz", base="em/s")
    assert same(tmp_path / "a.zarr", data.T).voxel_size == (16, 8, 4)
    assert same(tmp_path / "a.zarr" / "em" / "s0", data.T).voxel_size == (16, 8, 4)


def test_ome_zarr_without_units_says_nothing_about_nanometres(tmp_path):
    write_ome_zarr(tmp_path / "a.zarr", [volume()], [(1, 1, 1)], unit=None)
    assert open_image(tmp_path / "a.zarr").voxel_size is None


def test_zarr_groups(tmp_path):
    zarr = pytest.importorskip("zarr")
    zarr.create_group(str(tmp_path / "a.zarr"))
    fails(tmp_path / "a.zarr", "a Zarr group without an array")
    write_zarr(tmp_path / "a.zarr" / "em", volume())
    same(tmp_path / "a.zarr", volume())
    write_zarr(tmp_path / "a.zarr" / "labels", volume())
    fails(tmp_path / "a.zarr", "several arrays, none chosen", "em, labels")
    same(f"{tmp_path}/a.zarr:/em", volume())
    zarr.create_group(str(tmp_path / "b.zarr"))
    write_ome_zarr(tmp_path / "b.zarr" / "em", [volume((4, 10, 8)), volume((4, 5, 4))], [(8, 4, 4), (8, 8, 8)])
    write_zarr(tmp_path / "b.zarr" / "em" / "labels" / "mito", volume((4, 10, 8), seed=1))
    assert same(tmp_path / "b.zarr", volume((4, 5, 4)), level=1).voxel_size == (8, 8, 8)  # its labels do not count
    write_ome_zarr(tmp_path / "b.zarr" / "sem", [volume()], [(1, 1, 1)])
    fails(tmp_path / "b.zarr", "several arrays, none chosen", "<one of: em, sem>")
    fails(tmp_path / "a.zarr" / "em2", f"did you mean {tmp_path}/a.zarr/em?")


def test_zarr_dimension_names_and_shards(tmp_path):
    data = volume((7, 9, 4))
    write_zarr(tmp_path / "a.zarr", data, dimension_names=("x", "y", "z"), chunks=(2, 2, 2), shards=(4, 4, 4))
    source = same(tmp_path / "a.zarr", data.T)
    assert source.array.chunk_depth == 4


@pytest.mark.parametrize("content", [b"", b"\xff" * 40])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_damaged_zarr_chunk(tmp_path, zarr_format, content):
    write_zarr(tmp_path / "a.zarr", volume(), zarr_format)
    (tmp_path / "a.zarr" / ("c/1/0/0" if zarr_format == 3 else "1.0.0")).write_bytes(content)
    array = open_image(tmp_path / "a.zarr").array
    np.testing.assert_array_equal(array[0], volume()[0])
    with pytest.raises(UserError) as caught:
        array[3]
    said(caught, "a.zarr, slice z=3: cannot be read; the file is truncated or damaged")


def test_damaged_zarr_metadata(tmp_path):
    write_zarr(tmp_path / "a.zarr", volume())
    (tmp_path / "a.zarr" / "zarr.json").write_text("{")
    fails(tmp_path / "a.zarr", "a.zarr: cannot be read")


@pytest.mark.parametrize(
    "attributes, size, first",
    [
        ({"resolution": [40, 4, 8], "offset": [400, 40, 80]}, (40, 4, 8), (400, 40, 80)),
        ({"voxel_size": [0.04, 0.004, 0.008], "units": ["um"] * 3, "offset": [0, 1, 0]}, (40, 4, 8), (0, 1000, 0)),
        ({"voxel_size": [40, 4, 8], "axis_names": ["z", "y", "x"], "units": "nm"}, (40, 4, 8), (0, 0, 0)),
        (
            {"transform": {"axes": ["z", "y", "x"], "scale": [40, 4, 8], "translate": [1, 2, 3], "units": ["nm"] * 3}},
            (40, 4, 8),
            (1, 2, 3),
        ),
        ({}, None, (0, 0, 0)),
    ],
)
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_attributes_of_plain_arrays(tmp_path, zarr_format, attributes, size, first):
    write_zarr(tmp_path / "a.zarr", volume(), zarr_format, attributes=attributes)
    source = same(tmp_path / "a.zarr", volume())
    assert (source.voxel_size, source.translation, source.notes) == (size, first, ())


@pytest.mark.parametrize("names", [["x", "y", "z"], ["width", "height", "depth"], ["X", "Y", "Z"]])
def test_names_of_axes_as_xarray_writes_them(tmp_path, names):
    at = {"_ARRAY_DIMENSIONS": names, "resolution": [8, 4, 40], "offset": [3, 2, 1]}
    write_zarr(tmp_path / "a.zarr", volume().T, 2, attributes=at)
    source = same(tmp_path / "a.zarr", volume())
    assert (source.voxel_size, source.translation) == ((40, 4, 8), (1, 2, 3))
    write_zarr(tmp_path / "b.zarr", volume().T, dimension_names=names)
    same(tmp_path / "b.zarr", volume())


def test_one_dimensional_coordinates_beside_an_image_do_not_count(tmp_path):
    zarr = pytest.importorskip("zarr")
    zarr.create_group(str(tmp_path / "a.zarr"))
    write_zarr(tmp_path / "a.zarr" / "em", volume())
    write_zarr(tmp_path / "a.zarr" / "x", np.arange(7))
    same(tmp_path / "a.zarr", volume())


def test_sizes_of_space_alone_beside_a_channel(tmp_path):
    at = {"axis_names": ["c^", "z", "y", "x"], "voxel_size": [40, 4, 8], "offset": [0, 0, 8], "units": ["nm"] * 3}
    write_zarr(tmp_path / "a.zarr", volume()[None], attributes=at)
    source = same(tmp_path / "a.zarr", volume())
    assert (source.voxel_size, source.translation) == ((40, 4, 8), (0, 0, 8))


SCALE, SHIFT = {"type": "scale", "scale": [50, 8, 8]}, {"type": "translation", "translation": [100, 40, 80]}
ROTATION = {"type": "rotation", "rotation": [[1, 0, 0], [0, 0, 1], [0, 1, 0]]}
AFFINE = {"type": "affine", "affine": [[50, 0, 0, 100], [0, 8, 0, 40], [0, 0, 8, 80]]}


@pytest.mark.parametrize(
    "steps, size, first",
    [
        ([{"type": "sequence", "transformations": [SCALE, SHIFT]}], (50, 8, 8), (100, 40, 80)),
        ([SCALE], (50, 8, 8), (0, 0, 0)),
        ([AFFINE], (50, 8, 8), (100, 40, 80)),
        ([{"type": "identity"}], (1, 1, 1), (0, 0, 0)),
        ([{"type": "sequence", "transformations": [SCALE, ROTATION]}], None, (0, 0, 0)),
    ],
)
def test_ome_zarr_0_6(tmp_path, steps, size, first):
    zarr = pytest.importorskip("zarr")
    axes = [{"name": name, "type": "space", "unit": "nanometer"} for name in "zyx"]
    systems = [{"name": "world", "axes": axes[::-1]}, {"name": "intrinsic", "axes": axes}]
    steps = [{"input": {"path": "0"}, "output": {"name": "intrinsic"}, **step} for step in steps]
    image = {
        "coordinateSystems": systems,
        "datasets": [{"path": "0", "coordinateTransformations": steps}],
        "coordinateTransformations": [{**SCALE, "input": {"name": "intrinsic"}, "output": {"name": "world"}}],
    }
    zarr.create_group(str(tmp_path / "a.zarr"), attributes={"ome": {"version": "0.6", "multiscales": [image]}})
    write_zarr(tmp_path / "a.zarr" / "0", volume())
    source = same(tmp_path / "a.zarr", volume())
    assert (source.voxel_size, source.translation) == (size, first)
    assert bool(source.notes) == (size is None)


@pytest.mark.parametrize(
    "codec, says",
    [
        ("imagecodecs_webp9", "imagecodecs"),
        ("pcodec9", "its compression pcodec9"),
        ("zfpy", "pip install numcodecs[zfpy]"),
    ],
)
def test_a_codec_that_is_not_there_is_named(tmp_path, codec, says):
    import json

    numcodecs = pytest.importorskip("numcodecs")
    if codec in numcodecs.registry.codec_registry:
        pytest.skip("it is there")
    write_zarr(tmp_path / "a.zarr", volume(), 2)
    file = tmp_path / "a.zarr" / ".zarray"
    file.write_text(json.dumps({**json.loads(file.read_text()), "compressor": {"id": codec}}))
    assert "damaged" not in fails(tmp_path / "a.zarr", says)


@pytest.mark.parametrize("level", ["../b.zarr", "0/../../b.zarr", "{folder}/b.zarr"])
def test_a_level_outside_of_the_container_is_refused(tmp_path, level):
    import json

    write_zarr(tmp_path / "b.zarr", volume())
    write_ome_zarr(tmp_path / "a.zarr", [volume()], [(1, 1, 1)])
    file = tmp_path / "a.zarr" / "zarr.json"
    text = json.loads(file.read_text())
    text["attributes"]["ome"]["multiscales"][0]["datasets"][0]["path"] = level.format(folder=tmp_path)
    file.write_text(json.dumps(text))
    fails(tmp_path / "a.zarr", "outside it")


def test_a_level_that_is_not_there_and_an_offset_alone_are_told(tmp_path):
    write_ome_zarr(tmp_path / "a.zarr", [volume()], [(1, 1, 1), (1, 2, 2)])
    fails(tmp_path / "a.zarr", "scale1: the image's metadata lists this level, but it is missing", level=1)
    write_zarr(tmp_path / "b.zarr", volume(), attributes={"offset": [1, 2, 3]})
    assert "`offset` has no `resolution`" in same(tmp_path / "b.zarr", volume()).notes[0]


def test_sizes_that_are_missing_or_those_of_no_image_are_unknown_and_said(tmp_path):
    data = volume()
    write_ome_zarr(tmp_path / "parsec.zarr", [data], [(4, 2, 2)], unit="parsec")
    assert (source := same(tmp_path / "parsec.zarr", data)).voxel_size is None
    assert "its unit parsec is not a length" in source.notes[0]
    write_ome_zarr(tmp_path / "huge.zarr", [data], [(1e300, 2, 2)])
    assert (source := same(tmp_path / "huge.zarr", data)).voxel_size is None
    assert "is implausible" in source.notes[0]
    write_ome_zarr(tmp_path / "none.zarr", [data], [(4, 2, 2)], "0.4")
    attributes = json.loads((tmp_path / "none.zarr" / ".zattrs").read_text())
    del attributes["multiscales"][0]["datasets"][0]["coordinateTransformations"]
    (tmp_path / "none.zarr" / ".zattrs").write_text(json.dumps(attributes))
    assert same(tmp_path / "none.zarr", data).voxel_size is None


@pytest.mark.parametrize(
    "attributes, size",
    [
        ({"pixelResolution": {"unit": "um", "dimensions": [0.008, 0.009, 0.05]}}, (50, 9, 8)),
        ({"pixelResolution": [8, 9, 50]}, None),
        ({"transform": {"axes": ["z", "y", "x"], "scale": ["a", 1, 1]}}, None),
    ],
)
def test_sizes_as_n5_viewer_writes_them_and_such_as_make_no_sense(tmp_path, attributes, size):
    write_zarr(tmp_path / "a.zarr", volume(), 2, attributes=attributes)
    source = same(tmp_path / "a.zarr", volume())
    assert source.voxel_size == size and bool(source.notes) == (size is None)


@pytest.mark.parametrize("edit", [{"datasets": None}, {"datasets": [1]}, {"datasets": [{"path": 0}]}])
def test_damaged_metadata_of_ome_is_told(tmp_path, edit):
    write_ome_zarr(tmp_path / "a.zarr", [volume()], [(4, 2, 2)], "0.4")
    file = tmp_path / "a.zarr" / ".zattrs"
    image = json.loads(file.read_text())["multiscales"][0]
    file.write_text(json.dumps({"multiscales": [{**image, **edit}]}))
    fails(tmp_path / "a.zarr", "its OME metadata is damaged", "fix .zattrs or zarr.json")


def test_transformations_that_make_no_sense_are_told_and_the_pixels_read(tmp_path):
    write_ome_zarr(tmp_path / "a.zarr", [volume()], [("a", 2, 2)], "0.4")
    source = same(tmp_path / "a.zarr", volume())
    assert source.voxel_size is None and "voxel size is not understood" in source.notes[0]


@pytest.mark.parametrize(
    "steps, note",
    [
        ([{**SCALE, "scale": [50, 8, 0]}, SHIFT], "its scale is 0 along an axis"),
        ([{**SCALE, "scale": [50, 8, None]}, SHIFT], "its voxel size, nan nm, is implausible"),
        ([SCALE, {**SHIFT, "translation": [0, None, 80]}], "its translation is not a finite number"),
        ([SCALE, {**SHIFT, "translation": [0, float("inf"), 80]}], "its translation is not a finite number"),
    ],
)
def test_transformations_that_are_no_numbers_are_noted_and_reach_no_output(tmp_path, steps, note):
    zarr = pytest.importorskip("zarr")
    axes = [{"name": name, "type": "space", "unit": "nanometer"} for name in "zyx"]
    image = {"version": "0.4", "axes": axes, "datasets": [{"path": "0", "coordinateTransformations": steps}]}
    zarr.create_group(str(tmp_path / "a.zarr"), zarr_format=2, attributes={"multiscales": [image]})
    write_zarr(tmp_path / "a.zarr" / "0", volume(), zarr_format=2)
    source = same(tmp_path / "a.zarr", volume())
    assert any(note in each for each in source.notes) and np.isfinite(source.translation).all()


def test_an_attribute_ome_of_another_kind_says_nothing(tmp_path):
    zarr = pytest.importorskip("zarr")
    write_zarr(tmp_path / "a.zarr", volume())
    zarr.open(str(tmp_path / "a.zarr")).attrs["ome"] = "hi"
    same(tmp_path / "a.zarr", volume())
