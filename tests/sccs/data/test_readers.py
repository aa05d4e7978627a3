"""Every format gives the same lazy (Z, Y, X) array; every bad input gives one line."""

import json
import pickle
import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from registry.base import UserError
from sccs.data import lazy
from sccs.data.readers import check_slice, expand, open_image

DTYPES = ["u1", "u2", "i2", "u4", "f2", "f4", "f8"]


def volume(shape=(4, 9, 7), dtype="u1", seed=0):
    return np.random.default_rng(seed).integers(0, 120, shape).astype(dtype)


def fails(path, *parts, **options):
    """The one line that opening `path` ends in; every part must be in it."""
    with pytest.raises(UserError) as caught:
        open_image(path, **options)
    return said(caught, *parts)


def said(caught, *parts):
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message
    return message


def same(path, expected, **options):
    source = open_image(path, **options)
    assert source.shape == expected.shape
    np.testing.assert_array_equal(source.array[:], expected)
    assert source.dtype == expected.dtype and source.array[0].dtype == expected.dtype
    return source


# --- what each format must give -----------------------------------------------------------------------------------


def write_tiff(path, data, **options):
    options = {"photometric": "minisblack", "metadata": None, **options}
    tifffile.imwrite(path, data, **options)


def write_hdf5(path, data, **options):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        file.create_dataset("em/raw", data=data, **options)


def write_mrc(path, data, voxel_angstrom=None):
    mrcfile = pytest.importorskip("mrcfile")
    with mrcfile.new(path) as mrc:
        mrc.set_data(data)
        if voxel_angstrom:
            mrc.voxel_size = voxel_angstrom


def write_zarr(path, data, zarr_format=3, **options):
    zarr = pytest.importorskip("zarr")
    array = zarr.create_array(
        store=str(path),
        shape=data.shape,
        dtype=data.dtype,
        zarr_format=zarr_format,
        **{"chunks": tuple(min(3, n) for n in data.shape), **options},
    )
    array[...] = data


def write_n5(path, data, attributes=None, block=3):
    """`data` in (Z, Y, X); N5 stores and lists its axes as (x, y, z)."""
    tensorstore = pytest.importorskip("tensorstore")
    metadata = {
        "dimensions": list(data.shape[::-1]),
        "blockSize": [min(block, n) for n in data.shape[::-1]],
        "dataType": data.dtype.name,
        "compression": {"type": "gzip"},
    }
    spec = {"driver": "n5", "kvstore": {"driver": "file", "path": str(path) + "/"}, "metadata": metadata}
    tensorstore.open(spec, create=True).result().write(data.T).result()
    add_n5(path, attributes or {})


def add_n5(path, attributes):
    path.mkdir(parents=True, exist_ok=True)
    file = path / "attributes.json"
    old = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**old, **attributes}))


WRITERS = {
    "plain.tif": write_tiff,
    "big.tif": lambda p, d: write_tiff(p, d, bigtiff=True),
    "big_endian.tif": lambda p, d: write_tiff(p, d, byteorder=">"),
    "shaped.tif": lambda p, d: write_tiff(p, d, metadata={}),
    "zlib.tif": lambda p, d: write_tiff(p, d, compression="zlib", rowsperstrip=2),
    "tiled.tif": lambda p, d: write_tiff(p, d, tile=(16, 16)),
    "a.h5": write_hdf5,
    "zarr2.zarr": lambda p, d: write_zarr(p, d, 2),
    "zarr3.zarr": write_zarr,
}


@pytest.mark.parametrize("name", WRITERS)
@settings(max_examples=12)
@given(data=st.data())
def test_any_type_shape_and_region(tmp_path_factory, name, data):
    shape = data.draw(st.tuples(st.integers(1, 5), st.integers(2, 20), st.integers(5, 20)), "shape")
    expected = volume(shape, data.draw(st.sampled_from(DTYPES), "dtype"))
    path = tmp_path_factory.mktemp("any") / name
    WRITERS[name](path, expected)
    source = open_image(path)
    assert source.shape == shape and source.dtype == expected.dtype
    key = tuple(data.draw(st.integers(-n, n - 1) | st.slices(n).filter(lambda s: (s.step or 1) > 0)) for n in shape)
    np.testing.assert_array_equal(source.array[key], expected[key])
    np.testing.assert_array_equal(np.asarray(source.array), expected)


@pytest.mark.parametrize("dtype", ["i1", "i2", "u2", "f4"])
def test_mrc(tmp_path, dtype):
    expected = volume(dtype=dtype)
    write_mrc(tmp_path / "a.mrc", expected, (40, 46, 500))
    assert same(tmp_path / "a.mrc", expected).voxel_size == pytest.approx((50, 4.6, 4))


def test_mrc_bytes_of_imod_are_unsigned(tmp_path):
    expected = volume() + 100
    write_mrc(tmp_path / "a.mrc", expected.view("i1"))
    same(tmp_path / "a.mrc", expected.view("i1"))
    content = bytearray((tmp_path / "a.mrc").read_bytes())
    content[152:160] = np.array([1146047817, 0], "<i4").tobytes()
    (tmp_path / "a.mrc").write_bytes(content)
    same(tmp_path / "a.mrc", expected)


