"""The main job through the command line: what a run folder holds, and what bad input is answered with."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml

from sccs.cli import main as command
from sccs.run import main
from sccs.system.exits import guard

SMALL = {
    "features": "intensity",
    "graph": {"name": "superpixel", "pixels_per_superpixel": 64, "standardize": "none"},
    "embedder": {"name": "lgc", "u": 2, "channels": [4]},
    "clusterer": {"name": "mlp_incremental", "k": 3, "warmup": 20},
    "train": {"iterations": 120, "checkpoint_every": 40},
    "device": "cpu",
}


def volume(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Image (2, 96, 100) uint8 of three greys and its labels 0, 1, 2."""
    rng = np.random.default_rng(seed)
    labels = np.broadcast_to(np.digitize(np.arange(100), [33, 66]), (2, 96, 100)).astype(np.uint8)
    return (60 + 60 * labels + rng.normal(0, 8, labels.shape)).clip(0, 255).astype(np.uint8), labels


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two labelled volumes a.tif and b.tif, and recipe.yaml that trains on a and tests on b."""
    for name, seed in (("a", 0), ("b", 1)):
        image, labels = volume(seed)
        tifffile.imwrite(tmp_path / f"{name}.tif", image)
        tifffile.imwrite(tmp_path / f"{name}_labels.tif", labels)
    data = {"name": "volumes", "classes": {0: "dark", 1: "grey", 2: "bright"}}
    for part, name in (("train", "a"), ("test", "b")):
        data[part] = [{"image": f"{name}.tif", "labels": f"{name}_labels.tif", "voxel_size": [16, 8, 8]}]
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({**SMALL, "data": data}))
    return tmp_path


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A finished run; tests that change it take a copy."""
    base = tmp_path_factory.mktemp("finished")
    made = folder.__wrapped__(base)
    assert guard(main)([str(made / "recipe.yaml"), "--out", str(base / "run")]) == 0
    return base / "run"


def fails(capsys, arguments: list[str], *words: str) -> None:
    """The command ends with code 2 and one line that has all `words`."""
    capsys.readouterr()
    assert guard(main)([str(a) for a in arguments]) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if "sccs: error" in line]
    assert len(error) == 1
    for word in words:
        assert word in error[0]
    assert "Traceback" not in error[0]


# ---------------------------------------------------------------------------------------------------- the run folder
def test_run_folder_holds_what_the_design_promises(finished):
    for name in (
        "recipe.yaml",
        "resolved.yaml",
        "environment.json",
        "log.txt",
        "metrics.json",
        "metrics.jsonl",
        "timing.json",
        "graphs.json",
        "report.html",
        "model/model.json",
        "tensorboard",
        "figures",
        "segmentation/a_clusters.tif",
        "segmentation/a_classes.tif",
        "segmentation/b_clusters.tif",
        "segmentation/b_classes.tif",
    ):
        assert (finished / name).exists(), name


def test_segmentation_is_right_and_alike_in_both_volumes(finished):
    for name, seed in (("a", 0), ("b", 1)):
        found = tifffile.imread(finished / "segmentation" / f"{name}_classes.tif")
        assert found.dtype == np.uint8 and found.shape == (2, 96, 100)
        assert (found == volume(seed)[1]).mean() > 0.9


def test_metrics_and_timing_have_the_agreed_form(finished):
    metrics = json.loads((finished / "metrics.json").read_text())
    for mapping in ("train", "hungarian", "greedy", "majority", "oracle"):
        assert set(metrics["test"][mapping]["classes"]["grey"]) == {"dsc", "iou", "sensitivity", "accuracy"}
    assert metrics["test"]["train"]["mean"]["dsc"] > 0.9 and metrics["clusters_used"]["test"] == 3
    along = metrics["z_consistency"]["test"]
    assert along["pairs"] == 1 and 0.9 < along["classes"]["train"]["relative"] <= along["labels"]["beyond_chance"] == 1
    assert "Consistency along z" in (finished / "report.html").read_text()
    timing = json.loads((finished / "timing.json").read_text())
    assert timing["total"] == pytest.approx(sum(timing[stage] for stage in ("features", "graph", "embed", "cluster")))


