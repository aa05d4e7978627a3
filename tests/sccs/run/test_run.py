"""The main job through the command line: what a run folder holds, and how it is resumed."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tifffile
import yaml

from sccs.run import main
from sccs.system.exits import guard
from tests.sccs.run.small import PRETRAIN, fails, volume


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


def test_an_existing_run_is_refused_without_resume_or_overwrite(finished, capsys):
    before = sorted(finished.rglob("*"))
    fails(capsys, [finished / "recipe.yaml", "--out", finished], "already exists; pass --resume", "--resume")
    assert sorted(finished.rglob("*")) == before


def test_resume_begins_a_run_that_never_had_a_folder(folder, capsys):
    assert guard(main)([str(folder / "recipe.yaml"), "--out", str(folder / "new"), "--resume"]) == 0
    assert "has no run yet" in capsys.readouterr().out and (folder / "new" / "report.html").exists()


def test_a_folder_that_is_no_run_is_never_touched(folder, capsys):
    fails(capsys, [folder / "recipe.yaml", "--out", folder, "--overwrite"], "not a run folder")
    assert (folder / "a.tif").exists()


def test_resume_with_other_settings_is_refused(finished, capsys):
    fails(
        capsys, [finished / "resolved.yaml", "--out", finished, "--resume", "--set", "train.lr=0.5"], "train.lr", "0.01"
    )


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
