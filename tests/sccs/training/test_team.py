"""Several processes as one run: what they agree on, that none waits for one that failed, pre-training by torchrun."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml

from registry.base import UserError
from sccs.training.checkpoint import read_tensors
from sccs.training.pretrain import pretrain
from sccs.training.team import ALONE, Team, launched_team

TINY = dict(
    patch=5, window=20, width=16, depth=2, heads=1, mlp_ratio=2, decoder_width=16, decoder_depth=1, decoder_heads=2
)
MEETINGS = """
import json, os, sys
from registry.base import UserError
from sccs.system.exits import guard
from sccs.training.team import launched_team

def attempt(work):
    try:
        return work()
    except Exception as error:
        return f"{type(error).__name__}: {error}"

def main():
    with launched_team() as team:
        def fails(rank, error):
            if team.rank == rank:
                raise error
            return "fine"
        order = []
        seen = {
            "first": team.on_first(lambda: [team.rank, "made"]),
            "mean": team.mean([team.rank, 3.0]),
            "any": [team.any(team.rank == 1), team.any(False)],
            "users": attempt(lambda: team.together(lambda: fails(1, UserError("no such file")))),
            "ours": attempt(lambda: team.together(lambda: fails(0, ValueError("a slip")))),
            "first fails": attempt(lambda: team.on_first(lambda: fails(0, UserError("disk full")))),
            "gpu": attempt(lambda: team.device("cuda:0")),
            "ahead": team.together(lambda: os.path.exists("cached") or open("cached", "w").close(), first_ahead=True),
        }
        print(json.dumps(seen), flush=True)
        if team.rank == 1:
            os._exit(3)  # as if killed
        team.mean([0.0])

sys.exit(guard(main)())
"""


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1", **more}


def test_without_a_launcher_a_team_is_one_process(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "1")
    with launched_team() as team:
        assert team == ALONE == Team(0, 1, 0)
    assert ALONE.on_first(lambda: 5) == ALONE.together(lambda: 5, first_ahead=True) == 5
    assert ALONE.mean([1.5]) == [1.5] and ALONE.any(True)
    with pytest.raises(ZeroDivisionError):
        ALONE.together(lambda: 1 / 0)


def test_processes_agree_and_none_waits_for_one_that_failed(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", MEETINGS],
            cwd=tmp_path,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(
                RANK=str(rank), WORLD_SIZE="2", LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1", MASTER_PORT=port
            ),
        )
        for rank in range(2)
    ]
    (out, error), (other, _) = (process.communicate(timeout=120) for process in processes)
    first, second = json.loads(out), json.loads(other)
    assert first["first"] == second["first"] == [0, "made"]
    assert first["mean"] == second["mean"] == [0.5, 3.0]
    assert first["any"] == second["any"] == [True, False]
    assert first["users"] == "UserError: process 1 of this run: no such file"
    assert second["users"] == "UserError: no such file"
    assert first["ours"] == "ValueError: a slip"
    assert second["ours"] == "UserError: process 0 of this run: failed: a slip"
    assert first["first fails"] == "UserError: disk full"
    assert second["first fails"] == "UserError: process 0 of this run: disk full"
    assert "2 processes cannot share one GPU" in first["gpu"]
    assert (first["ahead"], second["ahead"]) == (None, True)  # the second found what the first had made
    assert processes[0].returncode == 2 and "another process of this run has ended" in error
    assert processes[1].returncode == 3


# --------------------------------------------------------------------------------------------------------- torchrun
@pytest.fixture
def recipe(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:60, :100]
    image = 128 + 60 * np.sin(y / 4) * np.sin(x / 5) + rng.normal(0, 5, y.shape)
    tifffile.imwrite(tmp_path / "em.tif", image.clip(0, 255).astype(np.uint8))
    block = {
        "data": [{"name": "volumes", "train": [{"image": "em.tif"}]}],
        "architecture": TINY,
        "batch": 4,
        "steps": 120,
        "warmup": 2,
        "lr": 1e-4,
        "amp": False,
        "threads": 1,
        "log_every": 1,
        "checkpoint_every": 1000,
    }
    path = tmp_path / "mae.yaml"
    path.write_text(yaml.safe_dump({"device": "cpu", "pretrain": block}))
    return path


def torchrun(recipe: Path, *arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc_per_node=2",
            "-m",
            "sccs.run",
            str(recipe),
            *arguments,
        ],
        env=environment(),
        text=True,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


@pytest.mark.slow
def test_two_processes_stopped_and_resumed_train_as_one(recipe, tmp_path):
    out = tmp_path / "two"
    run = torchrun(recipe, "--out", str(out))
    while run.poll() is None and not ((out / "metrics.jsonl").exists() and (out / "metrics.jsonl").read_text()):
        time.sleep(0.02)
    run.send_signal(signal.SIGTERM)
    _, error = run.communicate(timeout=120)
    _, facts = read_tensors(out / "model" / "state.safetensors")
    assert 0 < int(facts["done"]) < 120 and run.returncode != 0, error

    resumed = torchrun(recipe, "--out", str(out), "--resume")
    printed, error = resumed.communicate(timeout=120)
    assert resumed.returncode == 0, error
    assert printed.split() == [str(out / "model" / "mae.safetensors")]  # the first process alone speaks and writes
    assert f"from step {facts['done']}" in error and error.count("weights: ") == 1
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    losses = {line["step"]: line["loss/train"] for line in lines if "loss/train" in line}
    assert [line["step"] for line in lines if "loss/train" in line] == list(range(1, 121))

    whole = tmp_path / "one"
    pretrain(yaml.safe_load(recipe.read_text()), whole, "cpu", 0, False, recipe.parent)
    lines = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    alone = {line["step"]: line["loss/train"] for line in lines if "loss/train" in line}
    np.testing.assert_allclose(list(losses.values()), list(alone.values()), rtol=1e-5)
    two, one = (read_tensors(folder / "model" / "state.safetensors")[0] for folder in (out, whole))
    assert set(one) == set(two)
    for name in (name for name in one if name.startswith(("model.", "average."))):
        np.testing.assert_allclose(two[name], one[name], rtol=0, atol=1e-3, err_msg=name)


@pytest.mark.parametrize("size, words", [(3, "8 crops cannot be shared equally by 3 processes; use a multiple of 3")])
def test_a_batch_that_cannot_be_shared_is_the_users_mistake(size, words):
    from sccs.training.pretrain import check_batch
    from sccs.training.pretrain_settings import Pretrain

    with pytest.raises(UserError, match=words):
        check_batch(Pretrain(data=[{"name": "phantom"}], batch=8), Team(0, size))


def test_only_pretraining_takes_several_processes():
    from sccs.recipe import load_recipe
    from sccs.run import run

    with pytest.raises(UserError, match="only recipes with a `pretrain` block can use several processes"):
        run(load_recipe("sccs"), team=Team(0, 2))
