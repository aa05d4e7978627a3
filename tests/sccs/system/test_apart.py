"""What a command writes is nothing that it reads, by whatever name."""

import os
from pathlib import Path

import pytest

from registry.base import UserError
from sccs.system.apart import check_apart


@pytest.fixture
def data(tmp_path, monkeypatch) -> Path:
    """raw.tif, slices/ with two images, a.zarr with an array em/s0, a.h5; the working folder is theirs."""
    for name in ("raw.tif", "slices/z0.tif", "slices/z1.tif", "a.h5", "a.zarr/zarr.json", "a.zarr/em/s0/zarr.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "soft.tif").symlink_to("raw.tif")
    os.link(tmp_path / "raw.tif", tmp_path / "hard.tif")
    (tmp_path / "linked").symlink_to("slices")
    (tmp_path / "stored").symlink_to("a.zarr")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "output, given, why",
    [
        ("raw.tif", "raw.tif", "is INPUT"),
        ("slices/../raw.tif", "raw.tif", "is INPUT"),
        ("soft.tif", "raw.tif", "is INPUT"),
        ("raw.tif", "soft.tif", "is INPUT"),
        ("hard.tif", "raw.tif", "is INPUT"),
        ("slices", "linked", "is INPUT"),
        ("slices/new.tif", "slices", "lies in INPUT"),
        ("linked/new.tif", "slices", "lies in INPUT"),
        ("linked/deeper/new.tif", "slices", "lies in INPUT"),
        ("slices", "slices/z0.tif", "contains INPUT"),
        ("linked", "slices/z0.tif", "contains INPUT"),
        ("slices", "slices/*.tif", "contains INPUT"),
        ("slices/z0.tif", "slices/*.tif", "part of INPUT"),
        ("slices/z2.tif", "slices/*.tif", "part of INPUT"),
        ("slices/z2.tif", "**/z*.tif", "part of INPUT"),
        ("a.zarr", "a.zarr/em/s0", "contains INPUT"),
        ("a.zarr/em", "a.zarr/em/s0", "INPUT"),
        ("a.zarr/labels.ome.zarr", "a.zarr/em/s0", "lies in INPUT"),
        ("stored/labels.ome.zarr", "a.zarr", "lies in INPUT"),
        ("a.zarr/x.tif", "a.zarr:em/s0", "lies in INPUT"),
        ("a.h5", "a.h5:/em/raw", "is INPUT"),
    ],
)
def test_an_output_that_is_the_input_or_holds_it_or_lies_in_it_is_refused(data, output, given, why):
    with pytest.raises(UserError, match=f"{output}: .*{why}.*choose another name"):
        check_apart(output, {"INPUT": [given]})


@pytest.mark.parametrize(
    "output, given",
    [
        ("new.tif", "raw.tif"),
        ("new.tif", "slices"),
        ("slices/labels.tif", "slices/z0.tif"),
        ("slices/labels.tif", "slices/z*.tif"),
        ("slices/deeper/z2.tif", "slices/*.tif"),
        ("a_labels.ome.zarr", "a.zarr"),
        ("raw.tif.ome.zarr", "raw.tif"),
        ("new.tif", "not there.tif"),
        ("new.tif", "$NOWHERE/*.tif"),
    ],
)
def test_others_are_not(data, output, given):
    check_apart(output, {"INPUT": [given]})


def test_what_may_lie_in_a_folder_may_not_lie_in_a_store(data):
    check_apart("slices/new.yaml", {"INPUT": ["slices"]}, within=False)
    with pytest.raises(UserError, match="lies in INPUT"):
        check_apart("a.zarr/new.yaml", {"INPUT": ["a.zarr/em/s0"]}, within=False)


def test_what_is_written_beside_the_output_counts_too(data):
    with pytest.raises(UserError, match="^b.zarr: contains the mask, .*z0.tif"):
        check_apart("b.zarr", {"INPUT": ["raw.tif"], "the mask": ["slices/z0.tif"]}, beside=["slices"])


def test_a_way_through_a_folder_that_is_about_to_be_made_hides_nothing(data):
    with pytest.raises(UserError, match="is INPUT"):
        check_apart("new/../raw.tif", {"INPUT": ["raw.tif"]})
    with pytest.raises(UserError, match="contains INPUT"):
        check_apart("new/../a.zarr", {"INPUT": ["a.zarr/em/s0"]})
