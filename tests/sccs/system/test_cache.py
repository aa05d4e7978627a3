"""The cache: whole entries only, a size, what goes first; several runs on one cache."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest

from registry.base import UserError
from sccs.cli import main as command
from sccs.system import cache
from sccs.system.cache import cache_folder, cache_size, cached, clear, entries, kept_folder

KEYS = [f"{number:032x}" for number in range(0x10, 0x20)]
WORK = """
import sys
import numpy as np
from sccs.system.cache import cached, kept_folder, cache_folder
rng = np.random.default_rng(int(sys.argv[1]))
for number in rng.integers(0, 12, 150):
    arrays = cached("nodes", f"{number:032x}", lambda: {"a": np.full(1000, number)})
    assert (arrays["a"] == number).all()
def make(folder):
    np.save(folder / "a.npy", np.arange(5000))
for _ in range(5):
    folder = kept_folder(cache_folder() / "phantom-0123456789abcdef", make)
    assert np.load(folder / "a.npy", mmap_mode="r")[-1] == 4999
print("done")
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A cache of this test's own."""
    monkeypatch.setenv("SCCS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SCCS_CACHE_SIZE", raising=False)
    monkeypatch.setattr(cache, "_refused", set())
    monkeypatch.setattr(cache, "_room", {})
    return tmp_path / "cache"


def put(number: int, floats: int = 1000) -> None:
    cached("nodes", KEYS[number], lambda: {"a": np.full(floats, float(number))})


def made_again(number: int) -> bool:
    asked = []
    found = cached("nodes", KEYS[number], lambda: asked.append(1) or {"a": np.full(1000, float(number))})
    assert (found["a"] == number).all()
    return bool(asked)


def the_file(folder, number: int):
    (path,) = folder.glob(f"nodes/*/{KEYS[number]}.safetensors")
    return path


# -------------------------------------------------------------------------------------------------------------- damage
@pytest.mark.parametrize(
    "harm",
    [
        lambda whole: b"",
        lambda whole: whole[:-1],
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:],
        lambda whole: whole + b"x",
        lambda whole: b"\x80" * len(whole),
    ],
    ids=["empty", "a byte short", "half", "flipped", "longer", "noise"],
)
def test_a_damaged_entry_is_made_anew_and_then_whole(folder, harm):
    put(0)
    path = the_file(folder, 0)
    path.write_bytes(harm(path.read_bytes()))
    assert made_again(0) and not made_again(0)


def test_an_entry_that_is_a_folder_is_made_anew(folder):
    put(0)
    path = the_file(folder, 0)
    path.unlink()
    path.mkdir()
    assert made_again(0) and not made_again(0)


def make(folder) -> None:
    np.save(folder / "a.npy", np.arange(100))
    (folder / "cells.json").write_text("[1]")


@pytest.mark.parametrize("harm", ["flipped", "cut", "gone", "no sums", "empty folder", "sums are noise", "a file"])
def test_a_folder_that_is_not_whole_is_made_anew(folder, harm):
    place = kept_folder(folder / "phantom-x", make)
    array = (place / "a.npy").read_bytes()
    if harm in ("flipped", "cut"):
        (place / "a.npy").write_bytes(array[:-1] + bytes([array[-1] ^ 1]) if harm == "flipped" else array[:-1])
    elif harm in ("gone", "empty folder"):
        for path in [place / "a.npy"] if harm == "gone" else list(place.iterdir()):
            path.unlink()
    elif harm == "a file":
        for path in place.iterdir():
            path.unlink()
        place.rmdir()
        place.write_text("")
    else:
        (place / "SHA256SUMS").write_bytes(b"\xff\n") if harm == "sums are noise" else (place / "SHA256SUMS").unlink()
    assert kept_folder(place, make) == place and (place / "a.npy").read_bytes() == array
    kept_folder(place, lambda folder: pytest.fail("made again"))
    assert [path.name for path in folder.iterdir()] == ["phantom-x"]


def test_numpy_on_a_full_disk_is_one_line_and_leaves_nothing(folder):
    def full(scratch):
        raise OSError("13107200 requested and 5324800 written")  # what np.save raises, without a number

    with pytest.raises(UserError, match="cannot write .*phantom-x, in the cache: No space left on device: free"):
        kept_folder(folder / "phantom-x", full)
    assert list(folder.iterdir()) == []


# ---------------------------------------------------------------------------------------------------------------- size
@pytest.mark.parametrize(
    "text, size",
    [
        ("", 20 * 2**30),
        ("1", 2**30),
        ("0.5", 2**29),
        ("500 MB", 5 * 10**8),
        ("3GiB", 3 * 2**30),
        ("7 b", 7),
        ("2tb", 2 * 10**12),
    ],
)
def test_sizes(monkeypatch, text, size):
    monkeypatch.setenv("SCCS_CACHE_SIZE", text)
    assert cache_size() == size