def test_mrc_big_endian_with_extended_header(tmp_path):
    header = np.zeros(256, ">i4")
    header[:4], header[7:10], header[23] = (7, 9, 4, 1), (7, 9, 4), 80
    header[10:13] = np.array([28, 72, 64], ">f4").view(">i4")
    expected = volume(dtype="i2")
    (tmp_path / "a.mrc").write_bytes(header.tobytes() + bytes(80) + expected.astype(">i2").tobytes())
    assert same(tmp_path / "a.mrc", expected).voxel_size == pytest.approx((1.6, 0.8, 0.4))


def test_mrc_modes_that_are_no_grey_image(tmp_path):
    for mode, says in ((4, "complex values"), (16, "MRC mode 16 (RGB or 4 bits) is not supported")):
        header = np.zeros(256, "<i4")
        header[:4] = 2, 2, 1, mode
        (tmp_path / "a.mrc").write_bytes(header.tobytes() + bytes(64))
        fails(tmp_path / "a.mrc", says)


def test_bool_becomes_uint8(tmp_path):
    expected = volume() > 60
    write_hdf5(tmp_path / "a.h5", expected)
    same(tmp_path / "a.h5", expected.astype(np.uint8))


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "pgm"])
def test_a_2d_image_is_a_volume_with_one_slice(tmp_path, suffix):
    expected = volume((9, 7))
    Image.fromarray(expected).save(tmp_path / f"a.{suffix}")
    source = same(tmp_path / f"a.{suffix}", expected[None])
    assert source.voxel_size is None
    same(tmp_path / f"a.{suffix}", expected[None], axes="yx")
    same(tmp_path / f"a.{suffix}", expected.T[None], axes="xy")


def test_16_bit_png_and_jpeg(tmp_path):
    deep = volume((9, 7), "u2") * 500
    Image.fromarray(deep).save(tmp_path / "a.png")
    same(tmp_path / "a.png", deep[None])
    Image.fromarray(volume((9, 7))).save(tmp_path / "a.jpg")
    assert open_image(tmp_path / "a.jpg").array[0].dtype == np.uint8


def test_pages_written_one_by_one_are_a_stack(tmp_path):
    expected = volume()
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for plane in expected:
            tif.write(plane, photometric="minisblack", compression="zlib")
    same(tmp_path / "a.tif", expected)


@pytest.mark.parametrize("compression", ["lzw", "zstd", "packbits"])
def test_compressed_tiff_with_predictor(tmp_path, compression):
    pytest.importorskip("imagecodecs")
    expected = volume((3, 40, 50), "u2")
    predictor = compression != "packbits"
    write_tiff(tmp_path / "a.tif", expected, compression=compression, tile=(16, 32), predictor=predictor)
    same(tmp_path / "a.tif", expected)
    np.testing.assert_array_equal(open_image(tmp_path / "a.tif").array[1, 5:38, 30:41], expected[1, 5:38, 30:41])


# --- laziness, copies for other processes -------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"tile": (128, 128)}])
def test_one_slice_of_a_tiff_does_not_load_the_stack(tmp_path, options):
    expected = np.zeros((64, 512, 512), np.uint8)
    expected[40, 3] = 7
    write_tiff(tmp_path / "a.tif", expected, **options)
    open_image(tmp_path / "a.tif")  # imports
    tracemalloc.start()
    plane = open_image(tmp_path / "a.tif").array[40]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(plane, expected[40])
    assert peak < 3 * plane.nbytes + 2**20 < expected.nbytes / 4


def test_a_chunk_layer_is_decoded_once(tmp_path, monkeypatch):
    expected = volume((7, 9, 8))
    write_zarr(tmp_path / "a.zarr", expected)
    array, reads = open_image(tmp_path / "a.zarr").array, []
    original = array.stored.read
    monkeypatch.setattr(array.stored, "read", lambda spans: reads.append(spans[0]) or original(spans))
    for z in range(7):
        np.testing.assert_array_equal(array[z], expected[z])
    assert reads == [slice(0, 3), slice(3, 6), slice(6, 7)]
    monkeypatch.setattr(lazy, "SLAB_BYTES", 1)  # no room: slice by slice
    np.testing.assert_array_equal(array[0, :4], expected[0, :4])
    assert reads[-1] == slice(0, 1)


def test_slabs_of_many_images_stay_within_the_limit(tmp_path, monkeypatch):
    expected = volume((3, 9, 8))
    monkeypatch.setattr(lazy, "SLAB_BYTES", 4 * expected.nbytes)
    arrays = []
    for i in range(6):
        write_zarr(tmp_path / f"{i}.zarr", expected)
        arrays.append(open_image(tmp_path / f"{i}.zarr").array)
        np.testing.assert_array_equal(arrays[-1][1], expected[1])
        np.testing.assert_array_equal(arrays[-1][0], expected[0])
    assert sum(a._slab is not None for a in arrays) == 4
    for array in arrays:
        np.testing.assert_array_equal(array[0], expected[0])


def test_what_was_read_may_be_written_to(tmp_path):
    expected = volume((7, 9, 8))
    write_zarr(tmp_path / "a.zarr", expected)
    array = open_image(tmp_path / "a.zarr").array
    array[0][:] = 0
    np.testing.assert_array_equal(array[0], expected[0])


