"""Old module names go on working: plug-ins and exported models name them."""

import importlib
import sys

import pytest

from registry.moved import NAMES


@pytest.mark.parametrize("old", sorted(NAMES))
def test_an_old_name_is_the_new_module_and_says_so(old, monkeypatch):
    monkeypatch.delitem(sys.modules, old, raising=False)
    new = importlib.import_module(NAMES[old])
    with pytest.warns(DeprecationWarning, match=f"{old} is now {NAMES[old]}; the old name will be removed in version"):
        importlib.import_module(old)
    assert importlib.import_module(old) is new
    assert new.__name__ == new.__spec__.name == NAMES[old]


def test_a_name_that_never_was_is_not_found():
    with pytest.raises(ModuleNotFoundError, match="registry.no_such"):
        importlib.import_module("registry.no_such")
