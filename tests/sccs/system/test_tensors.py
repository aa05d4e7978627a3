"""Arrays with a checksum: any damage is found."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from sccs.system.bounds import Denied
from sccs.system.tensors import Damaged, read_arrays, write_arrays

ARRAYS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.float64(3), "empty": np.zeros((0, 4), np.uint8)}


def test_arrays_and_facts_come_back(tmp_path):
    write_arrays(tmp_path / "x.safetensors", ARRAYS, {"step": "7"})
    arrays, facts = read_arrays(tmp_path / "x.safetensors")
    assert facts == {"step": "7"} and arrays.keys() == ARRAYS.keys()
    assert all(
        np.array_equal(arrays[name], value) and arrays[name].dtype == value.dtype for name, value in ARRAYS.items()
    )


def test_every_flipped_byte_is_found_or_changes_nothing(tmp_path):
    """A byte of the padding, or of the name under which the checksum stands, says nothing of the arrays."""
    path = tmp_path / "x.safetensors"
    write_arrays(path, ARRAYS, {"step": "7"})
    whole, found = path.read_bytes(), 0
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            arrays, facts = read_arrays(path, unchecked=True)
        except Damaged:
            found += 1
        else:
            assert facts["step"] == "7" and all(np.array_equal(arrays[n], v) for n, v in ARRAYS.items()), place
    assert found > 0.8 * len(whole)


@pytest.mark.parametrize("content", [b"", b"\xff" * 100, b"\0" * 100, b"cut"])
def test_what_is_no_such_file_is_damaged(tmp_path, content):
    path = tmp_path / "x.safetensors"
    write_arrays(path, ARRAYS)
    path.write_bytes(path.read_bytes()[:-1] if content == b"cut" else content)
    with pytest.raises(Damaged, match="x.safetensors: damaged"):
        read_arrays(path, unchecked=True)


def test_a_folder_is_damaged_and_a_missing_file_is_missing(tmp_path):
    (tmp_path / "x.safetensors").mkdir()
    with pytest.raises(Damaged):
        read_arrays(tmp_path / "x.safetensors")
    with pytest.raises(FileNotFoundError):
        read_arrays(tmp_path / "y.safetensors")


def test_a_file_without_a_checksum_is_taken_only_if_asked(tmp_path):
    save_file({"a": np.ones(2)}, tmp_path / "x.safetensors", {"step": "3"})
    assert read_arrays(tmp_path / "x.safetensors", unchecked=True)[1] == {"step": "3"}
    with pytest.raises(Damaged, match="no checksum"):
        read_arrays(tmp_path / "x.safetensors")


def test_a_file_has_the_mode_of_any_new_file(tmp_path):
    """What one member of a lab trained, others can read; `save_file` of safetensors lets only its owner."""
    write_arrays(tmp_path / "x.safetensors", ARRAYS)
    (tmp_path / "plain").write_bytes(b"")
    assert (tmp_path / "x.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_file_that_may_not_be_read_is_not_called_missing_or_damaged(tmp_path, monkeypatch):
    write_arrays(path := tmp_path / "x.safetensors", ARRAYS)

    def closed(*_):
        raise FileNotFoundError("No such file or directory")  # as safetensors says

    monkeypatch.setattr("safetensors.safe_open", closed)
    with pytest.raises(FileNotFoundError):
        read_arrays(path)
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(Denied, match="x.safetensors: Permission denied: ask its owner"):
        read_arrays(path)
