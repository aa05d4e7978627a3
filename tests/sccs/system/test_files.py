"""Atomic files: whole or not at all."""

import errno
import json
import os
from contextlib import nullcontext

import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.numpy import save_file

from registry.base import UserError
from sccs.system import files
from sccs.system.files import (
    atomic_path,
    check_place,
    check_text_place,
    clear_remains,
    disk_fault,
    temporary_folder,
    write_bytes,
    write_json,
    write_text,
)


def test_text_json_and_bytes_arrive_whole_and_parents_are_made(tmp_path):
    write_text(tmp_path / "a" / "b" / "text.txt", "Ärger\n")
    write_json(tmp_path / "value.json", {"dsc": 0.5, "name": "µ"})
    write_bytes(tmp_path / "raw.bin", b"\x00\xff")
    assert (tmp_path / "a" / "b" / "text.txt").read_bytes() == "Ärger\n".encode()
    assert json.loads((tmp_path / "value.json").read_text(encoding="utf-8")) == {"dsc": 0.5, "name": "µ"}
    assert (tmp_path / "raw.bin").read_bytes() == b"\x00\xff"


def test_an_exception_leaves_the_old_file_and_no_remains(tmp_path):
    target = tmp_path / "model.json"
    write_text(target, "old")
    with pytest.raises(RuntimeError, match="killed"), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError("killed")
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["model.json"]


def test_the_temporary_name_keeps_the_suffix(tmp_path):
    with atomic_path(tmp_path / "labels.ome.zarr") as temporary:
        assert temporary.parent == tmp_path and temporary.name.endswith("labels.ome.zarr")
        temporary.write_text("x")


@pytest.mark.parametrize("old_is_folder", [True, False])
def test_a_folder_replaces_a_folder_or_a_file(tmp_path, old_is_folder):
    target = tmp_path / "store"
    if old_is_folder:
        target.mkdir()
        (target / "old").write_text("old")
    with atomic_path(target) as temporary:
        temporary.mkdir()
        (temporary / "new").write_text("new")
    assert [p.name for p in target.iterdir()] == ["new"]
    assert [p.name for p in tmp_path.iterdir()] == ["store"]


def test_nan_is_no_json(tmp_path):
    with pytest.raises(ValueError):
        write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_the_users_error(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError, match="cannot write .*choose another place"):
        write_text(tmp_path / "file" / "a.txt", "x")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
        OSError(errno.EFBIG, os.strerror(errno.EFBIG)),
        OSError("4096 requested and 16 written"),  # numpy
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        RuntimeError("Check failed: std::fwrite(ptr, 1, size, fp_) == size: FileStream.Write incomplete"),  # DGL
    ],
    ids=lambda error: str(error)[:30],
)
def test_a_full_disk_is_the_users_error_whichever_library_meets_it(tmp_path, error):
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(UserError, match="cannot write .*a.txt: "), atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise error
    assert (tmp_path / "a.txt").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_a_real_limit_on_the_size_of_files(tmp_path, disk_of):
    with disk_of(1000), pytest.raises(UserError, match="File too large: choose another place"):
        write_bytes(tmp_path / "a.bin", bytes(5000))
    with disk_of(1000), pytest.raises(UserError, match="File too large"), atomic_path(tmp_path / "b") as scratch:
        save_file({"a": np.zeros(5000)}, scratch)
    assert not list(tmp_path.iterdir())


def no_space() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_for_temporary_files_is_named_in_place_of_the_output(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "small"))
    (tmp_path / "small").mkdir()
    monkeypatch.setattr(files, "_has_room", lambda folder: False)
    with (
        pytest.raises(UserError, match=r"small: No space left on device: free some space there, or set TMPDIR to"),
        atomic_path(tmp_path / "out.zip"),
        temporary_folder() as folder,
    ):
        assert folder.parent == tmp_path / "small"
        raise no_space()
    assert not list((tmp_path / "small").iterdir()) and [path.name for path in tmp_path.iterdir()] == ["small"]


def test_a_full_disk_for_the_output_is_not_taken_for_that_of_temporary_files(tmp_path):
    with (
        pytest.raises(UserError, match=r"cannot write .*out.zip: No space left on device"),
        atomic_path(tmp_path / "out.zip"),
        temporary_folder(),
    ):
        raise no_space()


