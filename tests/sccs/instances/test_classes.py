"""Names that a stranger's file gives to classes."""

import json

import pytest
import tifffile

from registry.base import UserError
from sccs.instances.classes import chosen, stored_names
from sccs.instances.work import file_name
from tests.sccs.instances.maps import blobs

GIVEN = {
    1: "nucleus",
    2: "Nucleus",
    3: "../../x",
    4: "=HYPERLINK(1)",
    5: "a\x1b[2J",
    6: "n" * 10_000,
    7: " ",
    999: "far",
}
SHOWN = {1: "nucleus", 2: "Nucleus (2)", 3: "../../x", 4: "_HYPERLINK(1)", 5: "a\\x1b[2J", 6: "n" * 100}


def test_of_a_tiff_and_of_a_zarr(tmp_path):
    about = {"Info": "\n".join(f"{code} = {name}" for code, name in GIVEN.items())}
    tifffile.imwrite(tmp_path / "a.tif", blobs((4, 20, 20), 1), imagej=True, metadata=about)
    assert stored_names(str(tmp_path / "a.tif")) == SHOWN
    properties = [{"label-value": code, "name": name} for code, name in GIVEN.items()]
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / ".zattrs").write_text(json.dumps({"image-label": {"properties": properties}}))
    assert stored_names(str(tmp_path / "a.zarr")) == SHOWN


def test_files_of_classes_have_names_that_disks_take():
    assert file_name("../../x") == "_.._x" and file_name("..") == "_"
    assert len(file_name("核" * 100).encode()) <= 200


@pytest.mark.parametrize("text", ["\x1b[2J=1", "n" * 101 + "=1"])
def test_names_of_the_users_own(text):
    with pytest.raises(UserError, match="a name must have at most 100 characters, all printable"):
        chosen([text], {}, "a.tif")
