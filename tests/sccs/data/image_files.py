"""Small volumes in files of every format, and what opening them must give or say."""

import json

import numpy as np
import pytest
import tifffile

from registry.base import UserError
from sccs.data.readers import open_image


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
