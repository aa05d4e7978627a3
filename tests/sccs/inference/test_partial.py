"""Resumed work: the setting that differs is named."""

import pytest

from registry.base import UserError
from sccs.inference.partial import check_same

BEFORE = {"halo": 40, "wishes": {"split": None, "classes": {"mito": 2}}}


@pytest.mark.parametrize(
    ("now", "said"),
    [
        ({"halo": 80, "wishes": BEFORE["wishes"]}, "--resume: halo is 80, but .* started with 40;"),
        ({"halo": 40, "wishes": {"split": 10.0, "classes": {"mito": 2}}}, "--resume: split is 10.0, .* with None;"),
        ({"halo": 40, "wishes": {"split": None, "classes": {"mito": 3}}}, "--resume: classes.mito is 3, .* with 2;"),
        ({"halo": 40, "wishes": {"split": None, "classes": {}}}, "--resume: classes is {}, "),
    ],
)
def test_the_setting_that_differs_is_named(now, said):
    check_same(BEFORE, BEFORE)
    with pytest.raises(UserError, match=said):
        check_same(BEFORE, now)
