"""NumPy's .npy."""

import numpy as np
import pytest

from registry.base import UserError
from sccs.data.readers import open_image

IMAGE = np.arange(4 * 5 * 6, dtype=np.uint16).reshape(4, 5, 6)


@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", "f4", "<f8", "i4"])
def test_an_array_comes_back_by_parts(tmp_path, dtype):
    np.save(tmp_path / "a.npy", IMAGE.astype(dtype))
    source = open_image(tmp_path / "a.npy", voxel_size=[40, 8, 8])
    assert source.array.shape == (4, 5, 6) and source.voxel_size == (40, 8, 8)
    np.testing.assert_array_equal(source.array[1:3, 2:5, 1], IMAGE[1:3, 2:5, 1])


def test_an_image_is_a_volume_of_one_slice_and_axes_can_be_said(tmp_path):
    np.save(tmp_path / "a.npy", IMAGE[0])
    assert open_image(tmp_path / "a.npy").array.shape == (1, 5, 6)
    np.save(tmp_path / "b.npy", IMAGE)
    np.testing.assert_array_equal(open_image(tmp_path / "b.npy", axes="yxz").array[2], IMAGE[:, :, 2])


def headed(shape: str) -> bytes:
    """A file of that shape and 100 pixels."""
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(100)


@pytest.mark.parametrize(
    "save, says",
    [
        (lambda path: path.write_bytes(b"no array"), "not a .npy file"),
        (lambda path: path.write_bytes(b""), "empty|not a .npy file"),
        (lambda path: np.save(path, np.asfortranarray(IMAGE)), "Fortran"),
        (lambda path: np.save(path, np.array([{}, []], dtype=object)), "Python objects"),
        (lambda path: np.save(path, np.zeros(3, [("a", "u1")])), "records"),
        (lambda path: path.write_bytes(headed("(-1, 5, 5)")), "size zero, shape .-1, 5, 5"),
        (lambda path: path.write_bytes(headed("(1000000000, 1000000000, 1000000000)")), "truncated"),
    ],
)
def test_other_content_is_one_line(tmp_path, save, says):
    save(tmp_path / "a.npy")
    with pytest.raises(UserError, match=says) as error:
        open_image(tmp_path / "a.npy")
    assert "\n" not in str(error.value)


def test_a_cut_file_is_named(tmp_path):
    np.save(tmp_path / "a.npy", IMAGE)
    whole = (tmp_path / "a.npy").read_bytes()
    for size in (9, 60, len(whole) - 1):
        (tmp_path / "a.npy").write_bytes(whole[:size])
        with pytest.raises(UserError, match="truncated"):
            open_image(tmp_path / "a.npy")