def test_no_place_for_temporary_files_is_said(monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", "/proc/self/fdinfo")
    with pytest.raises(UserError, match="cannot create a temporary folder: .*set TMPDIR"), temporary_folder():
        pass


def test_faults_of_what_is_read_meanwhile_keep_their_own_name(tmp_path):
    with pytest.raises(PermissionError), atomic_path(tmp_path / "a.txt"):
        raise PermissionError(errno.EACCES, "Permission denied", "/data/raw.tif")
    with pytest.raises(OSError, match="Input/output error"), atomic_path(tmp_path / "a.txt"):
        raise OSError(errno.EIO, "Input/output error", "/data/raw.tif")


def test_defects_are_no_faults_of_a_disk():
    assert disk_fault(ValueError("shapes differ")) is None and disk_fault(FileNotFoundError(2, "gone")) is None
    assert disk_fault(None) is None
    chained = RuntimeError("a block failed")
    chained.__cause__ = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert disk_fault(chained) == os.strerror(errno.ENOSPC)


@pytest.mark.parametrize("name", ["n" * 255 + ".txt", "n" * 250 + ".txt"])
def test_a_name_that_is_too_long_is_said(tmp_path, name):
    with pytest.raises(UserError, match="File name too long: choose a shorter name"):
        write_text(tmp_path / name, "x")
    assert not list(tmp_path.iterdir())


def test_a_folder_takes_the_name_of_a_file(tmp_path):
    (tmp_path / "store").write_text("old")
    with atomic_path(tmp_path / "store") as temporary:
        temporary.mkdir()
    assert (tmp_path / "store").is_dir() and len(list(tmp_path.iterdir())) == 1


def test_remains_of_a_killed_command_go_and_nothing_else(tmp_path):
    run = tmp_path / "run"
    remains = [tmp_path / ".0a1b2c3d-run", run / ".0a1b2c3d-metrics.json", run / "figures/data/.0a1b2c3d-v.npz"]
    others = [tmp_path / ".0a1b2c3d-other", tmp_path / ".0a1b2c3d-old-run", run / "metrics.json", run / ".hidden"]
    for path in [*remains, *others]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    clear_remains(run)
    assert [path for path in remains if path.exists()] == [] and all(path.exists() for path in others)


@pytest.mark.parametrize("moved", [False, True])
def test_a_folder_that_stepped_aside_comes_back_unless_the_new_one_is_there(tmp_path, moved):
    (tmp_path / ".0a1b2c3d+store").mkdir()
    (tmp_path / ".0a1b2c3d+store" / "old").write_text("")
    if moved:
        (tmp_path / "store").mkdir()
    clear_remains(tmp_path / "store")
    assert (tmp_path / "store" / "old").exists() != moved and [path.name for path in tmp_path.iterdir()] == ["store"]


def test_a_file_replaces_no_folder_and_nothing_replaces_a_device(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "z0.tif").write_text("raw")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "out").symlink_to("/proc/self/fd/1")  # as /dev/stdout
    for name, said in (("images", "a folder"), ("pipe", "a device, pipe or socket"), ("out", "a device")):
        with pytest.raises(UserError, match=said):
            write_text(tmp_path / name, "new")
    assert (tmp_path / "images" / "z0.tif").read_text() == "raw"
    assert (tmp_path / "pipe").is_fifo() and (tmp_path / "out").is_symlink()
    assert sorted(os.listdir(tmp_path)) == ["images", "out", "pipe"]
    with pytest.raises(UserError, match="root of a disk"):
        check_place("/")


@pytest.mark.parametrize(
    "content, ok",
    [
        (b"a,b\n", True),
        ("ä".encode() * 2048 + b"a", True),
        (b"a" + "ä".encode() * 2048, True),
        (b"", True),
        (b"II*\0\x08", False),
        (b"\xff\xfea", False),
    ],
)
def test_a_table_takes_the_place_of_text_alone(content, ok, tmp_path):
    (tmp_path / "a").write_bytes(content)
    with nullcontext() if ok else pytest.raises(UserError, match="is not a text file"):
        check_text_place(tmp_path / "a")
