"""HDF5: paths inside the file."""

import pytest

from tests.sccs.data.image_files import fails, same, volume, write_hdf5


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