def test_losses_and_cluster_use_are_logged(finished):
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert {"loss/spe", "loss/clu", "loss/smo", "loss/total", "clusters/in_use"} <= set(lines[-1])
    assert lines[-1]["step"] == 120


def test_resolved_recipe_runs_to_the_same_result(finished, tmp_path):
    assert guard(main)([str(finished / "resolved.yaml"), "--out", str(tmp_path / "again")]) == 0
    for name in ("a", "b"):
        first, second = (
            tifffile.imread(run / "segmentation" / f"{name}_clusters.tif") for run in (finished, tmp_path / "again")
        )
        assert np.array_equal(first, second)


def test_unlabelled_volumes_run_too(folder):
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
    recipe["data"] = {"name": "volumes", "train": [{"image": "a.tif"}], "test": [{"image": "b.tif"}]}
    (folder / "plain.yaml").write_text(yaml.safe_dump(recipe))
    assert guard(main)([str(folder / "plain.yaml"), "--out", str(folder / "run")]) == 0
    assert json.loads((folder / "run" / "metrics.json").read_text())["test"] == {}
    assert (folder / "run" / "report.html").exists()


def test_training_volumes_alone_run_too(folder):
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
    recipe["data"]["test"] = []
    (folder / "plain.yaml").write_text(yaml.safe_dump(recipe))
    assert guard(main)([str(folder / "plain.yaml"), "--out", str(folder / "run")]) == 0
    assert (folder / "run" / "segmentation" / "a_classes.tif").exists()


# --------------------------------------------------------------------------------------------- folders, resume, kill
def test_an_existing_run_is_refused_without_resume_or_overwrite(finished, capsys):
    before = sorted(finished.rglob("*"))
    fails(capsys, [finished / "recipe.yaml", "--out", finished], "exists and is never deleted", "--resume")
    assert sorted(finished.rglob("*")) == before


def test_a_folder_that_is_no_run_is_never_touched(folder, capsys):
    fails(capsys, [folder / "recipe.yaml", "--out", folder, "--overwrite"], "no run folder")
    assert (folder / "a.tif").exists()


def test_resume_with_other_settings_is_refused(finished, capsys):
    fails(
        capsys, [finished / "resolved.yaml", "--out", finished, "--resume", "--set", "train.lr=0.5"], "train.lr", "0.01"
    )


PRETRAIN = "pretrain: {data: [{name: volumes, train: [{image: %s}]}], checkpoint: %s, steps: 1}\n"


@pytest.mark.parametrize(
    "options, word",
    [
        (["data.train.0.image=nowhere.tif"], "nowhere.tif"),
        (["features={name: mae, checkpoint: nowhere.safetensors}"], "nowhere.safetensors"),
        (["clusterer={name: kmeans, k: 300}"], "clusterer.k: 300"),
        (["clusterer.warmup=120"], "clusterer.warmup"),
        (["evaluation.rest=sky"], "sky"),
        (["data.classes={0: dark, 1: grey, 700: bright}"], "merge"),
        ("nowhere.tif null", "nowhere.tif"),
        ("a.tif nowhere.safetensors", "nowhere.safetensors"),
    ],
)
def test_a_users_error_leaves_the_old_run_and_no_new_folder(
    folder, finished, tmp_path, monkeypatch, capsys, options, word
):
    import shutil

    shutil.copytree(finished, tmp_path / "old")
    monkeypatch.chdir(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "old").rglob("*")}
    recipe = folder / "recipe.yaml"
    if isinstance(options, str):
        recipe = folder / "pretrain.yaml"
        recipe.write_text(PRETRAIN % tuple(options.split()))
    changes = ["--set", *options] if isinstance(options, list) else []
    fails(capsys, [recipe, "--out", "old", "--overwrite", *changes], word)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "old").rglob("*")} == before
    fails(capsys, [recipe, *changes], word)
    fails(capsys, [recipe, "--out", "new", *changes], word)
    assert not (tmp_path / "runs").exists() and not (tmp_path / "new").exists()


