"""docs/reliability.md: every test that it names is there."""

import re
from pathlib import Path

import pytest

import sccs

ROOT = Path(sccs.__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="needs the checkout, not an installed copy")


def test_every_promise_names_tests_that_are_there():
    rows = re.findall(r"^\| (.+) \| (.+) \|$", (ROOT / "docs" / "reliability.md").read_text(), re.MULTILINE)
    promises = [(what, keeps) for what, keeps in rows if keeps != "checked by"]
    assert len(promises) > 20
    for what, keeps in promises:
        paths = re.findall(r"`((?:tests|benchmarks)/[^`]*)`", keeps)
        assert paths and all((ROOT / path).exists() for path in paths), what
        for test, path in re.findall(r"`(test_\w+)` in `([^`]*)`", keeps):
            assert f"def {test}(" in (ROOT / path).read_text(), (what, test)
