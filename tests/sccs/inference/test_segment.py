"""`sccs segment` in blocks that any number of workers do, any of whom may die: the same labels."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from sccs.cli import main as command
from sccs.inference import block_job, labels
from sccs.inference.segment import segment
from tests.sccs.inference.spots import REAL, Counted, read

zarr = pytest.importorskip("zarr")


def wait(condition, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)


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


def test_a_stopped_job_goes_on_and_loses_nothing(run, scene, tmp_path, monkeypatch, capsys):
    out = tmp_path / "b.ome.zarr"
    total = 3 * 4 * 4  # slices, rows, columns
    monkeypatch.setattr(block_job, "label_fovs", Counted(18))
    assert command(["segment", run, scene[0], str(out), "--block", "1", "1", "999"]) == 130
    assert not out.exists() and "pass --resume to continue" in capsys.readouterr().err
    monkeypatch.setattr(block_job, "label_fovs", Counted())
    for options, word in (
        ([], "contains unfinished work; pass --resume"),
        (["--resume", "--halo", "20"], "halo is 20"),
    ):
        assert command(["segment", run, scene[0], str(out), "--block", "1", "1", "999", *options]) == 2
        assert word in capsys.readouterr().err and not out.exists()
    assert block_job.label_fovs.count == 0
    assert command(["segment", run, scene[0], str(out), "--block", "1", "1", "999", "--resume"]) == 0
    assert block_job.label_fovs.count == total - 16  # 18 are four blocks of four, and two FOVs of the fifth
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
        monkeypatch.setattr(module, "label_fovs", meanwhile)
    segment(run, scene[0], out)
    assert (
        set(codes[0]) == {2}
        and f"is being written by another sccs segment (process {os.getpid()} on" in (err := capsys.readouterr().err)
        and "--resume" not in err
    )
    assert np.array_equal(read(out), scene[1]) and [path.name for path in tmp_path.iterdir()] == [name]


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
    assert code == 2 and "no Dask scheduler responds there" in capsys.readouterr().err


def test_workers_without_dask_get_the_command_to_install_it(run, scene, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert command(["segment", run, scene[0], str(tmp_path / "b.ome.zarr"), "--workers", "2"]) == 2
    assert "pip install 'distributed>=" in capsys.readouterr().err and not list(tmp_path.iterdir())
