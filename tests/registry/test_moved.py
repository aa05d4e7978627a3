"""Old module names go on working: plug-ins and exported models name them."""

import importlib
import subprocess
import sys

import pytest

from registry.moved import NAMES


@pytest.mark.parametrize("old", sorted(old for old in NAMES if old != "sccs.blocks"))
def test_an_old_name_is_the_new_module_and_says_so(old, monkeypatch):
    monkeypatch.delitem(sys.modules, old, raising=False)
    new = importlib.import_module(NAMES[old])
    with pytest.warns(DeprecationWarning, match=f"{old} is now {NAMES[old]}; the old name will be removed in version"):
        importlib.import_module(old)
    assert importlib.import_module(old) is new
    assert new.__name__ == new.__spec__.name == NAMES[old]


def test_a_module_that_was_parted_has_the_names_of_both(monkeypatch):
    monkeypatch.delitem(sys.modules, "sccs.blocks", raising=False)
    with pytest.warns(DeprecationWarning, match="now sccs.inference.blocks and sccs.data.pyramid"):
        old = importlib.import_module("sccs.blocks")
    parts = [importlib.import_module(name) for name in ("sccs.inference.blocks", "sccs.data.pyramid")]
    assert (old.make_plan, old.pyramid) == (parts[0].make_plan, parts[1].pyramid)
    assert [part.__name__ for part in parts] == ["sccs.inference.blocks", "sccs.data.pyramid"]


def test_an_old_name_of_sccs_needs_no_other_import_before():
    code = "import warnings; warnings.simplefilter('ignore'); from sccs.survey import survey"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_name_that_never_was_is_not_found():
    with pytest.raises(ModuleNotFoundError, match="registry.no_such"):
        importlib.import_module("registry.no_such")
