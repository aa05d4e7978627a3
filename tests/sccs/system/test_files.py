"""Atomic files: whole or not at all."""

import json

import pytest

from registry.base import UserError
from sccs.system.files import atomic_path, write_bytes, write_json, write_text


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
