"""Planes of the three axes: what is read, what is refused, and that results come back as (Z, Y, X)."""

import errno
import io
import json
import os

import numpy as np
import pytest
import tifffile
import yaml

from registry.base import UserError
from sccs.cli import main
from sccs.data.planes import TurnedArray, restored, turned
from sccs.data.readers import open_image
from sccs.data.schema import Region
from sccs.data.volumes import Volume
from sccs.pipeline import Pipeline

ORDER = {"xy": (0, 1, 2), "xz": (1, 0, 2), "yz": (2, 0, 1)}
CUBES = (8, 8, 8)


@pytest.fixture
def block():
    return np.random.default_rng(0).integers(0, 255, (4, 5, 6), dtype=np.uint8)


@pytest.mark.parametrize("plane", ORDER)
@pytest.mark.parametrize("slab", [2**20, 4 * 30])  # all planes at once; one after the other
def test_stacks_read_like_the_transposed_volume_and_come_back(block, plane, slab, tmp_path, monkeypatch):
    monkeypatch.setattr("sccs.data.planes.SLAB_BYTES", slab)
    tifffile.imwrite(tmp_path / "a.tif", block, photometric="minisblack")
    for array in (block, open_image(tmp_path / "a.tif").array):
        stack, expected = turned(array, plane), block.transpose(ORDER[plane])
        assert tuple(stack.shape) == expected.shape
        for key in (0, -1, slice(1, 3), (2, slice(0, 3), slice(1, 4)), (slice(0, 4, 2), 1), (..., 2), slice(0, 0)):
            np.testing.assert_array_equal(stack[key], expected[key])
        np.testing.assert_array_equal(np.asarray(stack), expected)
        np.testing.assert_array_equal(np.stack(list(restored(stack, block.shape, plane))), block)


def test_neighbouring_planes_of_a_file_are_read_once(block):
    class Counted:
        shape, dtype, reads = block.shape, block.dtype, 0

        def __getitem__(self, key):
            Counted.reads += 1
            return block[key]

    stack = TurnedArray(Counted(), "xz")
    assert [int(stack[i].sum()) for i in range(5)] == block.sum((0, 2)).tolist()
    assert Counted.reads == 1


