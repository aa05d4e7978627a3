"""Options of `sccs segment`: levels, regions, masks, planes; what is written, and what is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from registry.base import UserError
from sccs.cli import main as command
from sccs.data.label_store import write_store
from sccs.data.readers import open_image
from sccs.evaluation.legend import cluster_legend
from sccs.inference.blocks import overlapping
from sccs.inference.segment import segment
from sccs.model.model import Model
from tests.sccs.inference.spots import PLANES, SHAPE, Counted, image, read, save, save_pyramid

zarr = pytest.importorskip("zarr")


def validated(path: Path, version: str):
    """The group, if the OME-Zarr models of ome-zarr-models accept image, labels and label image."""
    import importlib

    models = importlib.import_module(f"ome_zarr_models.v{version.replace('.', '')}")
    types = vars(importlib.import_module(f"pydantic_zarr.v{3 if version == '0.5' else 2}"))
    for model in (models.Labels, models.Image, models.ImageLabel):
        model.model_rebuild(_types_namespace=types)
    for model, inside in ((models.Labels, "labels"), (models.Image, ""), (models.ImageLabel, "labels/clusters")):
        model.from_zarr(zarr.open_group(path, path=inside, mode="r"))
    return zarr.open_group(path, mode="r")


def spy(function, counted):
    def counting(*args, **options):
        counted.count += 1
        return function(*args, **options)

    return counting


@pytest.mark.parametrize("version", ["0.5", "0.4"])
def test_the_store_is_valid_and_keeps_transforms_names_and_colours(run, pyramid, tmp_path, capsys, version):
    pytest.importorskip("ome_zarr_models")
    out = tmp_path / "b.ome.zarr"
    named = tmp_path / "run"
    shutil.copytree(run, named)
    (named / "classes.yaml").write_text("clusters:\n  1: {name: nucleus, colour: '#ff0000'}\n")
    segment(str(named), str(pyramid), str(out), region="1:2,:,10:", ome=version)
    assert "4 nm pixels, but the model was trained at 8 nm" in capsys.readouterr().err
    group = validated(out, version)
    label = group["labels/clusters"].attrs.asdict()
    label = label["ome"] if version == "0.5" else label
    assert {"label-value": 1, "name": "nucleus"} in label["image-label"]["properties"]
    assert {"label-value": 1, "rgba": [255, 0, 0, 255]} in label["image-label"]["colors"]
    steps = [
        [part[part["type"]] for part in each["coordinateTransformations"]]
        for each in label["multiscales"][0]["datasets"]
    ]
    assert steps == [
        [[16, 4, 4], [1016, 2000, 3040]],
        [[16, 8, 8], [1016, 2002, 3042]],
        [[16, 16, 16], [1016, 2006, 3046]],
    ]
    assert [group[f"labels/clusters/{level}"].shape for level in range(3)] == [
        (1, 120, 1090),
        (1, 60, 545),
        (1, 30, 273),
    ]
    for reader in (open_image(out, level=1), open_image(out / "labels" / "clusters", level=1)):
        assert reader.voxel_size == (16, 8, 8) and reader.translation == (1016, 2002, 3042)
    fine, coarse = (group[f"labels/clusters/{level}"][:] for level in range(2))
    assert (coarse == fine[:, ::2, ::2]).mean() > 0.9


@pytest.mark.parametrize("plane", ["xy", "xz"])
def test_labels_of_n5_lie_where_the_image_does(run, tmp_path, plane):
    tensorstore = pytest.importorskip("tensorstore")
    data = image(1, (82, 84, 86))
    path = tmp_path / "a.n5" / "em" / "s0"
    tensorstore.open(
        {
            "driver": "n5",
            "kvstore": {"driver": "file", "path": f"{path}/"},
            "metadata": {
                "dimensions": [86, 84, 82],
                "blockSize": [43, 42, 41],
                "dataType": "uint8",
                "compression": {"type": "raw"},
            },
        },
        create=True,
    ).result().write(data.T).result()
    about = json.loads((path / "attributes.json").read_text())
    about["transform"] = {
        "axes": ["z", "y", "x"],
        "scale": [8.0] * 3,
        "units": ["nm"] * 3,
        "translate": [100, 200, 300],
    }
    (path / "attributes.json").write_text(json.dumps(about))
    segment(run, str(tmp_path / "a.n5" / "em"), str(tmp_path / "b.ome.zarr"), plane=plane)
    assert open_image(tmp_path / "b.ome.zarr").translation == (100, 200, 300)


@pytest.mark.parametrize("version", ["0.5", "0.4"])
def test_slices_make_the_store_that_blocks_make(run, pyramid, tmp_path, monkeypatch, version):
    segment(run, str(pyramid), str(tmp_path / "a.ome.zarr"), ome=version)
    about = zarr.open_group(tmp_path / "a.ome.zarr", mode="r").attrs["sccs"]
    legend = cluster_legend({}, 3)
    legend.names[255] = "not segmented"
    labels = read(tmp_path / "a.ome.zarr")
    monkeypatch.setattr("sccs.data.label_store.LAYER_BYTES", 1)  # slice by slice
    write_store(
        tmp_path / "b.ome.zarr",
        iter(labels),
        labels.shape,
        "clusters",
        version=version,
        about=about,
        voxel_size=(16, 4, 4),
        translation=(1000, 2000, 3000),
        names=legend.names,
        colours=legend.colours,
    )
    one, other = (zarr.open_group(tmp_path / name, mode="r") for name in ("a.ome.zarr", "b.ome.zarr"))
    for inside in ("", "labels", "labels/clusters"):
        assert (
            zarr.open_group(tmp_path / "a.ome.zarr", path=inside, mode="r").attrs.asdict()
            == zarr.open_group(tmp_path / "b.ome.zarr", path=inside, mode="r").attrs.asdict()
        )
    for level in range(3):
        name = f"labels/clusters/{level}"
        assert other[name].chunks[0] == 1 and np.array_equal(one[name][:], other[name][:])
    assert one["labels/clusters/2"].shape == (2, 30, 275)


def test_slices_that_fail_leave_no_store(tmp_path):
    def slices():
        yield np.zeros((90, 90), np.uint8)
        raise UserError("damaged")

    with pytest.raises(UserError, match="damaged"):
        write_store(tmp_path / "b.ome.zarr", slices(), (2, 90, 90), "clusters")
    assert not list(tmp_path.iterdir())


def test_the_level_nearest_to_the_training_is_found(run, pyramid, tmp_path, capsys):
    assert (
        command(["segment", run, str(pyramid), str(tmp_path / "b.ome.zarr"), "--level", "auto", "--region", "0:1,,"])
        == 2
    )
    assert "write z0:z1,y0:y1,x0:x1" in capsys.readouterr().err
    assert (
        command(
            ["segment", run, str(pyramid), str(tmp_path / "b.ome.zarr"), "--level", "auto", "--region", "0:1,:50,:"]
        )
        == 0
    )
    out, err = capsys.readouterr()
    assert "level 1 of 2: 16 x 8 x 8 nm" in out and "warning" not in err
    assert open_image(tmp_path / "b.ome.zarr").shape == (1, 50, 550)


def test_a_level_too_small_for_the_features_is_not_chosen(run, tmp_path, capsys):
    small = save_pyramid(tmp_path / "a.ome.zarr", (1, 24, 200))  # 12 px high at the voxels of the training
    assert command(["segment", run, str(small), str(tmp_path / "b.ome.zarr"), "--level", "auto"]) == 0
    assert "level 0 of 2: 16 x 4 x 4 nm" in (out := capsys.readouterr().out) and "sides of at least 16 px" in out
    assert open_image(tmp_path / "b.ome.zarr").shape == (1, 24, 200)


def test_outside_of_the_mask_and_in_empty_places_nothing_is_segmented(run, tmp_path, monkeypatch):
    picture = image(1)
    picture[:, :80, 160:] = 7  # the centres of two FOVs
    mask = np.zeros((2, 122, 127), np.uint8)  # half as large
    mask[:, :, 45:] = 1  # the first of four columns of FOVs is out, and a part of the second
    save(tmp_path / "a.tif", picture)
    save(tmp_path / "mask.tif", mask)
    counted = Counted()
    monkeypatch.setattr(Model, "segment_fov", spy(Model.segment_fov, counted))
    segment(
        run, str(tmp_path / "a.tif"), str(tmp_path / "b.ome.zarr"), mask=str(tmp_path / "mask.tif"), block=(1, 1, 1)
    )
    labels = read(tmp_path / "b.ome.zarr")
    empty = np.zeros(SHAPE, bool)
    empty[:, :, :90] = empty[:, :80, 160:] = True
    assert np.array_equal(labels == 255, empty)
    assert counted.count == 3 * (4 * 3 - 2)
    assert len(list((tmp_path / "b.ome.zarr").rglob("c/*/*/*"))) == counted.count  # chunks


@pytest.mark.parametrize("plane, suffix", [("xz", "tif"), ("xz", "ome.zarr"), ("yz", "tif")])
def test_a_region_of_planes_is_segmented_as_the_image_cut_out_is(run, tmp_path, plane, suffix):
    shape = PLANES if plane == "xz" else (176, 90, 30)
    picture = image(1, shape)
    picture[:5] = 0  # outside of the region: it does not count for the standardisation
    save(tmp_path / "a.tif", picture)
    y = slice(2, 9) if plane == "xz" else slice(3, 90)
    save(tmp_path / "cut.tif", picture[6:170, y, 7:])
    for name, options in (("a", dict(region=f"6:170,{y.start}:{y.stop},7:")), ("cut", {})):
        segment(
            run,
            str(tmp_path / f"{name}.tif"),
            str(tmp_path / f"{name}_labels.{suffix}"),
            plane=plane,
            voxel_size=(8, 8, 8),
            **options,
        )
    one, other = (open_image(tmp_path / f"{name}_labels.{suffix}") for name in ("a", "cut"))
    assert one.shape == picture[6:170, y, 7:].shape and np.array_equal(one.array[:], other.array[:])
    if suffix == "ome.zarr":
        assert one.translation == (48, 16, 56) and other.translation == (0, 0, 0)
        assert zarr.open_group(tmp_path / "a_labels.ome.zarr", mode="r").attrs["sccs"]["plane"] == "xz"


def test_planes_leave_out_what_the_mask_does_and_what_is_empty(run, tmp_path, monkeypatch):
    picture = image(1, PLANES)
    picture[80:, 3, 80:] = 7  # the centre of one FOV of one plane, and more
    mask = np.zeros((88, 12, 125), np.uint8)  # half as large along z and x
    mask[50:, 1:, :60] = 1
    mask[:, 3:5] = 1
    save(tmp_path / "a.tif", picture)
    save(tmp_path / "mask.tif", mask)
    options = dict(plane="xz", voxel_size=(8, 8, 8), region=":,1:11,:")
    segment(run, str(tmp_path / "a.tif"), str(tmp_path / "whole.tif"), **options)
    counted = Counted()
    monkeypatch.setattr(Model, "segment_fov", spy(Model.segment_fov, counted))
    segment(run, str(tmp_path / "a.tif"), str(tmp_path / "b.tif"), mask=str(tmp_path / "mask.tif"), **options)
    inside = mask.repeat(2, 0).repeat(2, 2)[:, 1:11].astype(bool)
    whole, labels = read(tmp_path / "whole.tif"), read(tmp_path / "b.tif")
    fields = overlapping((176, 250), 160)
    flat = [(y, x) for _, y, x in fields if y.start >= 80 and x.start >= 80]
    assert flat and set(np.argwhere(whole == 255)[:, 1]) == {2}
    assert (whole == 255).sum() == sum((y.stop - y.start) * (x.stop - x.start) for y, x in flat)
    assert (labels[~inside] == 255).all()
    near = np.zeros(whole.shape, bool)  # where borders are moved: the mask hides some of what they go by
    for span in fields.y[1:]:
        near[span.start - fields.halo : span.start + fields.halo] = True
    for span in fields.x[1:]:
        near[:, :, span.start - fields.halo : span.start + fields.halo] = True
    seen = inside & ~near
    assert np.array_equal(labels[seen], whole[seen]) and (labels[inside] == whole[inside]).mean() > 0.95
    used = sum(int(inside[y.start : y.stop, z, x.start : x.stop].any()) for _, y, x in fields for z in range(10))
    assert counted.count == used - len(flat) < len(fields) * 10


@pytest.mark.parametrize(
    "options, word",
    [
        (dict(region="0:9,:,:"), "z 0:9 is not within"),
        (dict(region="0:1,5:5,:"), "y 5:5 is not within"),
        (dict(region="0:1"), "write z0:z1,y0:y1,x0:x1"),
        (dict(halo=80), "allow a halo of 0 to 79 px"),
        (dict(mask="a.tif", region="0:2,:,:"), None),
        (dict(mask="small.tif"), "coarser by integer factors"),
        (dict(level="auto"), "does not give its voxel size"),
        (dict(level="auto", voxel_size=(16, 8, 8)), "with --voxel-size, give --level L"),
        (dict(output="b.tif", workers=2), "name it .ome.zarr"),
        (dict(output="b.tif", resume=True), "name it .ome.zarr"),
        (dict(plane="xz", voxel_size=(8, 8, 8), workers=2), "leave out --block, --workers"),
        (dict(depth=16.0, block=(1, 1, 1)), "leave out --block, --workers"),
        (dict(depth=16.0, resume=True), "leave out --block, --workers"),
        (dict(plane="yz", voxel_size=(8, 8, 8), region=":,:,9:300"), "x 9:300 is not within"),
        (dict(plane="xz", voxel_size=(8, 8, 8), mask="small.tif"), r"coarser by integer factors|smaller than a window"),
        (dict(output="b.tif", ome="0.5"), "--ome, .* need OME-Zarr; name it .ome.zarr"),
        (dict(output="b.tif", ome="0.4", plane="xz"), "--ome, .* need OME-Zarr; name it .ome.zarr"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(run, tmp_path, monkeypatch, options, word):
    monkeypatch.chdir(tmp_path)
    save("a.tif", image(1))
    save("small.tif", image(1)[:, :77])
    if word is None:
        segment(run, "a.tif", "b.ome.zarr", **options)
        assert json.loads(Path("b.ome.zarr/zarr.json").read_text())["attributes"]["sccs"]["mask"].endswith("a.tif")
        return
    with pytest.raises(UserError, match=word):
        segment(run, "a.tif", options.pop("output", "b.ome.zarr"), **options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif", "small.tif"]