@pytest.mark.parametrize("name", ["zlib.tif", "plain.tif", "a.h5", "zarr3.zarr"])
def test_an_opened_image_can_be_pickled_and_read_by_threads(tmp_path, name):
    expected = volume((8, 9, 7))
    WRITERS[name](tmp_path / name, expected)
    source = open_image(tmp_path / name)
    source.array[0]
    copy = pickle.loads(pickle.dumps(source))
    assert copy.path == source.path and copy.voxel_size == source.voxel_size
    with ThreadPoolExecutor(4) as pool:
        planes = list(pool.map(copy.array.__getitem__, list(range(8)) * 4))
    np.testing.assert_array_equal(np.stack(planes[:8]), expected)
    np.testing.assert_array_equal(np.stack(planes[-8:]), expected)


def test_indexing_like_an_array(tmp_path):
    write_tiff(tmp_path / "a.tif", volume())
    array = open_image(tmp_path / "a.tif").array
    assert len(array) == 4 and array.ndim == 3 and array.nbytes == array.size == 4 * 9 * 7
    assert array[..., 0].shape == (4, 9) and array[1:1].shape == (0, 9, 7) and array[::2, 1::3].shape == (2, 3, 7)
    for bad in (4, (0, 0, 0, 0), slice(None, None, -1)):
        with pytest.raises(IndexError):
            array[bad]


# --- folders and globs --------------------------------------------------------------------------------------------


def write_slices(folder, data, suffix="png"):
    folder.mkdir()
    for z, plane in enumerate(data):
        Image.fromarray(plane).save(folder / f"s_{z}.{suffix}")


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_folder_and_glob_in_natural_order(tmp_path, suffix):
    expected = volume((12, 9, 7))
    write_slices(tmp_path / "em", expected, suffix)
    (tmp_path / "em" / "notes.txt").write_text("s_2 is blurred")
    same(tmp_path / "em", expected)
    same(tmp_path / "em" / f"s_*.{suffix}", expected)
    np.testing.assert_array_equal(open_image(tmp_path / "em").array[9:12, 2:4, 1], expected[9:12, 2:4, 1])


def test_the_odd_slice_is_named(tmp_path):
    write_slices(tmp_path / "em", volume((5, 9, 7)))
    Image.fromarray(volume((9, 8))).save(tmp_path / "em" / "s_3.png")
    fails(tmp_path / "em", "s_3.png: is (9, 8) uint8, 4 of 5 images beside it are (9, 7) uint8")
    Image.fromarray(volume((9, 7), "u2")).save(tmp_path / "em" / "s_3.png")
    fails(tmp_path / "em", "s_3.png: is (9, 7) uint16")


def test_empty_folders_and_globs(tmp_path):
    fails(tmp_path, "an empty folder: give a folder of TIFF, PNG or JPEG slices")
    (tmp_path / "notes.txt").write_text("x")
    fails(tmp_path, "a folder without images (holds notes.txt)")
    fails(tmp_path / "*.tif", "no file matches this pattern")


def test_stacks_in_a_folder(tmp_path):
    write_tiff(tmp_path / "a.tif", volume())
    fails(tmp_path, "a.tif: is a stack of 4 slices: give the file itself")


# --- axes and voxel sizes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "axes, shape, turn",
    [
        ("zyx", (4, 9, 7), (0, 1, 2)),
        ("xyz", (7, 9, 4), (2, 1, 0)),
        ("yxz", (9, 7, 4), (2, 0, 1)),
        ("czyx", (1, 4, 9, 7), (1, 2, 3)),
        ("zyxc", (4, 9, 7, 1), (0, 1, 2)),
        ("tzcyx", (1, 4, 1, 9, 7), (1, 3, 4)),
        ("zyx", (1, 4, 9, 7), (1, 2, 3)),
        ("czyx", (4, 9, 7), (0, 1, 2)),
        ("ZYX", (4, 9, 7), (0, 1, 2)),
    ],
)
def test_axes_given_by_the_user(tmp_path, axes, shape, turn):
    data = volume(shape)
    write_hdf5(tmp_path / "a.h5", data)
    rest = tuple(i for i in range(data.ndim) if i not in turn)
    expected = data.transpose(turn + rest).reshape([shape[i] for i in turn])
    same(tmp_path / "a.h5", expected, axes=axes)


@pytest.mark.parametrize(
    "axes, says",
    [
        ("zyy", "write each axis once"),
        ("zy", "y and x among them"),
        ("zyxw", "letters of zyxcts"),
        ("yx", "do not fit its shape (4, 9, 7)"),
        ("cyx", "axis c has size 4"),
    ],
)
def test_axes_that_cannot_be(tmp_path, axes, says):
    write_hdf5(tmp_path / "a.h5", volume())
    fails(tmp_path / "a.h5", says, axes=axes)


def test_more_axes_than_a_volume_has(tmp_path):
    write_hdf5(tmp_path / "a.h5", volume((2, 4, 9, 7)))
    fails(tmp_path / "a.h5", "has shape (2, 4, 9, 7)", "say `axes:`")
    write_hdf5(tmp_path / "b.h5", volume((1, 4, 9, 7)))
    same(tmp_path / "b.h5", volume((1, 4, 9, 7))[0])


