"""Zips and folders that somebody made to do harm."""

import hashlib
import os
import zipfile

import pytest

from registry.base import UserError
from sccs.system import archive, bounds


def make(path, files: dict[str, bytes], listed: dict[str, bytes] | None = None) -> None:
    """A zip with the SHA-256 of all files, or of those listed."""
    sums = "".join(f"{hashlib.sha256(c).hexdigest()}  {name}\n" for name, c in (listed or files).items())
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for name, content in {**files, "SHA256SUMS": sums.encode()}.items():
            out.writestr(name, content)


def refused(path, said: str) -> None:
    with pytest.raises(UserError, match=said) as error, archive.opened(path):
        pass
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name",
    [
        "../a", "/a", "a/../b", "a\\b", "C:a", "a//b", "a/", "x" * 300, "é" * 200,
        "/".join(["x" * 200] * 6), "a\x1b[2J", ".",
    ],
)  # fmt: skip
def test_odd_names(tmp_path, name):
    make(tmp_path / "a.zip", {name: b"x"})
    refused(tmp_path / "a.zip", "SHA256SUMS is missing or damaged")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip"]


def test_a_file_that_is_a_folder_as_well(tmp_path):
    make(tmp_path / "a.zip", {"model": b"x", "model/model.json": b"{}"})
    refused(tmp_path / "a.zip", "'model' is both a file and a folder")


def test_bombs(tmp_path, monkeypatch):
    make(tmp_path / "many.zip", {str(i): b"" for i in range(bounds.MEMBERS + 5)})
    refused(tmp_path / "many.zip", "more than 1000 files")
    make(tmp_path / "lines.zip", {"a": b""}, {str(i): b"" for i in range(bounds.MEMBERS + 5)})
    refused(tmp_path / "lines.zip", "is missing or damaged")
    monkeypatch.setattr(bounds.check_zip, "__defaults__", (1 << 20,))
    make(tmp_path / "large.zip", {"a": bytes(2 << 20)})
    refused(tmp_path / "large.zip", "unpacks to more than 1 MiB")


def test_a_listing_of_any_size_is_not_read(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.json").write_text("{}")
    (tmp_path / "SHA256SUMS").write_bytes(bytes(bounds.SUMS + 1))
    refused(tmp_path, "SHA256SUMS: larger than 1 MiB")


@pytest.mark.parametrize("target", ["pipe", "/dev/zero", "a"])
def test_files_of_an_export_that_are_none(tmp_path, target):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.json").write_text("{}")
    (tmp_path / "SHA256SUMS").write_text(f"{'0' * 64}  a\n")
    os.mkfifo(tmp_path / "pipe")
    os.symlink(target, tmp_path / "a")
    refused(tmp_path, "a is missing or damaged")


def test_a_run_that_is_a_pipe_or_a_link_to_itself(tmp_path, fails):
    os.mkfifo(tmp_path / "pipe")
    os.symlink(tmp_path / "loop", tmp_path / "loop")
    for name in ("pipe", "loop"):
        fails(["compare", tmp_path / name], name)
        fails(["name", tmp_path / name, "1=a"], name)
        fails(["export", tmp_path / name, tmp_path / "out"], name)
        fails(["show", tmp_path / name], name)