@pytest.mark.parametrize("text", ["much", "-1", "1 G B", "nan", "1e3 GB"])
def test_a_size_that_is_none_is_refused_before_anything_is_computed(monkeypatch, text):
    monkeypatch.setenv("SCCS_CACHE_SIZE", text)
    with pytest.raises(UserError, match="SCCS_CACHE_SIZE=.*: not a size; write a number of GiB"):
        cached("nodes", KEYS[0], lambda: pytest.fail("computed"))


def test_what_was_not_used_for_longest_goes_first(folder, monkeypatch):
    for number in range(6):
        put(number)
        os.utime(the_file(folder, number), (number, number))
    size = the_file(folder, 0).stat().st_size
    assert not made_again(0)  # used again, so that 1 and 2 are the oldest
    monkeypatch.setenv("SCCS_CACHE_SIZE", f"{5.6 * size:.0f} B")
    cache._room.clear()
    put(6)
    kept = {path.stem for path in folder.glob("nodes/*/*")}
    assert kept == {KEYS[number] for number in (0, 3, 4, 5, 6)}


def test_the_cache_stays_within_its_size(folder, monkeypatch):
    monkeypatch.setenv("SCCS_CACHE_SIZE", "100 KB")
    for number in range(len(KEYS)):
        put(number)
        assert sum(path.stat().st_size for path in folder.glob("nodes/*/*")) <= 100_000
    assert entries(folder)


def test_nothing_else_in_the_folder_is_ever_removed(folder, monkeypatch):
    others = [folder / "thesis.tex", folder / "nodes" / "notes.txt", folder / "data" / "00" / f"{KEYS[0]}.safetensors"]
    for path in others:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    monkeypatch.setenv("SCCS_CACHE_SIZE", "1 KB")
    put(0)
    assert len(clear(folder)) <= 1 and all(path.exists() for path in others)


def test_what_a_killed_run_was_writing_goes_after_an_hour(folder):
    put(0)
    old, new = (the_file(folder, 0).with_name(f".0000000{i}-{KEYS[0]}.safetensors") for i in (1, 2))
    for path in (old, new):
        path.write_text("half")
    os.utime(old, (0, time.time() - 4000))
    cache._room.clear()
    put(1)
    assert not old.exists() and new.exists()


def test_phantoms_count_and_go_too_but_not_while_they_are_in_use(folder, monkeypatch):
    monkeypatch.setenv("SCCS_CACHE_SIZE", "2 KB")
    old, used = (kept_folder(folder / f"phantom-{digit * 16}", make) for digit in "01")
    assert old.exists() and used.exists()  # both were asked for a moment ago
    os.utime(old, (0, 0))
    kept_folder(folder / f"phantom-{'2' * 16}", make)
    assert not old.exists() and used.exists()


def test_the_command_tells_and_clears(folder, capsys):
    put(0)
    put(1)
    kept_folder(folder / "phantom-0123456789abcdef", make)
    assert command(["cache"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == str(folder) and "nodes       2 entries, " in said[1] and "phantom     1 entry, " in said[2]
    assert "of 20 GiB (SCCS_CACHE_SIZE)" in said[3]
    assert command(["cache", "--clear"]) == 0
    assert "removed" in capsys.readouterr().out and entries(folder) == [] and made_again(0)


def test_the_command_where_there_is_no_cache(monkeypatch, capsys):
    monkeypatch.setenv("SCCS_CACHE", "off")
    assert command(["cache"]) == 0 and "off" in capsys.readouterr().out


def test_without_a_home_nothing_is_kept(monkeypatch, tmp_path):
    def nobody():
        raise RuntimeError("Could not determine home directory.")

    for setting in ("", "~/cache"):
        monkeypatch.setenv("SCCS_CACHE", setting)
        monkeypatch.setattr("pathlib.Path.home", nobody)
        monkeypatch.setattr("pathlib.Path.expanduser", lambda self: nobody())
        assert cache_folder() is None and made_again(0) and made_again(0)


def test_eight_runs_on_one_cache_which_is_too_small_for_them(folder, monkeypatch):
    monkeypatch.setenv("SCCS_CACHE_SIZE", "40 KB")
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", WORK, str(seed)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for seed in range(8)
    ]
    ends = [run.communicate() for run in runs]
    assert [(out.strip(), error) for out, error in ends] == [("done", "")] * 8
    assert not list(folder.rglob(".*"))
