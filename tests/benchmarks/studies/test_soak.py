"""The soak sees what goes wrong: other results, what is left, tracebacks, silent refusals."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from benchmarks.studies import soak


def ended(code: int, error: str) -> subprocess.CompletedProcess[str]:
    return subprocess.CompletedProcess([], code, "", error)


def test_a_refusal_is_one_line_and_code_2():
    assert soak.said(ended(2, "a warning\nsccs: error: the disk is full\n")) == ""
    assert "0 lines" in soak.said(ended(2, ""))
    assert "2 lines" in soak.said(ended(2, "sccs: error: a\nsccs: error: b\n"))
    assert "exit code 1" in soak.said(ended(1, "sccs: error: a\n"))
    assert "traceback" in soak.said(ended(2, "Traceback (most recent call last):\nsccs: error: a\n"))


def test_digests_are_of_names_and_content(tmp_path):
    def of(name: str, values: np.ndarray, facts: dict[str, str]) -> str:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        save_file({"b": values, "a": values}, folder / name, facts)
        return soak.digest(folder, ["*"])

    one = of("m.safetensors", np.ones(3), {"x": "1"})
    assert of("m.safetensors", np.ones(3), {"x": "2"}) == one  # the file's own facts have no fixed order
    assert of("n.safetensors", np.ones(3), {"x": "1"}) != one
    assert of("m.safetensors", np.zeros(3), {"x": "1"}) != one


@pytest.mark.parametrize("name", [".1a2b3c4d-model.json", "a.tif.lock", "a.ome.zarr.partial"])
def test_what_is_left_is_seen(tmp_path, name):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.json").touch()
    assert soak.left(tmp_path) == []
    (tmp_path / "run" / name).touch()
    assert soak.left(tmp_path) == [str(Path("run") / name)]


def test_the_page_counts_and_tells_what_was_wrong():
    rows = [["killed", "run", "after 1 s", ""], ["killed", "run", "after 2 s", "other results"]]
    page = soak.page(rows)
    assert "| killed | run | 2 | 1 |" in page and "- killed, run, after 2 s: other results" in page
    assert "Nothing went wrong." in soak.page(rows[:1])
