"""Files within bounds."""

import os
import zipfile

import pytest

from registry.base import UserError
from sccs.system import bounds


def test_text_within_its_bound(tmp_path):
    (tmp_path / "a.txt").write_text("grün\n")
    assert bounds.read_text(tmp_path / "a.txt", 6) == "grün\n"
    with pytest.raises(UserError, match="a.txt: larger than 5 bytes"):
        bounds.read_text(tmp_path / "a.txt", 5)
    (tmp_path / "b.txt").write_bytes(b"a\nb\n\xff")
    with pytest.raises(UserError, match="b.txt: cannot be read: not UTF-8 text .line 3, byte 0xff."):
        bounds.read_text(tmp_path / "b.txt", 100)


def test_a_file_that_is_longer_than_it_says():
    with pytest.raises(UserError, match="larger than 100 bytes"):
        bounds.read_bytes("/proc/self/smaps", 100)


def test_what_is_no_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    os.symlink(tmp_path / "loop", tmp_path / "loop")
    for path, said in (
        (tmp_path / "pipe", "a named pipe"),
        (tmp_path, "a folder"),
        ("/dev/zero", "a device"),
        (tmp_path / "loop", "Too many levels of symbolic links"),
        (tmp_path / "none", "No such file"),
        (tmp_path / ("x" * 300), "File name too long"),
        ("a\0b", "null"),
    ):
        with pytest.raises(UserError, match=said):
            bounds.read_bytes(path, 100)


def test_zips_of_too_much(tmp_path):
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as archive:
        for i in range(bounds.MEMBERS + 1):
            archive.writestr(str(i), b"")
    with zipfile.ZipFile(tmp_path / "large.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(100_000))
    with pytest.raises(UserError, match="many.zip: a zip of more than 1000 files"):
        bounds.check_zip(tmp_path / "many.zip")
    with pytest.raises(UserError, match="large.zip: a zip that unpacks to more than 0 MiB"):
        bounds.check_zip(tmp_path / "large.zip", 50_000)
    bounds.check_zip(tmp_path / "large.zip", 100_000)