def test_a_volume_of_planes_counts_as_its_stack_does():
    image = np.random.default_rng(0).integers(0, 255, (90, 100, 110), dtype=np.uint8)
    volume = Volume(
        "v",
        image,
        labels=image // 128,
        voxel_size=(8, 9, 10),
        plane="yz",
        max_slices=2,
        region=Region(x=[10, 50], y=[5, 100]),
        codes=codes(),
    )
    assert volume.shape == (40, 90, 95) and volume.origin == (10, 0, 5) and volume.voxel_size == (10, 8, 9)
    assert volume.file_shape == image.shape and volume.file_voxel_size == (8, 9, 10)
    assert volume.z_slices == [20, 40]
    fov = next(volume.fovs())
    np.testing.assert_allclose(fov.image * volume.std + volume.mean, image[:, 5:, 20], atol=1e-3)
    np.testing.assert_array_equal(fov.labels, image[:, 5:, 20] // 128)


def codes():
    from sccs.data.volumes import LabelCodes

    return LabelCodes({0: "dark", 1: "bright"})


@pytest.mark.parametrize(
    "shape, voxel_size, region, words",
    [
        (
            (90, 90, 90),
            (40, 10, 10),
            Region(),
            "voxels of 40 x 10 x 10 nm .z, y, x. are not isotropic, so xz planes would be",
        ),
        ((90, 90, 90), None, Region(), "its voxel size is unknown, but xz planes need nearly isotropic voxels"),
        (
            (20, 90, 90),
            CUBES,
            Region(),
            "20 x 90 px .z, x. is smaller than a window of 80 x 80 px; use a larger region",
        ),
        (
            (90, 90, 90),
            CUBES,
            Region(z=[0, 90, 2]),
            r"region z: a step would skip pixels of xz planes; write \[0, 90\]",
        ),
    ],
)
def test_what_planes_cannot_show_is_refused(shape, voxel_size, region, words):
    image = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    with pytest.raises(UserError, match=words):
        Volume("v", image, voxel_size=voxel_size, region=region, plane="xz")


# ---------------------------------------------------------------------------------------------------- whole pipeline
@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """Image (84, 88, 92) of two greys whose border lies across y, a trained run on its xz planes, and the folder."""
    folder = tmp_path_factory.mktemp("planes")
    rng = np.random.default_rng(0)
    truth = np.broadcast_to(np.digitize(np.arange(84), [40])[:, None, None], (84, 88, 92)).astype(np.uint8)
    image = (80 + 80 * truth + rng.normal(0, 5, truth.shape)).astype(np.uint8)
    tifffile.imwrite(folder / "a.tif", image)
    tifffile.imwrite(folder / "a_labels.tif", truth)
    entry = {"image": "a.tif", "labels": "a_labels.tif", "voxel_size": [8, 8, 9]}
    (folder / "recipe.yaml").write_text(
        yaml.safe_dump(
            {
                "data": {
                    "name": "volumes",
                    "plane": "xz",
                    "classes": {0: "dark", 1: "bright"},
                    "max_test_slices": 2,
                    "train": [{**entry, "region": {"y": [0, 2]}}],
                    "test": [{**entry, "name": "b"}],
                },
                "features": "intensity",
                "graph": {"name": "superpixel", "standardize": "none"},
                "embedder": "identity",
                "clusterer": {"name": "kmeans", "k": 2},
                "device": "cpu",
            }
        )
    )
    assert main(["run", str(folder / "recipe.yaml"), "--out", str(folder / "run")]) == 0
    return folder, image, truth


def test_a_run_on_planes_writes_its_volumes_in_the_order_of_the_file(cells):
    folder, image, truth = cells
    classes = tifffile.imread(folder / "run" / "segmentation" / "b_classes.tif")
    assert classes.shape == image.shape
    used = np.flatnonzero((classes != 255).any((0, 2)))
    assert used.tolist() == [22, 66] and (classes[:, used] == truth[:, used]).mean() > 0.99
    assert open_image(folder / "run" / "segmentation" / "b_clusters.tif").voxel_size == (8, 8, 9)
    along = json.loads((folder / "run" / "metrics.json").read_text())["z_consistency"]
    assert set(along) == {"train"} and along["train"]["pairs"] == 1  # the two slices that are neighbours


@pytest.mark.parametrize("plane", ORDER)
def test_segment_takes_any_plane(cells, plane, tmp_path, capsys):
    folder, image, truth = cells
    arguments = ["segment", str(folder / "run"), str(folder / "a.tif"), str(tmp_path / "out.tif"), "--plane", plane]
    assert main([*arguments, "--voxel-size", "8", "8", "9"]) == 0
    labels = tifffile.imread(tmp_path / "out.tif")
    assert "84 x 88 x 92 (z, y, x)" in capsys.readouterr().out and labels.shape == image.shape
    bright = labels[60, 40, 40]
    assert ((labels == bright) == truth).mean() > 0.98
    volume = Volume("v", image, voxel_size=CUBES, plane=plane)
    np.testing.assert_array_equal(Pipeline.load(folder / "run").segment(volume), labels)
    if plane != "xy":
        assert main([*arguments, "--voxel-size", "40", "8", "8", "--overwrite"]) == 2
        assert "are not isotropic" in capsys.readouterr().err


@pytest.mark.parametrize("version", ["0.5", "0.4"])
def test_planes_go_to_both_versions_of_ome_zarr(cells, tmp_path, version):
    zarr = pytest.importorskip("zarr")
    folder, image, _ = cells
    arguments = [str(folder / "run"), str(folder / "a.tif")]
    options = ["--voxel-size", "8", "8", "9", "--plane", "xz"]
    assert main(["segment", *arguments, str(tmp_path / "a.tif"), *options]) == 0
    assert main(["segment", *arguments, str(tmp_path / "a.ome.zarr"), *options, "--ome", version]) == 0
    labels = open_image(tmp_path / "a.ome.zarr")
    np.testing.assert_array_equal(labels.array[:], tifffile.imread(tmp_path / "a.tif"))
    assert labels.voxel_size == (8, 8, 9)
    group = zarr.open_group(tmp_path / "a.ome.zarr", path="labels/clusters", mode="r")
    assert group.metadata.zarr_format == (3 if version == "0.5" else 2)
    image = group.attrs["ome"] if version == "0.5" else group.attrs["multiscales"][0]
    assert image["version"] == version


def test_a_full_disk_for_temporary_files_is_said(monkeypatch):
    class Full(io.BytesIO):
        def __init__(self, buffering):
            super().__init__()

        def write(self, data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("tempfile.TemporaryFile", Full)
    with pytest.raises(UserError, match="No space left on device: free some space there, or set TMPDIR"):
        list(restored([np.zeros((3, 4), np.uint8)], (3, 2, 4), "xz"))