def test_the_users_voxel_size_wins(tmp_path):
    write_mrc(tmp_path / "a.mrc", volume(dtype="u2"), (40, 40, 40))
    assert open_image(tmp_path / "a.mrc").voxel_size == (4, 4, 4)
    assert open_image(tmp_path / "a.mrc", voxel_size=[16, 8, 8]).voxel_size == (16, 8, 8)
    assert open_image(tmp_path / "a.mrc", voxel_size=8).voxel_size == (8, 8, 8)
    for bad in ([16, 8], [0, 1, 1], ["a", 1, 1], [1, 1, float("nan")]):
        fails(tmp_path / "a.mrc", "write three positive numbers in nm, [z, y, x]", voxel_size=bad)


def test_a_voxel_size_turns_with_the_axes(tmp_path):
    h5py = pytest.importorskip("h5py")
    write_hdf5(tmp_path / "a.h5", volume())
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["em/raw"].attrs["element_size_um"] = [0.05, 0.01, 0.02]
    assert open_image(tmp_path / "a.h5").voxel_size == (50, 10, 20)
    assert open_image(tmp_path / "a.h5", axes="xyz").voxel_size == (20, 10, 50)


@pytest.mark.parametrize("unit, nm", [("nm", 1), ("um", 1e3), ("micron", 1e3), ("\\u00B5m", 1e3), ("pixel", None)])
def test_imagej_voxel_size(tmp_path, unit, nm):
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, volume(), imagej=True, resolution=(1 / 4, 1 / 8), metadata={"axes": "ZYX", "spacing": 16, "unit": unit}
    )
    assert same(path, volume()).voxel_size == (nm and pytest.approx((16 * nm, 8 * nm, 4 * nm)))


