"""Training images of the studies: halves divide places."""

import numpy as np
import pytest

from benchmarks.studies.views import View, Views, halves
from registry.base import UserError


def test_halves_divide_places_and_not_slices_of_one_place():
    def view(volume, z, x):
        return View(None, None, np.array([[z]]), (volume, 0, x))

    found = Views(["a"], [view(v, z, x) for v in "uv" for z in range(3) for x in (0, 480)], 2)
    parts = halves(found)
    assert len(parts) == 6  # of four places, two at a time
    for part in parts:
        first, second = ({view.place for view in views} for views in (part.views[: part.seen], part.views[part.seen :]))
        assert len(first) == len(second) == 2 and not first & second and part.seen == 6 and len(part.views) == 12
    assert len({tuple(view.place for view in part.views) for part in parts}) == 6
    with pytest.raises(UserError, match="--halves: .* cannot be divided"):
        halves(Views(["a"], [view("u", 0, 0), view("u", 1, 0)], 1))
