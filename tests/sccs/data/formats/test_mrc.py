"""MRC maps: types, byte order, voxel sizes, and files that are not whole."""

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


def test_truncated_mrc(tmp_path):
    write_mrc(tmp_path / "a.mrc", volume((4, 64, 64), "u2"))
    content = (tmp_path / "a.mrc").read_bytes()
    (tmp_path / "a.mrc").write_bytes(content[:-100])
    fails(tmp_path / "a.mrc", "truncated MRC file, shorter than its header says, (4, 64, 64)")
