"""The examples of docs/python.md and docs/objects.md."""

import doctest
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


def test_every_example_gives_what_the_page_shows(tmp_path, monkeypatch):
    pytest.importorskip("zarr")
    monkeypatch.chdir(tmp_path)
    failed, tried = doctest.testfile(str(DOCS / "python.md"), module_relative=False)
    assert tried > 20 and not failed


def test_the_example_of_objects():
    pytest.importorskip("cc3d")
    failed, tried = doctest.testfile(str(DOCS / "objects.md"), module_relative=False)
    assert tried > 3 and not failed