def test_two_runs_of_one_second_have_a_folder_each(folder, monkeypatch):
    import datetime as clock

    from sccs import run_folder
    from sccs.recipe import load_recipe

    class Stopped(clock.datetime):
        @classmethod
        def now(cls):
            return cls(2025, 1, 31, 12)

    monkeypatch.setattr(run_folder, "datetime", Stopped)
    monkeypatch.chdir(folder)
    recipe = load_recipe(folder / "recipe.yaml")
    names = [run_folder.new_folder(recipe).as_posix() for _ in range(3)]
    assert names == [f"runs/recipe/20250131-120000-s0{end}" for end in ("", "-2", "-3")]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_killed_run_resumes_to_the_same_bits(folder, number):
    long = ["--set", "train.iterations=1000", "train.checkpoint_every=50"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    call = [sys.executable, "-m", "sccs.run", str(folder / "recipe.yaml"), *long, "--out"]
    subprocess.run([*call, str(folder / "whole")], check=True, capture_output=True, env=environment)
    process = subprocess.Popen(
        [*call, str(folder / "broken")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
    )
    deadline = time.monotonic() + 120
    while not list((folder / "broken" / "checkpoints").glob("*.safetensors")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    assert process.wait(60) == (130 if number == signal.SIGTERM else -signal.SIGKILL)
    assert not (folder / "broken" / "metrics.json").exists()
    subprocess.run([*call, str(folder / "broken"), "--resume"], check=True, capture_output=True, env=environment)
    for part in ("embedder", "clusterer", "graph"):
        first, second = ((folder / run / "model" / f"{part}.safetensors").read_bytes() for run in ("whole", "broken"))
        assert first == second


# -------------------------------------------------------------------------------------------------- segment and name
def test_segment_a_new_image_to_tiff_with_voxel_size(finished, tmp_path):
    image, labels = volume(7)
    tifffile.imwrite(tmp_path / "new.tif", image)
    out = tmp_path / "out.tif"
    assert command(["segment", str(finished), str(tmp_path / "new.tif"), str(out), "--voxel-size", "16", "8", "8"]) == 0
    found = tifffile.imread(out)
    assert found.shape == image.shape
    assert len({(a, b) for a, b in zip(labels[:, :, ::33].ravel(), found[:, :, ::33].ravel())}) < 8
    from sccs.data.readers import open_image

    assert open_image(out).voxel_size == pytest.approx((16, 8, 8))


def test_names_are_used_by_segment_and_report(finished, tmp_path):
    import shutil

    run = tmp_path / "run"
    shutil.copytree(finished, run)
    mapping = json.loads((run / "metrics.json").read_text())["mapping"]["train"]
    names = [f"{cluster}={name}" for cluster, name in enumerate(mapping)]
    assert command(["name", str(run), *names]) == 0
    assert json.loads((run / "metrics.json").read_text())["test"]["named"]["mean"]["dsc"] > 0.9
    assert "bright" in (run / "report.html").read_text()
    image, labels = volume(7)
    tifffile.imwrite(tmp_path / "new.tif", image)
    assert command(["segment", str(run), str(tmp_path / "new.tif"), str(tmp_path / "out.tif"), "--classes"]) == 0
    with tifffile.TiffFile(tmp_path / "out.tif") as file:
        assert (file.asarray() == labels).mean() > 0.9  # the codes of the run's own classes
        assert file.imagej_metadata["Info"] == "0 = dark\n1 = grey\n2 = bright"


def test_classes_without_names_are_refused(finished, tmp_path, capsys):
    tifffile.imwrite(tmp_path / "new.tif", volume(7)[0])
    assert command(["segment", str(finished), str(tmp_path / "new.tif"), str(tmp_path / "out.tif"), "--classes"]) == 2
    assert "sccs name" in capsys.readouterr().err and not (tmp_path / "out.tif").exists()


def entries(**names) -> dict[int, dict[str, str]]:
    """entries(c3="nucleus"): cluster 3 is so named."""
    return {int(cluster[1:]): {"name": name, "colour": "#112233"} for cluster, name in names.items()}


CLASSES = {0: "unrecognized", 1: "nucleus", 4: "mitochondria"}


@pytest.mark.parametrize(
    "classes, ignore, named, codes, rest",
    [
        (CLASSES, 255, entries(c0="Nucleus", c2="mitochondria"), {0: 1, 2: 4}, (0, "unrecognized")),
        (CLASSES, 5, entries(c0="vesicles", c1="golgi", c2="Golgi"), {0: 7, 1: 6, 2: 6}, (0, "unrecognized")),
        ({1: "nucleus"}, None, entries(c0="nucleus"), {0: 1}, (255, "unnamed")),
        ({}, None, entries(c5="b", c6="a"), {5: 2, 6: 1}, (255, "unnamed")),
        ({254: "nucleus"}, 0, entries(c0="golgi"), {0: 1}, (255, "unnamed")),
    ],
)
def test_class_codes_are_the_runs_own_then_the_next_free(classes, ignore, named, codes, rest):
    from sccs.evaluation.legend import class_codes

    table, legend = class_codes(named, 8, classes, ignore)
    assert {cluster: int(table[cluster]) for cluster in named} == codes
    assert table.shape == (8,) and int(table[7]) == rest[0] and legend.names[rest[0]] == rest[1]
    assert set(legend.names) == {*codes.values(), rest[0]} and legend.colours[codes[min(codes)]] == (17, 34, 51)


def test_segmentations_of_the_run_have_names_and_colours(finished):
    said = {"clusters": {"0 = cluster 0", "255 = not segmented"}, "classes": {"0 = dark", "2 = bright"}}
    for kind, names in said.items():
        with tifffile.TiffFile(finished / "segmentation" / f"b_{kind}.tif") as file:
            assert names <= set(file.imagej_metadata["Info"].split("\n"))
            red, green, blue = np.array(file.imagej_metadata["LUTs"]).reshape(3, 256)[:, 1]
            assert not red == green == blue


def test_only_drawn_slices_are_held(finished):
    import sccs
    from sccs.data.volumes import Dataset, Volume
    from sccs.products import segment_volume

    model, seen, done = sccs.load(finished), [], []
    cell = Volume("cell", volume(3)[0], fov=80)
    planes = segment_volume(
        model,
        cell,
        Dataset("arrays", [cell], [], {}),
        [],
        {},
        np.zeros(model.k, np.int64),
        drawn=[1],
        draw=lambda z, pieces: seen.append((z, len(pieces))),
        done=lambda: done.append(1),
    )
    assert [plane.shape for plane in planes] == [(96, 100)] * 2
    assert seen == [(1, len(cell.tiles))] and len(done) == 2 * len(cell.tiles)


def test_pixels_of_another_size_are_warned_of(capsys):
    from sccs.inference.source import warn_of_voxels

    for here, trained in ((None, (16, 16, 16)), ((16, 16, 16), None), ((50, 5, 5), (16, 5.5, 5.5))):
        warn_of_voxels(here, trained)
    assert capsys.readouterr().err == ""
    warn_of_voxels((50, 20, 20), (50, 5, 5))
    assert capsys.readouterr().err.startswith("sccs: warning: the image has 20 nm pixels")


def test_compare_prints_runs(finished, capsys):
    assert command(["compare", str(finished)]) == 0
    assert "train" in capsys.readouterr().out


# ---------------------------------------------------------------------------------------------------------- bad input
def rewrite(folder: Path, name: str, image: np.ndarray) -> None:
    tifffile.imwrite(folder / f"{name}.tif", image)


def test_unknown_recipe_key(folder, capsys):
    text = (folder / "recipe.yaml").read_text().replace("checkpoint_every", "checkpoint_evry")
    (folder / "recipe.yaml").write_text(text)
    line = 1 + next(i for i, t in enumerate(text.splitlines()) if "checkpoint_evry" in t)
    fails(
        capsys,
        [folder / "recipe.yaml", "--out", folder / "run"],
        f"recipe.yaml:{line}",
        "train.checkpoint_evry",
        "'checkpoint_every'",
    )
    assert not (folder / "run").exists()


def test_missing_file(folder, capsys):
    (folder / "a.tif").rename(folder / "aa.tif")
    fails(capsys, [folder / "recipe.yaml", "--out", folder / "run"], "a.tif", "aa.tif")
    assert not (folder / "run").exists()


def test_missing_recipe(folder, capsys):
    fails(capsys, [folder / "recipes.yaml"], "not found")


def test_rgb_image(folder, capsys):
    tifffile.imwrite(folder / "a.tif", np.zeros((96, 100, 3), np.uint8), photometric="rgb")
    fails(capsys, [folder / "recipe.yaml", "--out", folder / "run"], "a.tif", "3")


@pytest.mark.parametrize("value, word", [(np.nan, "NaN"), (0.0, "constant")])
def test_nan_and_constant_image(folder, capsys, value, word):
    image = np.zeros((2, 96, 100), np.float32) if value == 0 else volume(0)[0].astype(np.float32)
    image[0, 5, 5] = value
    rewrite(folder, "a", image)
    fails(capsys, [folder / "recipe.yaml", "--out", folder / "run"], "a.tif", word)


def test_image_smaller_than_a_window(folder, capsys):
    image, labels = volume(0)
    rewrite(folder, "a", image[:, :60, :60])
    rewrite(folder, "a_labels", labels[:, :60, :60])
    fails(
        capsys,
        [folder / "recipe.yaml", "--out", folder / "run", "--set", "features=mae"],
        "a.tif",
        "60 x 60",
        "smaller than a window of 80 x 80",
    )
    rewrite(folder, "a", image[:, :60, :12])
    rewrite(folder, "a_labels", labels[:, :60, :12])
    fails(capsys, [folder / "recipe.yaml", "--out", folder / "run"], "a.tif", "60 x 12", "16")


def test_labels_of_another_shape(folder, capsys):
    rewrite(folder, "a_labels", volume(0)[1][:, :90])
    fails(capsys, [folder / "recipe.yaml", "--out", folder / "run"], "a_labels.tif", "90", "96")


def test_more_clusters_than_nodes(folder, capsys):
    fails(
        capsys,
        [folder / "recipe.yaml", "--out", folder / "run", "--set", "clusterer.k=250"],
        "clusterer.k: 250",
        "nodes",
    )


def test_one_superpixel_fov(folder, capsys):
    fails(
        capsys,
        [folder / "recipe.yaml", "--out", folder / "run", "--set", "graph.pixels_per_superpixel=1000000"],
        "1 node",
        "pixels_per_superpixel",
    )


def test_empty_training_list(folder, capsys):
    fails(capsys, [folder / "recipe.yaml", "--out", folder / "run", "--set", "data.train=[]"], "training list is empty")


def test_truncated_tiff(folder, capsys):
    whole = (folder / "a.tif").read_bytes()
    (folder / "a.tif").write_bytes(whole[: len(whole) // 2])
    fails(capsys, [folder / "recipe.yaml", "--out", folder / "run"], "a.tif")


def test_unreadable_zarr_chunk(folder, capsys):
    zarr = pytest.importorskip("zarr")
    array = zarr.create_array(str(folder / "a.zarr"), shape=(2, 96, 100), chunks=(1, 96, 100), dtype="u1")
    array[:] = volume(0)[0]
    chunk = next(path for path in (folder / "a.zarr" / "c").rglob("*") if path.is_file())
    chunk.write_bytes(b"broken")
    image = f"data.train.0.image={folder / 'a.zarr'}"
    fails(capsys, [folder / "recipe.yaml", "--out", folder / "run", "--set", image], "a.zarr")


def test_a_gpu_that_is_not_there(folder, capsys):
    fails(capsys, [folder / "recipe.yaml", "--out", folder / "run", "--device", "cuda:63"], "cuda:63", "--device")
    assert not (folder / "run").exists()


def test_a_checkpoint_that_does_not_fit(folder, capsys):
    fails(
        capsys,
        [folder / "recipe.yaml", "--out", folder / "run", "--set", "features=mae", "features.width=96"],
        "features.width is 96",
        "192",
    )