def test_imagej_stack_of_frames_is_a_volume(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", volume(), imagej=True, metadata={"axes": "TYX"})
    same(tmp_path / "a.tif", volume())


def test_ome_tiff_voxel_size(tmp_path):
    sizes = {"PhysicalSizeX": 0.004, "PhysicalSizeY": 8, "PhysicalSizeYUnit": "nm", "PhysicalSizeZ": 0.016}
    tifffile.imwrite(
        tmp_path / "a.ome.tif", volume(), ome=True, photometric="minisblack", metadata={"axes": "ZYX", **sizes}
    )
    assert same(tmp_path / "a.ome.tif", volume()).voxel_size == (16, 8, 4)


def test_resolution_tags_of_a_2d_tiff(tmp_path):
    write_tiff(tmp_path / "a.tif", volume()[0], resolution=(1e7 / 4, 1e7 / 8), resolutionunit="CENTIMETER")
    assert open_image(tmp_path / "a.tif").voxel_size == (8, 8, 4)
    write_tiff(tmp_path / "b.tif", volume()[0], resolution=(72, 72), resolutionunit="INCH")
    assert open_image(tmp_path / "b.tif").voxel_size is None


def test_levels_of_a_pyramidal_tiff(tmp_path):
    fine = volume((64, 48))
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as tif:
        sizes = {f"PhysicalSize{a}": 4 for a in "XY"} | {f"PhysicalSize{a}Unit": "nm" for a in "XY"}
        options = {"photometric": "minisblack", "tile": (16, 16)}
        tif.write(fine, subifds=1, metadata={"axes": "YX", **sizes}, **options)
        tif.write(fine[::2, ::2], subfiletype=1, **options)
    assert same(tmp_path / "a.ome.tif", fine[None]).voxel_size == (4, 4, 4)
    assert same(tmp_path / "a.ome.tif", fine[None, ::2, ::2], level=1).voxel_size == (8, 8, 8)
    fails(tmp_path / "a.ome.tif", "has 2 level(s), `level: 2` was asked for", level=2)


# --- HDF5 ---------------------------------------------------------------------------------------------------------


def test_hdf5_paths(tmp_path):
    h5py = pytest.importorskip("h5py")
    write_hdf5(tmp_path / "a.h5", volume())
    for inside in ("", ":em/raw", ":/em/raw", ":"):
        assert same(f"{tmp_path}/a.h5{inside}", volume()).path == f"{tmp_path}/a.h5:/em/raw"
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["labels"] = volume(dtype="u2")
        file["name"] = "a cell"
    fails(tmp_path / "a.h5", "several datasets and none named", "/em/raw (4, 9, 7) uint8", "/labels (4, 9, 7) uint16")
    same(f"{tmp_path}/a.h5:/labels", volume(dtype="u2"))
    fails(f"{tmp_path}/a.h5:/em/row", "no dataset /em/row", "/em/raw")
    fails(f"{tmp_path}/a.h5:/em", "no dataset /em;")
    fails(f"{tmp_path}/b.h5:/em", f"did you mean {tmp_path}/a.h5?")


# --- Zarr ---------------------------------------------------------------------------------------------------------


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
    fails(tmp_path / "a.ome.zarr", "has 2 level(s) (scale0, scale1), `level: 2` was asked for", level=2)


def test_ome_zarr_with_channel_and_time(tmp_path):
    data = volume((1, 1, 4, 9, 7))
    write_ome_zarr(tmp_path / "a.zarr", [data], [(1, 1, 2, 1, 1)], "0.4", "tczyx", base_scale=[1, 1, 8, 4, 4])
    assert same(tmp_path / "a.zarr", data[0, 0]).voxel_size == (16, 4, 4)
    write_ome_zarr(tmp_path / "b.zarr", [volume((2, 4, 9, 7))], [(1, 1, 1, 1)], axes="czyx")
    fails(tmp_path / "b.zarr", "has 2 channels, SCCS takes grey images")


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
    fails(tmp_path / "a.zarr", "several arrays and none named", "em, labels")
    same(f"{tmp_path}/a.zarr:/em", volume())
    zarr.create_group(str(tmp_path / "b.zarr"))
    write_ome_zarr(tmp_path / "b.zarr" / "em", [volume((4, 10, 8)), volume((4, 5, 4))], [(8, 4, 4), (8, 8, 8)])
    write_zarr(tmp_path / "b.zarr" / "em" / "labels" / "mito", volume((4, 10, 8), seed=1))
    assert same(tmp_path / "b.zarr", volume((4, 5, 4)), level=1).voxel_size == (8, 8, 8)  # its labels do not count
    write_ome_zarr(tmp_path / "b.zarr" / "sem", [volume()], [(1, 1, 1)])
    fails(tmp_path / "b.zarr", "several arrays and none named", "<one of: em, sem>")
    fails(tmp_path / "a.zarr" / "em2", f"did you mean {tmp_path}/a.zarr/em?")


def test_zarr_dimension_names_and_shards(tmp_path):
    data = volume((7, 9, 4))
    write_zarr(tmp_path / "a.zarr", data, dimension_names=("x", "y", "z"), chunks=(2, 2, 2), shards=(4, 4, 4))
    source = same(tmp_path / "a.zarr", data.T)
    assert source.array.chunk_depth == 4


# --- N5 -----------------------------------------------------------------------------------------------------------


def test_n5_is_turned_to_zyx(tmp_path):
    data = volume((4, 9, 7), "u2")
    write_n5(tmp_path / "a.n5" / "em" / "s0", data, {"pixelResolution": {"dimensions": [4, 8, 16], "unit": "nm"}})
    source = same(tmp_path / "a.n5" / "em" / "s0", data)
    assert source.voxel_size == (16, 8, 4) and source.array.chunk_depth == 3
    np.testing.assert_array_equal(source.array[1, 2:5, 3], data[1, 2:5, 3])
    same(tmp_path / "a.n5", data)
    same(f"{tmp_path}/a.n5:/em/s0", data)
    same(pickle.loads(pickle.dumps(source)).path, data)


def test_n5_written_by_hand_after_its_specification(tmp_path):
    """One raw block: mode, rank and sizes in big-endian, then values with x running fastest."""
    pytest.importorskip("tensorstore")
    data = volume((4, 9, 7), "u2")
    add_n5(
        tmp_path / "a.n5",
        {"dimensions": [7, 9, 4], "blockSize": [7, 9, 4], "dataType": "uint16", "compression": {"type": "raw"}},
    )
    block = tmp_path / "a.n5" / "0" / "0" / "0"
    block.parent.mkdir(parents=True)
    head = np.array([0, 3], ">u2").tobytes() + np.array([7, 9, 4], ">u4").tobytes()
    block.write_bytes(head + data.astype(">u2").tobytes())
    same(tmp_path / "a.n5", data)


def test_n5_with_a_single_channel(tmp_path):
    data = volume((1, 4, 9, 7), "u2")  # stored as (x, y, z, c)
    write_n5(tmp_path / "a.n5", data)
    same(tmp_path / "a.n5", data[0])


def test_n5_levels_and_where_their_voxel_size_stands(tmp_path):
    fine = volume((4, 10, 8))
    levels = [fine, fine[:, ::2, ::2]]

    def container(name, group, each):
        for i, data in enumerate(levels):
            write_n5(tmp_path / name / "em" / f"s{i}", data, each[i])
        add_n5(tmp_path / name / "em", group)
        sizes = []
        for i, data in enumerate(levels):
            sizes.append(same(tmp_path / name / "em", data, level=i).voxel_size)
            assert same(tmp_path / name / "em" / f"s{i}", data).voxel_size == sizes[-1]
        return sizes

    expected = [(16, 8, 4), (16, 16, 8)]
    resolution = {"pixelResolution": {"dimensions": [0.004, 0.008, 0.016], "unit": "um"}}
    assert container("viewer.n5", {**resolution, "scales": [[1, 1, 1], [2, 2, 1]]}, [{}, {}]) == expected
    assert container("spark.n5", resolution, [{}, {"downsamplingFactors": [2, 2, 1]}]) == expected
    assert container("own.n5", {}, [resolution, {**resolution, "downsamplingFactors": [2, 2, 1]}]) == expected
    assert (
        container(
            "neuroglancer.n5", {"resolution": [4, 8, 16], "units": ["nm"] * 3}, [{}, {"downsamplingFactors": [2, 2, 1]}]
        )
        == expected
    )
    transforms = [
        {"axes": ["z", "y", "x"], "scale": list(s), "translate": [0, 0, 0], "units": ["nm"] * 3} for s in expected
    ]
    assert (
        container(
            "organelle.n5",
            {"pixelResolution": {"dimensions": [4, 8, 16], "unit": "nm"}},
            [{"transform": t} for t in transforms],
        )
        == expected
    )
    datasets = [{"path": f"s{i}", "transform": t} for i, t in enumerate(transforms)]
    assert container("group.n5", {"multiscales": [{"datasets": datasets}]}, [{}, {}]) == expected
    fails(tmp_path / "group.n5" / "em", "has 2 level(s) (s0, s1)", level=5)


UM = ["um"] * 3


@pytest.mark.parametrize(
    "group, each, translations",
    [
        (
            {},
            [
                {
                    "transform": {
                        "axes": ["z", "y", "x"],
                        "scale": [0.016, 0.008 * f, 0.004 * f],
                        "units": UM,
                        "translate": [0.5, 0.02 + 0.004 * (f - 1), 0.03],
                    }
                }
                for f in (1, 2)
            ],
            [(500, 20, 30), (500, 24, 30)],
        ),
        (
            {},
            [
                {
                    "transform": {
                        "axes": ["x", "y", "z"],
                        "scale": [4 * f, 8 * f, 16],
                        "units": ["nm", "nm", "nm"],
                        "translate": [3, 2, 1],
                    }
                }
                for f in (1, 2)
            ],
            [(1, 2, 3)] * 2,
        ),
        (
            {
                "multiscales": [
                    {
                        "name": "em",
                        "datasets": [
                            {
                                "path": f"s{i}",
                                "transform": {
                                    "axes": ["z", "y", "x"],
                                    "scale": [16, 8 * f, 4 * f],
                                    "units": ["nm"] * 3,
                                    "translate": [1, 2 * f, 3],
                                },
                            }
                            for i, f in enumerate((1, 2))
                        ],
                    }
                ]
            },
            [{}, {}],
            [(1, 2, 3), (1, 4, 3)],
        ),
        (
            {
                "multiscales": [
                    {
                        "axes": [{"name": a, "type": "space", "unit": "micrometer"} for a in "zyx"],
                        "datasets": [
                            {
                                "path": f"s{i}",
                                "coordinateTransformations": [
                                    {"type": "scale", "scale": [0.016, 0.008 * f, 0.004 * f]},
                                    {"type": "translation", "translation": [1, 2 * f, 3]},
                                ],
                            }
                            for i, f in enumerate((1, 2))
                        ],
                    }
                ]
            },
            [{}, {}],
            [(1000, 2000, 3000), (1000, 4000, 3000)],
        ),
        (
            {"pixelResolution": {"dimensions": [0.004, 0.008, 0.016], "unit": "um"}, "scales": [[1, 1, 1], [2, 2, 1]]},
            [{}, {}],
            [(0, 0, 0), (0, 4, 2)],
        ),  # a voxel of the second level lies in the middle of four
        (
            {"resolution": [4, 8, 16], "offset": [30, 20, 10]},
            [{}, {"downsamplingFactors": [2, 2, 1]}],
            [(10, 20, 30), (10, 24, 32)],
        ),
    ],
)
def test_n5_says_where_its_first_voxel_is(tmp_path, group, each, translations):
    fine = volume((4, 10, 8))
    for i, data in enumerate((fine, fine[:, ::2, ::2])):
        write_n5(tmp_path / "a.n5" / "em" / f"s{i}", data, each[i])
    add_n5(tmp_path / "a.n5" / "em", group)
    for i, (expected, size) in enumerate(zip(translations, [(16, 8, 4), (16, 16, 8)])):
        for source in (open_image(tmp_path / "a.n5" / "em", level=i), open_image(tmp_path / "a.n5" / "em" / f"s{i}")):
            assert source.translation == expected and source.voxel_size == size


@pytest.mark.parametrize(
    "attributes, size, translation",
    [
        ({"transform": {"scale": [16, 8, 4], "units": "nm", "translate": [1, 2, 3]}}, (16, 8, 4), (1, 2, 3)),
        ({"transform": {"scale": [16, 8, 4], "axes": ["z", "y", "x"]}}, (16, 8, 4), (0, 0, 0)),
        (
            {
                "transform": {
                    "scale": [1, 1, 1],
                    "axes": ["z", "y", "x"],
                    "units": ["pixel"] * 3,
                    "translate": [5, 5, 5],
                }
            },
            None,
            (0, 0, 0),
        ),  # of no known length
        ({}, None, (0, 0, 0)),
    ],
)
def test_n5_transforms_that_say_less(tmp_path, attributes, size, translation):
    write_n5(tmp_path / "a.n5", volume(), attributes)
    source = open_image(tmp_path / "a.n5")
    assert (source.voxel_size, source.translation) == (size, translation)


def test_n5_groups(tmp_path):
    write_n5(tmp_path / "a.n5" / "em", volume())
    write_n5(tmp_path / "a.n5" / "labels" / "mito", volume())
    fails(tmp_path / "a.n5", "several datasets and none named", "em, labels/mito")
    for i, data in enumerate((volume((4, 10, 8)), volume((4, 5, 4)))):
        write_n5(tmp_path / "c.n5" / "em" / f"s{i}", data)
    same(tmp_path / "c.n5", volume((4, 5, 4)), level=1)
    write_n5(tmp_path / "c.n5" / "labels" / "s0", volume())
    fails(tmp_path / "c.n5", "several datasets and none named", "<one of: em, labels>")
    (tmp_path / "b.n5").mkdir()
    fails(tmp_path / "b.n5", "an N5 group without a dataset")


# --- bad input ----------------------------------------------------------------------------------------------------


def test_a_missing_file_names_the_nearest_one(tmp_path):
    write_tiff(tmp_path / "platelet_image.tif", volume())
    fails(tmp_path / "platelet_imag.tif", "no such file or folder", f"did you mean {tmp_path}/platelet_image.tif?")
    fails(tmp_path / "nowhere" / "a" / "b.tif", f"{tmp_path}/nowhere does not exist")


def test_variables_and_home(tmp_path, monkeypatch):
    write_tiff(tmp_path / "a.tif", volume())
    monkeypatch.setenv("SCCS_TEST_DATA", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    for path in ("${SCCS_TEST_DATA}/a.tif", "$SCCS_TEST_DATA/a.tif", "~/a.tif"):
        assert expand(path) == str(tmp_path / "a.tif")
        same(path, volume())
    monkeypatch.delenv("SCCS_TEST_DATA")
    fails("${SCCS_TEST_DATA}/a.tif", "the environment variable SCCS_TEST_DATA is not set")


@pytest.mark.parametrize(
    "suffix, mode, says",
    [
        ("png", "RGB", "3 channels (RGB)"),
        ("png", "RGBA", "4 channels (RGBA)"),
        ("jpg", "RGB", "3 channels (RGB)"),
        ("png", "LA", "2 channels (LA)"),
        ("tif", "RGB", "3 channels (RGB)"),
        ("tif", "RGBA", "4 channels (RGBA)"),
    ],
)
def test_rgb(tmp_path, suffix, mode, says):
    Image.new(mode, (9, 7)).save(tmp_path / f"a.{suffix}")
    fails(tmp_path / f"a.{suffix}", f"a.{suffix}: has {says}, SCCS takes grey images: convert it to grey")


@pytest.mark.parametrize("shape", [(4, 9, 7, 3), (9, 7, 3), (3, 9, 7)])
def test_rgb_stacks_and_planes(tmp_path, shape):
    planar = shape[0] == 3
    tifffile.imwrite(
        tmp_path / "a.tif",
        volume(shape),
        photometric="rgb",
        planarconfig="separate" if planar else "contig",
        metadata=None,
    )
    fails(tmp_path / "a.tif", "has 3 channels (RGB)")
    if planar:  # the user knows better
        same(tmp_path / "a.tif", volume(shape), axes="zyx")


def test_rgb_in_formats_that_know_no_colours(tmp_path):
    write_hdf5(tmp_path / "a.h5", volume((9, 7, 3)))
    fails(tmp_path / "a.h5", "has 3 channels (RGB)", "or say `axes:`")
    same(tmp_path / "a.h5", volume((9, 7, 3)), axes="zyx")


def test_imagej_channels(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", volume((2, 9, 7)), imagej=True, metadata={"axes": "CYX"})
    fails(tmp_path / "a.tif", "has 2 channels")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_name_the_slice(tmp_path, bad):
    data = volume(dtype="f4")
    data[2, 3, 4] = bad
    write_tiff(tmp_path / "a.tif", data)
    array = open_image(tmp_path / "a.tif").array
    np.testing.assert_array_equal(array[1], data[1])
    for key in (2, slice(None), (slice(None), 3)):
        with pytest.raises(UserError) as caught:
            array[key]
        said(caught, "a.tif, slice z=2: 1 NaN or infinite values")
    np.testing.assert_array_equal(array[2, :3], data[2, :3])


def test_check_slice():
    check_slice(np.array([[0, 1]]), "a.tif")
    with pytest.raises(UserError, match=r"a.tif, slice z=3: constant image, every pixel is 7"):
        check_slice(np.full((4, 4), 7), "a.tif, slice z=3")
    with pytest.raises(UserError, match=r"a.tif: 1 NaN or infinite values"):
        check_slice(np.array([[0, np.nan]]), "a.tif")


@pytest.mark.parametrize(
    "options", [{}, {"metadata": {}}, {"compression": "zlib"}, {"tile": (16, 16)}, {"imagej": True}]
)
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.97])
def test_truncated_tiff(tmp_path, options, kept):
    path = tmp_path / "a.tif"
    write_tiff(path, np.random.default_rng(0).integers(0, 255, (5, 64, 64)).astype("u1"), **options)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    fails(path, "a.tif: ", "truncated")


@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.h5", "a.mrc"])
@pytest.mark.parametrize("content", [b"", b"this is no image" * 100])
def test_files_that_are_not_what_their_name_says(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    fails(tmp_path / name, f"{name}: ")


def test_damaged_pixels(tmp_path):
    path = tmp_path / "a.tif"
    write_tiff(path, volume((3, 64, 64)), compression="zlib")
    with tifffile.TiffFile(path) as tif:
        at = tif.pages[1].dataoffsets[0]
    content = bytearray(path.read_bytes())
    content[at : at + 20] = b"\xff" * 20
    path.write_bytes(content)
    array = open_image(path).array
    array[0]
    with pytest.raises(UserError) as caught:
        array[1]
    said(caught, "a.tif, slice z=1: cannot be read, the file is truncated or damaged")


def test_damaged_png(tmp_path):
    Image.fromarray(volume((64, 64))).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError) as caught:
        open_image(tmp_path / "a.png").array[0]
    said(caught, "a.png: cannot be read, the file is truncated or damaged")


@pytest.mark.parametrize("content", [b"", b"\xff" * 40])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_damaged_zarr_chunk(tmp_path, zarr_format, content):
    write_zarr(tmp_path / "a.zarr", volume(), zarr_format)
    (tmp_path / "a.zarr" / ("c/1/0/0" if zarr_format == 3 else "1.0.0")).write_bytes(content)
    array = open_image(tmp_path / "a.zarr").array
    np.testing.assert_array_equal(array[0], volume()[0])
    with pytest.raises(UserError) as caught:
        array[3]
    said(caught, "a.zarr, slice z=3: cannot be read, the file is truncated or damaged")


def test_damaged_zarr_metadata(tmp_path):
    write_zarr(tmp_path / "a.zarr", volume())
    (tmp_path / "a.zarr" / "zarr.json").write_text("{")
    fails(tmp_path / "a.zarr", "a.zarr: cannot be read")


def test_damaged_n5_block(tmp_path):
    write_n5(tmp_path / "a.n5", volume())
    (tmp_path / "a.n5" / "0" / "0" / "1").write_bytes(b"\x00\x00\x00")
    array = open_image(tmp_path / "a.n5").array
    np.testing.assert_array_equal(array[0], volume()[0])
    with pytest.raises(UserError) as caught:
        array[3]
    said(caught, "a.n5, slice z=3: cannot be read")


def test_truncated_mrc(tmp_path):
    write_mrc(tmp_path / "a.mrc", volume((4, 64, 64), "u2"))
    content = (tmp_path / "a.mrc").read_bytes()
    (tmp_path / "a.mrc").write_bytes(content[:-100])
    fails(tmp_path / "a.mrc", "truncated MRC file, shorter than its header says, (4, 64, 64)")


def test_unknown_formats(tmp_path):
    for name in ("a.czi", "a"):
        (tmp_path / name).write_bytes(b"x")
        fails(tmp_path / name, "unknown image format", "SCCS reads TIFF, PNG")
    (tmp_path / "s_²_٣").write_bytes(b"x")  # digits to Python, numbers to nobody
    fails(tmp_path / "*", "not a 2-D image format that SCCS knows")


def test_complex_text_and_empty_arrays(tmp_path):
    for name, data, says in (
        ("complex", np.zeros((4, 9, 7), "c8"), "complex values (complex64): save the magnitude"),
        ("record", np.zeros((4, 9, 7), [("a", "u1"), ("b", "f4")]), "SCCS takes integers and floats"),
        ("empty", np.zeros((4, 0, 7), "u1"), "image of size zero, shape (4, 0, 7)"),
        ("line", np.zeros(7, "u1"), "an image needs two or three axes"),
    ):
        write_hdf5(tmp_path / f"{name}.h5", data)
        fails(f"{tmp_path / name}.h5:/em/raw", says)
    write_tiff(tmp_path / "a.tif", np.zeros((4, 9, 7), "c8"))
    fails(tmp_path / "a.tif", "complex values")


def test_images_of_different_kinds_in_one_tiff(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for shape in ((4, 9, 7), (4, 5, 5)):
            tif.write(volume(shape), photometric="minisblack")
    fails(tmp_path / "a.tif", "holds 2 images of different kinds", "(4, 9, 7) uint8, (4, 5, 5) uint8")


def test_a_level_of_a_file_without_levels(tmp_path):
    write_hdf5(tmp_path / "a.h5", volume())
    same(tmp_path / "a.h5", volume(), level=0)
    fails(tmp_path / "a.h5", "has no levels, `level: 1` was asked for", level=1)


@pytest.mark.parametrize("name, package", [("a.h5", "h5py"), ("a.zarr", "zarr"), ("a.n5", "tensorstore")])
def test_a_missing_package_comes_with_its_command(tmp_path, monkeypatch, name, package):
    if package == "h5py":
        (tmp_path / name).touch()
    else:
        (tmp_path / name).mkdir()
        (tmp_path / name / ("zarr.json" if package == "zarr" else "attributes.json")).touch()
    monkeypatch.setitem(sys.modules, package, None)
    fails(tmp_path / name, f"needs {package}: pip install '{package}>=")


def test_a_missing_codec_comes_with_its_command(tmp_path, monkeypatch):
    write_tiff(tmp_path / "a.tif", volume(), compression="zlib")
    array = open_image(tmp_path / "a.tif").array

    def read(spans):
        raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    monkeypatch.setattr(array.stored, "read", read)
    with pytest.raises(UserError, match="needs imagecodecs: pip install 'imagecodecs>="):
        array[0]


def test_importing_the_readers_is_light():
    code = "import sys, sccs.data.readers, sccs.data.writers; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"tifffile", "zarr", "h5py", "tensorstore", "PIL", "imagecodecs", "torch"}
    assert "sccs.data.readers" in loaded and not heavy & set(loaded)
