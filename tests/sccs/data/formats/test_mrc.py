"""MRC maps: types, byte order, voxel sizes, and files that are not whole."""

import struct

import numpy as np
import pytest

from tests.sccs.data.image_files import fails, same, volume, write_mrc


@pytest.mark.parametrize("dtype", ["i1", "i2", "u2", "f4"])
def test_mrc(tmp_path, dtype):
    expected = volume(dtype=dtype)
    write_mrc(tmp_path / "a.mrc", expected, (40, 46, 500))
    assert same(tmp_path / "a.mrc", expected).voxel_size == pytest.approx((50, 4.6, 4))


def test_mrc_bytes_of_imod_are_unsigned(tmp_path):
    expected = volume() + 100
    write_mrc(tmp_path / "a.mrc", expected.view("i1"))
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


def test_mrc_big_endian_bytes_whose_mode_is_the_same_in_both_orders(tmp_path):
    header = np.zeros(256, ">i4")
    header[:3] = 7, 9, 4
    (tmp_path / "a.mrc").write_bytes(header.tobytes() + volume().tobytes())
    same(tmp_path / "a.mrc", volume(dtype="i1"))


def test_mrc_modes_that_are_no_grey_image(tmp_path):
    for mode, says in ((4, "complex values"), (16, "MRC mode 16 (RGB or 4 bits) is not supported")):
        header = np.zeros(256, "<i4")
        header[:4] = 2, 2, 1, mode
        (tmp_path / "a.mrc").write_bytes(header.tobytes() + bytes(64))
        fails(tmp_path / "a.mrc", says)


def test_truncated_mrc(tmp_path):
    write_mrc(tmp_path / "a.mrc", volume((4, 64, 64), "u2"))
    content = (tmp_path / "a.mrc").read_bytes()
    (tmp_path / "a.mrc").write_bytes(content[:-100])
    fails(tmp_path / "a.mrc", "truncated MRC file, too short for the shape in its header, (4, 64, 64)")


def header(path, **words):
    """Write 32-bit words of a header by their place."""
    content = bytearray(path.read_bytes())
    for place, value in words.items():
        struct.pack_into("<f" if isinstance(value, float) else "<i", content, 4 * int(place.lstrip("w")), value)
    path.write_bytes(content)


@pytest.mark.parametrize("order", ["xyz", "zyx", "yzx", "xzy"])
def test_the_order_of_axes_is_the_headers(tmp_path, order):
    expected = volume((4, 9, 7), "i2")
    turn = ["zyx".index(a) for a in order]  # sections, rows, columns
    write_mrc(tmp_path / "a.mrc", np.ascontiguousarray(expected.transpose(turn)))
    maps, mapr, mapc = ("xyz".index(a) + 1 for a in order)
    edges = {"w10": 7 * 80.0, "w11": 9 * 90.0, "w12": 4 * 250.0}
    header(tmp_path / "a.mrc", w7=7, w8=9, w9=4, w16=mapc, w17=mapr, w18=maps, **edges)
    assert same(tmp_path / "a.mrc", expected).voxel_size == (25, 9, 8)


def test_an_order_of_axes_that_is_none_is_told(tmp_path):
    write_mrc(tmp_path / "a.mrc", volume(dtype="i2"))
    header(tmp_path / "a.mrc", w16=0, w17=0, w18=0)  # as old programs leave it
    assert same(tmp_path / "a.mrc", volume(dtype="i2")).notes == ()
    header(tmp_path / "a.mrc", w16=1, w17=1, w18=3)
    assert "not a valid order of axes" in same(tmp_path / "a.mrc", volume(dtype="i2")).notes[0]


def smooth(dtype):
    """Values that rise from the smallest to the largest of the type, with noise."""
    info = np.iinfo(dtype)
    ramp = np.linspace(0.05, 0.95, 64) + np.random.default_rng(0).normal(0, 0.01, (3, 20, 64))
    return (info.min + ramp * (float(info.max) - info.min)).astype(dtype)


@pytest.mark.parametrize("signed", ["i1", "i2"])
@pytest.mark.parametrize("said", [True, False])
def test_whether_integers_are_signed_is_looked_at(tmp_path, signed, said):
    """said: the header has the range of the pixels."""
    for dtype in (signed, signed.replace("i", "u")):
        data = smooth(dtype)
        (tmp_path / "a.mrc").unlink(missing_ok=True)
        write_mrc(tmp_path / "a.mrc", data.view(signed))
        extremes = (float(data.min()), float(data.max())) if said else (0.0, 0.0)
        header(tmp_path / "a.mrc", w19=extremes[0], w20=extremes[1])
        source = same(tmp_path / "a.mrc", data)
        assert bool(source.notes) == (dtype[0] == "u" and not said)


def test_imods_word_counts(tmp_path):
    data = smooth("u1")
    write_mrc(tmp_path / "a.mrc", data.view("i1"))
    header(tmp_path / "a.mrc", w38=1146047817, w39=1)
    same(tmp_path / "a.mrc", data.view("i1"))


def test_a_stack_of_volumes_is_none(tmp_path):
    write_mrc(tmp_path / "a.mrc", volume((8, 9, 7), "i2"))
    header(tmp_path / "a.mrc", w22=401, w9=4)
    fails(tmp_path / "a.mrc", "has shape (2, 4, 9, 7)", "save one volume of it")
    header(tmp_path / "a.mrc", w9=8)
    same(tmp_path / "a.mrc", volume((8, 9, 7), "i2"))
