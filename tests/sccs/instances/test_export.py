"""What others read: labels through public readers, and surfaces as they should lie."""

import importlib
import json
from pathlib import Path

import numpy as np
import pandas
import pytest
import tifffile

from sccs.cli import main
from sccs.instances.export import joined, object_mesh
from tests.sccs.instances.maps import EDGES, ellipsoid

zarr = pytest.importorskip("zarr")
pytest.importorskip("cc3d")
zmesh = pytest.importorskip("zmesh")


@pytest.fixture
def written(place):
    """The folder, with all formats, and the labels of granules."""
    formats = ["--format", "zarr", "tiff", "precomputed", "--ome", "0.4"]
    assert main(["objects", "labels.tif", "out", "--min-size", "40", "--mesh", *formats]) == 0
    return Path("out"), zarr.open_array("out/objects.ome.zarr/labels/granules/0", mode="r")[:]


def test_public_readers_give_the_same_labels(written):
    out, labels = written
    assert labels.dtype == np.uint32 and labels.max() > 3
    with tifffile.TiffFile(out / "granules.tif") as tif:
        assert (
            tif.is_ome and 'PhysicalSizeZ="20.0"' in tif.ome_metadata and 'PhysicalSizeXUnit="nm"' in tif.ome_metadata
        )
        np.testing.assert_array_equal(tif.asarray(), labels)
    tensorstore = pytest.importorskip("tensorstore")
    spec = {"driver": "neuroglancer_precomputed", "kvstore": {"driver": "file", "path": "out/precomputed/granules/"}}
    volume = tensorstore.open(spec).result()
    np.testing.assert_array_equal(volume[..., 0].read().result().transpose(), labels)
    about = json.loads((out / "precomputed/granules/info").read_text())
    assert about["type"] == "segmentation" and about["scales"][0]["resolution"] == [10, 8, 20]
    spec = {"driver": "zarr", "kvstore": {"driver": "file", "path": "out/objects.ome.zarr/labels/granules/0/"}}
    np.testing.assert_array_equal(tensorstore.open(spec).result().read().result(), labels)


@pytest.mark.parametrize("version", ["0.5", "0.4"])
def test_the_store_is_valid_ome_zarr(place, version):
    pytest.importorskip("ome_zarr_models")
    models = importlib.import_module(f"ome_zarr_models.v{version.replace('.', '')}")
    types = vars(importlib.import_module(f"pydantic_zarr.v{3 if version == '0.5' else 2}"))
    assert main(["objects", "labels.tif", "out", "--ome", version]) == 0
    group = zarr.open_group("out/objects.ome.zarr", mode="r")
    for model in (models.Labels, models.Image, models.ImageLabel):
        model.model_rebuild(_types_namespace=types)
    for model, inside in (
        (models.Image, ""),
        (models.Labels, "labels"),
        (models.ImageLabel, "labels/granules"),
        (models.ImageLabel, "labels/nucleus"),
    ):
        model.from_zarr(zarr.open_group("out/objects.ome.zarr", path=inside, mode="r"))
    about = group["labels/nucleus"].attrs.asdict()
    multiscale = about.get("ome", about)["multiscales"][0]
    assert multiscale["datasets"][0]["coordinateTransformations"][0]["scale"] == list(EDGES)


def test_a_store_of_several_levels(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    labels = np.zeros((2, 30, 1100), np.uint8)
    labels[:, 3:20, 5:500], labels[:, 5:25, 600:1000] = 1, 1
    tifffile.imwrite("a.tif", labels, metadata={"axes": "ZYX"})
    assert main(["objects", "a.tif", "out", "--block", "1", "16", "300"]) == 0
    levels = [zarr.open_array(f"out/objects.ome.zarr/labels/label_1/{n}", mode="r")[:] for n in range(3)]
    assert [level.shape for level in levels] == [(2, 30, 1100), (1, 15, 550), (1, 8, 275)]
    assert levels[2][0, 2, 60] == 1 and levels[2][0, 4, 200] == 2


def test_a_mesh_for_each_object_where_it_lies(written):
    out, labels = written
    table = pandas.read_csv(out / "objects.csv")
    own = table[table["class"] == "granules"]
    assert len(list((out / "meshes/granules").iterdir())) == len(own)
    for row in own.to_dict("records"):
        mesh = zmesh.Mesh.from_ply((out / f"meshes/granules/{row['object']}.ply").read_bytes())
        corners = np.asarray(mesh.vertices)
        for axis, name in enumerate("xyz"):
            assert corners[:, axis].min() == pytest.approx(row[f"box_{name}0_nm"], abs=0.1)
            assert corners[:, axis].max() == pytest.approx(row[f"box_{name}1_nm"], abs=0.1)


def test_meshes_are_closed_and_turn_outwards_and_simplified_ones_stay_near():
    mask, edges = ellipsoid((300, 250, 150), (30, 8, 10)), (30.0, 8.0, 10.0)
    at = np.nonzero(mask)
    box = tuple(slice(int(a.min()), int(a.max()) + 1) for a in at)
    volume = 4 / 3 * np.pi * 300 * 250 * 150
    sizes = []
    for simplify, most in ((None, 1 << 24), (20.0, 1 << 24), (None, 20_000)):
        mesh = object_mesh(mask, 1, box, edges, (1000.0, 0.0, 0.0), simplify, most)
        corners, faces = np.asarray(mesh.vertices, float), np.asarray(mesh.faces, int)
        edges_of = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
        assert sorted(map(tuple, edges_of)) == sorted(map(tuple, edges_of[:, ::-1]))  # each side has a neighbour
        a, b, c = (corners[faces[:, i]] for i in range(3))
        assert np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6 == pytest.approx(volume, rel=0.12)
        assert corners[:, 2].min() > 1000
        sizes.append(len(faces))
    assert sizes[1] < sizes[0] / 3 and sizes[2] < sizes[0]


def test_one_mesh_for_a_class(place):
    assert main(["objects", "labels.tif", "out", "--min-size", "40", "--mesh", "class", "--mesh-format", "obj"]) == 0
    text = Path("out/meshes/granules.obj").read_text()
    assert text.count("\nv ") + text.startswith("v ") > 100 and "\nf " in text
    one = zmesh.Mesh(np.zeros((3, 3), np.float32), np.array([[0, 1, 2]]), None)
    assert joined([one, one]).faces.tolist() == [[0, 1, 2], [3, 4, 5]]
