"""`sccs segment`: levels, regions, masks; blocks that any number of workers do, any of whom may die; what's written."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile

from registry.base import UserError
from sccs.cli import main as command
from sccs.data.label_store import write_store
from sccs.data.readers import open_image
from sccs.data.volumes import Dataset, Volume
from sccs.evaluation.legend import cluster_legend
from sccs.inference import block_job, labels
from sccs.inference.segment import segment
from sccs.model.model import Model
from sccs.pipeline import Pipeline

zarr = pytest.importorskip("zarr")

RECIPE = {
    "features": "intensity",
    "graph": {"name": "superpixel", "pixels_per_superpixel": 64},
    "embedder": "identity",
    "clusterer": {"name": "kmeans", "k": 3},
    "device": "cpu",
}
SHAPE = (3, 240, 250)


def image(seed: int, shape=SHAPE) -> np.ndarray:
    """Spots of three greys, with noise."""
    rng = np.random.default_rng(seed)
    z, y, x = np.ogrid[: shape[0], : shape[1], : shape[2]]
    kinds = np.digitize(np.sin(x / 9 + seed) + np.sin(y / 11 + z), [-0.5, 0.7])
    return (60 + 60 * kinds + rng.normal(0, 8, shape)).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> str:
    """A run folder whose fields of view have 160 px, trained at 16 x 8 x 8 nm."""
    folder = tmp_path_factory.mktemp("segment") / "run"
    model = Pipeline.from_recipe(RECIPE)
    model.fit(Dataset("spots", [Volume("a", image(0)[:1], fov=160, voxel_size=(16, 8, 8))], [], {}))
    model.save(folder / "model")
    return str(folder)


@pytest.fixture(scope="module")
def scene(tmp_path_factory, run) -> tuple[str, np.ndarray]:
    """An image file and its labels."""
    folder = tmp_path_factory.mktemp("scene")
    save(folder / "a.tif", image(1))
    segment(run, str(folder / "a.tif"), str(folder / "a.ome.zarr"))
    return str(folder / "a.tif"), read(folder / "a.ome.zarr")


def save(path, array: np.ndarray) -> None:
    tifffile.imwrite(path, array, photometric="minisblack")


def read(path) -> np.ndarray:
    return open_image(path).array[:]


REAL = block_job.label_fov


class Counted:
    """Counts FOVs that are segmented; from `last` on it raises."""

    def __init__(self, last: float = float("inf")):
        self.count, self.last = 0, last

    def __call__(self, *args):
        if self.count >= self.last:
            raise KeyboardInterrupt
        self.count += 1
        return REAL(*args)


# ------------------------------------------------------------------------------------------------------- same labels
@pytest.mark.parametrize("block", [(1, 1, 1), (3, 999, 999)])
def test_blocks_do_not_matter(run, scene, tmp_path, block):
    segment(run, scene[0], str(tmp_path / "b.ome.zarr"), block=block)
    assert np.array_equal(read(tmp_path / "b.ome.zarr"), scene[1])


def test_nor_does_their_order(run, scene, tmp_path, monkeypatch):
    forward = block_job.Job.tasks
    monkeypatch.setattr(block_job.Job, "tasks", lambda self, stage: forward(self, stage)[::-1])
    segment(run, scene[0], str(tmp_path / "b.ome.zarr"), block=(1, 1, 1))
    assert np.array_equal(read(tmp_path / "b.ome.zarr"), scene[1])


def test_tiff_has_the_same_labels(run, scene, tmp_path, monkeypatch):
    segment(run, scene[0], str(tmp_path / "b.tif"))
    assert np.array_equal(read(tmp_path / "b.tif"), scene[1])
    for module in ("sccs.data.volumes", "sccs.inference.labels"):
        monkeypatch.setattr(f"{module}.PLANE_AT_ONCE", 1000)
    segment(run, scene[0], str(tmp_path / "c.tif"))
    assert np.array_equal(read(tmp_path / "c.tif"), scene[1])


def test_without_a_halo_it_is_what_the_pipeline_gives(run, scene, tmp_path):
    segment(run, scene[0], str(tmp_path / "b.ome.zarr"), halo=0, block=(2, 1, 1), region=":,:,0:240")
    model = Pipeline.load(run)
    volume = Volume("a", image(1)[..., :240], fov=160)
    assert len(volume.tiles) == 4
    assert np.array_equal(read(tmp_path / "b.ome.zarr"), np.stack(list(model.segment_slices(volume))))


# ------------------------------------------------------------------------------------------------- killed and resumed
def test_a_stopped_job_goes_on_and_loses_nothing(run, scene, tmp_path, monkeypatch, capsys):
    out = tmp_path / "b.ome.zarr"
    total = 3 * 3 * 4  # slices, rows, columns
    monkeypatch.setattr(block_job, "label_fov", Counted(18))
    assert command(["segment", run, scene[0], str(out), "--block", "1", "1", "999"]) == 130
    assert not out.exists() and "--resume goes on" in capsys.readouterr().err
    monkeypatch.setattr(block_job, "label_fov", Counted())
    for options, word in (
        ([], "an unfinished segmentation; give --resume"),
        (["--resume", "--halo", "20"], "halo is 20"),
    ):
        assert command(["segment", run, scene[0], str(out), "--block", "1", "1", "999", *options]) == 2
        assert word in capsys.readouterr().err and not out.exists()
    assert block_job.label_fov.count == 0
    assert command(["segment", run, scene[0], str(out), "--block", "1", "1", "999", "--resume"]) == 0
    assert block_job.label_fov.count == total - 16  # 18 are four blocks of four, and two FOVs of the fifth
    assert np.array_equal(read(out), scene[1])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.ome.zarr"]


def test_a_killed_process_is_resumed_and_overwrite_begins_anew(run, scene, tmp_path):
    out = tmp_path / "b.ome.zarr"
    done = tmp_path / "b.ome.zarr.partial" / "done" / "fovs"
    call = [sys.executable, "-m", "sccs", "segment", run, scene[0], str(out), "--block", "1", "1", "1"]
    process = subprocess.Popen(call, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)
    wait(lambda: (done.is_dir() and len(os.listdir(done)) > 3) or process.poll() is not None)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and not out.exists()
    shutil.copytree(tmp_path / "b.ome.zarr.partial", tmp_path / "c.ome.zarr.partial")
    segment(run, scene[0], str(out), block=(1, 1, 1), resume=True)
    segment(run, scene[0], str(tmp_path / "c.ome.zarr"), overwrite=True)
    for path in (out, tmp_path / "c.ome.zarr"):
        assert np.array_equal(read(path), scene[1])


@pytest.mark.parametrize("name", ["b.ome.zarr", "b.tif"])
def test_a_second_command_on_the_same_output_is_refused(run, scene, tmp_path, monkeypatch, capsys, name):
    out, codes = str(tmp_path / name), []

    def meanwhile(*args):
        if not codes:  # of the first FOV
            codes.append(None)
            codes[0] = [
                command(["segment", run, scene[0], out, *options])
                for options in ([], ["--overwrite"], *([["--resume"]] if name != "b.tif" else []))
            ]
        return REAL(*args)

    for module in (block_job, labels):
        monkeypatch.setattr(module, "label_fov", meanwhile)
    segment(run, scene[0], out)
    assert (
        set(codes[0]) == {2}
        and f"is being written by another sccs segment (process {os.getpid()} on" in (err := capsys.readouterr().err)
        and "--resume" not in err
    )
    assert np.array_equal(read(out), scene[1]) and [path.name for path in tmp_path.iterdir()] == [name]


def wait(condition, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)


@pytest.mark.slow
def test_a_worker_that_is_killed_loses_nothing(run, scene, tmp_path):
    pytest.importorskip("distributed")
    import psutil

    done, killed = tmp_path / "b.ome.zarr.partial" / "done" / "fovs", []

    def kill() -> None:
        wait(lambda: done.is_dir() and len(os.listdir(done)) > 1)
        workers = [each for each in psutil.Process().children() if "spawn_main" in " ".join(each.cmdline())]
        killed.append((workers[-1].pid, len(os.listdir(done))))
        workers[-1].kill()

    killer = threading.Thread(target=kill)
    killer.start()
    segment(run, scene[0], str(tmp_path / "b.ome.zarr"), block=(1, 1, 1), workers=2)
    killer.join()
    assert len(killed) == 1 and killed[0][1] < 3 * 3 * 4 and not psutil.pid_exists(killed[0][0])
    assert np.array_equal(read(tmp_path / "b.ome.zarr"), scene[1])


def test_the_workers_of_a_scheduler(run, scene, tmp_path):
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, protocol="tcp", dashboard_address=None
    ) as local:
        address = local.scheduler_address
        assert command(["segment", run, scene[0], str(tmp_path / "b.ome.zarr"), "--scheduler", address]) == 0
    assert np.array_equal(read(tmp_path / "b.ome.zarr"), scene[1])


def test_a_scheduler_that_is_not_there(run, scene, tmp_path, capsys):
    pytest.importorskip("distributed")
    import dask

    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}):
        code = command(["segment", run, scene[0], str(tmp_path / "b.ome.zarr"), "--scheduler", "tcp://127.0.0.1:9"])
    assert code == 2 and "no Dask scheduler answers there" in capsys.readouterr().err


def test_workers_without_dask_get_the_command_to_install_it(run, scene, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert command(["segment", run, scene[0], str(tmp_path / "b.ome.zarr"), "--workers", "2"]) == 2
    assert "pip install 'distributed>=" in capsys.readouterr().err and not list(tmp_path.iterdir())


# -------------------------------------------------------------------------------------------- level, region and mask
@pytest.fixture(scope="module")
def pyramid(tmp_path_factory) -> Path:
    return save_pyramid(tmp_path_factory.mktemp("pyramid") / "a.ome.zarr", (2, 120, 1100))


def save_pyramid(path: Path, shape: tuple[int, int, int]) -> Path:
    """OME-Zarr of two levels, 16 x 4 x 4 and 16 x 8 x 8 nm, whose first voxel is not at the origin."""
    group = zarr.create_group(path, zarr_format=3)
    levels = []
    for number, step in enumerate((1, 2)):
        group.create_array(str(number), data=image(1, shape)[:, ::step, ::step])
        levels.append(
            {
                "path": str(number),
                "coordinateTransformations": [
                    {"type": "scale", "scale": [0.016, 0.004 * step, 0.004 * step]},
                    {"type": "translation", "translation": [1.0, 2.0, 3.0]},
                ],
            }
        )
    axes = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "zyx"]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": levels}]}
    return path


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


@pytest.mark.parametrize("version", ["0.5", "0.4"])
def test_the_store_is_valid_and_keeps_transforms_names_and_colours(run, pyramid, tmp_path, capsys, version):
    pytest.importorskip("ome_zarr_models")
    out = tmp_path / "b.ome.zarr"
    named = tmp_path / "run"
    shutil.copytree(run, named)
    (named / "classes.yaml").write_text("clusters:\n  1: {name: nucleus, colour: '#ff0000'}\n")
    segment(str(named), str(pyramid), str(out), region="1:2,:,10:", ome=version)
    assert "4 nm pixels, the model was trained at 8 nm" in capsys.readouterr().err
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
    assert "level 0 of 2: 16 x 4 x 4 nm" in (out := capsys.readouterr().out) and "at least 16 px a side" in out
    assert open_image(tmp_path / "b.ome.zarr").shape == (1, 24, 200)


def test_outside_of_the_mask_and_in_empty_places_nothing_is_segmented(run, tmp_path, monkeypatch):
    picture = image(1)
    picture[:, :80, 160:] = 7  # the centres of two FOVs
    mask = np.zeros((2, 120, 125), np.uint8)  # half as large
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
    assert counted.count == 3 * (3 * 3 - 2)
    assert len(list((tmp_path / "b.ome.zarr").rglob("c/*/*/*"))) == counted.count  # chunks


PLANES = (176, 12, 250)  # xz planes have two by two FOVs of at most 160 px, yz planes one by two


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
    picture[88:, 3, 160:] = 7  # one FOV of one plane
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
    volume = Volume("a", picture, fov=160, plane="xz", voxel_size=(8, 8, 8))
    assert len(volume.tiles) == 4 and volume.tiles[3].window == np.s_[88:176, 160:250]
    assert np.array_equal(np.argwhere(whole == 255).min(0), (88, 2, 160)) and (whole == 255).sum() == 88 * 90
    assert np.array_equal(labels, np.where(inside, whole, 255))
    used = sum(int(inside[tile.y0 : tile.y1, y, tile.x0 : tile.x1].any()) for tile in volume.tiles for y in range(10))
    assert counted.count == used - 1 < 4 * 10


def spy(function, counted):
    def counting(*args, **options):
        counted.count += 1
        return function(*args, **options)

    return counting


@pytest.mark.parametrize(
    "options, word",
    [
        (dict(region="0:9,:,:"), "z 0:9 is not within"),
        (dict(region="0:1,5:5,:"), "y 5:5 is not within"),
        (dict(region="0:1"), "write z0:z1,y0:y1,x0:x1"),
        (dict(halo=80), "take a halo of 0 to 79 px"),
        (dict(mask="a.tif", region="0:2,:,:"), None),
        (dict(mask="small.tif"), "coarser by whole factors"),
        (dict(level="auto"), "does not say its voxel size"),
        (dict(level="auto", voxel_size=(16, 8, 8)), "give --level L beside --voxel-size"),
        (dict(output="b.tif", workers=2), "name it .ome.zarr"),
        (dict(output="b.tif", resume=True), "name it .ome.zarr"),
        (dict(plane="xz", voxel_size=(8, 8, 8), halo=0), "leave out --halo, --block"),
        (dict(depth=16.0, block=(1, 1, 1)), "leave out --halo, --block"),
        (dict(depth=16.0, resume=True), "leave out --halo, --block"),
        (dict(plane="yz", voxel_size=(8, 8, 8), region=":,:,9:300"), "x 9:300 is not within"),
        (dict(plane="xz", voxel_size=(8, 8, 8), mask="small.tif"), r"coarser by whole factors|smaller than a window"),
        (dict(output="b.tif", ome="0.5"), "--ome, .* are for OME-Zarr; name it .ome.zarr"),
        (dict(output="b.tif", ome="0.4", plane="xz"), "--ome, .* are for OME-Zarr; name it .ome.zarr"),
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
