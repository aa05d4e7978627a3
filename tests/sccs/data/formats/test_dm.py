"""Gatan's DM3 and DM4. No library writes them, so the files are put together here, tag by tag."""

import struct

import numpy as np
import pytest

from registry.base import UserError
from sccs.data.readers import open_image
from sccs.data.survey import survey

pytest.importorskip("ncempy")
IMAGE = np.arange(4 * 5 * 6, dtype=np.uint16).reshape(4, 5, 6)
KINDS = {"int16": 1, "float32": 2, "uint8": 6, "int32": 7, "int8": 9, "uint16": 10, "uint32": 11, "float64": 12}
CODES = {"int16": 2, "float32": 6, "uint8": 8, "int32": 3, "int8": 9, "uint16": 4, "uint32": 5, "float64": 7}


def group(version: int, entries: dict[str, bytes | dict]) -> bytes:
    """A group of tags; a name that begins with `#` is left out of the file."""
    size = ">I" if version == 3 else ">Q"
    out = b"\x00\x00" + struct.pack(size, len(entries))
    for name, value in entries.items():
        label = b"" if name.startswith("#") else name.encode()
        body = group(version, value) if isinstance(value, dict) else value
        length = b"" if version == 3 else struct.pack(">Q", len(body))
        out += bytes([20 if isinstance(value, dict) else 21]) + struct.pack(">H", len(label)) + label + length + body
    return out


def tag(version: int, info: list[int], value: bytes) -> bytes:
    size = ">I" if version == 3 else ">Q"
    return b"%%%%" + struct.pack(size, len(info)) + b"".join(struct.pack(size, n) for n in info) + value


def image(version: int, array: np.ndarray, size: list[float], units: str, kind: int | None = None) -> dict:
    code = CODES[array.dtype.name]
    unit = units.encode("utf-16-le")
    return {
        "ImageData": {
            "Calibrations": {
                "Dimension": {
                    f"#{axis}": {
                        "Origin": tag(version, [6], struct.pack("<f", 0)),
                        "Scale": tag(version, [6], struct.pack("<f", step)),
                        "Units": tag(version, [20, 4, len(units)], unit),
                    }
                    for axis, step in enumerate(size[::-1])
                }
            },
            "Data": tag(version, [20, code, array.size], array.tobytes()),
            "DataType": tag(version, [3], struct.pack("<i", KINDS[array.dtype.name] if kind is None else kind)),
            "Dimensions": {f"#{i}": tag(version, [3], struct.pack("<i", n)) for i, n in enumerate(array.shape[::-1])},
        }
    }


def write(path, array, size=(40.0, 8.0, 8.0), units="nm", version=4, thumbnail=True, more=()):
    """A file as DigitalMicrograph writes it: a thumbnail in colour, then the image."""
    size = size[-array.ndim :]
    small = [image(version, np.zeros((2, 2), np.uint32), [1, 1], "", kind=23)] if thumbnail else []
    images = [*small, image(version, array, size, units), *(image(version, each, size, units) for each in more)]
    root = group(version, {"ImageList": {f"#{i}": each for i, each in enumerate(images)}})
    size_of = ">III" if version == 3 else ">IQI"
    path.write_bytes(struct.pack(size_of, version, len(root), 1) + root)


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "f4", "u4", "f8"])
def test_a_stack_comes_back_by_parts_with_its_voxel_size(tmp_path, version, dtype):
    path = tmp_path / f"a.dm{version}"
    write(path, IMAGE.astype(dtype), version=version)
    source = open_image(path)
    assert source.shape == (4, 5, 6) and source.voxel_size == (40, 8, 8) and source.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(source.array[1:3, 2:5, 1], IMAGE[1:3, 2:5, 1])


@pytest.mark.parametrize("units, factor", [("µm", 1e3), ("nm", 1), ("Å", 0.1)])
def test_units_of_length_become_nm(tmp_path, units, factor):
    write(tmp_path / "a.dm3", IMAGE, (0.5, 0.25, 0.25), units, version=3, thumbnail=False)
    assert open_image(tmp_path / "a.dm3").voxel_size == pytest.approx([0.5 * factor, 0.25 * factor, 0.25 * factor])


@pytest.mark.parametrize("units", ["", "1/nm", "eV"])
def test_other_units_leave_the_voxel_size_open(tmp_path, units):
    write(tmp_path / "a.dm4", IMAGE, units=units)
    assert open_image(tmp_path / "a.dm4").voxel_size is None


def test_slices_in_a_folder_are_a_volume_in_natural_order(tmp_path):
    for number in (0, 1, 2, 10):
        write(tmp_path / f"slice_{number}.dm3", IMAGE[min(number, 3)], version=3)
    source = open_image(tmp_path)
    assert source.shape == (4, 5, 6)
    np.testing.assert_array_equal(source.array[:], IMAGE)


def test_init_finds_stacks_and_series(tmp_path):
    rng = np.random.default_rng(0)
    write(tmp_path / "stack.dm4", rng.integers(0, 255, (3, 96, 96)).astype("u1"))
    (tmp_path / "series").mkdir()
    for number in range(3):
        write(tmp_path / "series" / f"z{number}.dm3", rng.integers(0, 255, (96, 96)).astype("u1"), version=3)
    found, _ = survey(str(tmp_path))
    assert sorted(each.source.shape for each in found) == [(3, 96, 96), (3, 96, 96)]


@pytest.mark.parametrize(
    "given, says",
    [
        ({"array": IMAGE, "more": [IMAGE[0]]}, "contains 2 images .*6 x 5 x 4, 6 x 5"),
        ({"array": IMAGE[0, 0]}, "no image|only colour images"),
    ],
)
def test_files_without_one_image_are_one_line(tmp_path, given, says):
    write(tmp_path / "a.dm4", **given)
    with pytest.raises(UserError, match=says):
        open_image(tmp_path / "a.dm4")


def test_cut_and_damaged_files_are_named(tmp_path):
    path = tmp_path / "a.dm4"
    write(path, IMAGE)
    whole = path.read_bytes()
    for damaged in (
        b"",
        b"no image",
        whole[:30],
        whole[:200],
        whole[: len(whole) // 2],
        whole.replace(b"%%%%", b"%%%!"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"a\.dm4: ") as error:
            open_image(path).array[:]
        assert "\n" not in str(error.value)
