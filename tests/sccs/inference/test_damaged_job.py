"""An unfinished segmentation that somebody damaged: what is lost is done again, or the command says what to do."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from registry.base import UserError
from sccs.cli import main as command
from sccs.inference import block_job
from sccs.inference.partial import check_partial
from tests.sccs.inference.spots import Counted, read

zarr = pytest.importorskip("zarr")
BLOCKS = ["--block", "1", "1", "1"]


@pytest.fixture(scope="module")
def stopped(run, scene, tmp_path_factory) -> Path:
    """A folder with OUTPUT.partial, stopped after 18 of 48 fields of view."""
    folder = tmp_path_factory.mktemp("stopped")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(block_job, "label_fovs", Counted(18))
        assert command(["segment", run, scene[0], str(folder / "b.ome.zarr"), *BLOCKS]) == 130
    return folder


@pytest.fixture
def job(stopped, tmp_path) -> Path:
    shutil.copytree(stopped, tmp_path / "here")
    return tmp_path / "here" / "b.ome.zarr.partial"


def resume(run, scene, job: Path) -> int:
    return command(["segment", run, scene[0], str(job.with_name("b.ome.zarr")), *BLOCKS, "--resume"])


def chunk(job: Path) -> Path:
    """A chunk of what the fields of view gave."""
    return sorted(path for path in (job / "fovs").rglob("*") if path.is_file() and path.suffix != ".json")[3]


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)


@pytest.mark.parametrize(
    "harm, again",
    [
        (lambda job: chunk(job).unlink(), 1),
        (lambda job: flip(chunk(job)), 1),
        (lambda job: chunk(job).write_bytes(b""), 1),
        (lambda job: chunk(job).write_bytes(b"\0" * 100), 1),
        (lambda job: (job / "done" / "fovs" / "3").write_bytes(b""), 1),
        (lambda job: (job / "done" / "fovs" / "3").write_bytes(b"\xff" * 1000), 1),
        (lambda job: ((job / "done" / "fovs" / "3").unlink(), (job / "done" / "fovs" / "3").mkdir()), 1),
        (lambda job: ((job / "done" / "fovs" / "3").unlink(), os.mkfifo(job / "done" / "fovs" / "3")), 1),
        (lambda job: [(job / "done" / "fovs" / name).touch() for name in ("x", "-1", "9" * 200, "99999", "²")], 0),
        (lambda job: (job / "done" / "0" / "0").write_text("00000000"), 1),
    ],
)
def test_what_is_lost_is_done_again(run, scene, job, monkeypatch, capsys, harm, again):
    harm(job)
    monkeypatch.setattr(block_job, "label_fovs", Counted())
    assert resume(run, scene, job) == 0
    assert np.array_equal(read(job.with_name("b.ome.zarr")), scene[1])
    said = capsys.readouterr().err
    assert (f"{again} damaged block" in said) == (again > 0)
    assert block_job.label_fovs.count in (30, 31)


@pytest.mark.parametrize(
    "harm, words",
    [
        (lambda job: (job / "job.json").write_text("["), ["job.json", "--overwrite"]),
        (lambda job: (job / "job.json").write_text("[]"), ["job.json", "--overwrite"]),
        (lambda job: (job / "job.json").write_bytes(b"\xff"), ["job.json"]),
        (lambda job: set_value(job, "statistics", [1]), ["job.json", "statistics", "--overwrite"]),
        (lambda job: set_value(job, "statistics", ["a", 1]), ["job.json", "statistics.0", "--overwrite"]),
        (lambda job: set_value(job, "settings", None), ["job.json", "settings", "--overwrite"]),
        (lambda job: set_value(job, "token", 3), ["job.json", "token", "--overwrite"]),
        (lambda job: shutil.rmtree(job / "done" / "0"), ["partial", "damaged", "--overwrite"]),
        (lambda job: shutil.rmtree(job / "done"), ["partial", "damaged", "--overwrite"]),
        (lambda job: shutil.rmtree(job / "fovs"), ["partial", "damaged", "--overwrite"]),
        (lambda job: (job / "fovs" / "zarr.json").write_text("{"), ["partial", "damaged", "--overwrite"]),
        (lambda job: reshape(job), ["partial", "damaged", "--overwrite"]),
        (lambda job: shutil.rmtree(job / "store"), ["partial", "damaged", "--overwrite"]),
    ],
)
def test_what_cannot_be_mended_is_said(run, scene, job, capsys, harm, words):
    harm(job)
    capsys.readouterr()
    assert resume(run, scene, job) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "sccs: error" in line]
    assert len(lines) == 1
    for word in words:
        assert word in lines[0]
    assert job.exists() and not job.with_name("b.ome.zarr").exists()


def set_value(job: Path, key: str, value: object) -> None:
    path = job / "job.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))


def reshape(job: Path) -> None:
    path = job / "fovs" / "zarr.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "shape": [1, 7, 7]}))


def test_nothing_of_a_damaged_job_stands_in_the_way_of_a_new_one(run, scene, job):
    (job / "job.json").write_text("[")
    out = job.with_name("b.ome.zarr")
    assert command(["segment", run, scene[0], str(out), *BLOCKS, "--overwrite"]) == 0
    assert np.array_equal(read(out), scene[1])


def test_another_folder_named_like_an_unfinished_segmentation_is_kept(tmp_path):
    (tmp_path / "a.ome.zarr.partial").mkdir()
    (tmp_path / "a.ome.zarr.partial" / "mine").write_text("mine")
    for resume, overwrite in ((False, False), (True, False), (False, True)):
        with pytest.raises(UserError, match="named like unfinished work"):
            check_partial(tmp_path / "a.ome.zarr", resume, overwrite, block_job.CONTENT)
