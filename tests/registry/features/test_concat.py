"""Several features parts as one: what it hands on, and what it refuses."""

import numpy as np
import pytest

from registry.base import CONTEXT, UserError
from registry.features.concat import Concat
from registry.features.filters import Filters
from registry.features.intensity import Intensity
from registry.features.maester import Maester
from registry.features.segmenter import Segmenter


@pytest.fixture
def image():
    return np.random.default_rng(0).normal(size=(80, 90)).astype(np.float32)


def test_maps_are_those_of_the_parts_in_order(image):
    stack = Concat(of=[{"name": "filters", "sigmas": [2.0]}, "intensity"]).extract(image)
    assert np.array_equal(stack.maps[0].values, Filters(sigmas=[2.0]).extract(image).values)
    assert np.array_equal(stack.maps[1].values, Intensity().extract(image).values)
    assert stack.q == 6 and stack.shape == image.shape


def test_fields_of_view_overlap_by_what_the_part_that_needs_most_asks_for():
    assert Concat(of=["student", "filters"]).context == Filters().context == CONTEXT
    assert Concat(of=["mae", "filters"]).context == Maester().context == Segmenter().context == 40  # half a window


def test_seed_and_device_of_the_run_reach_the_parts():
    part = Concat(of=["vae", "filters"])
    assert part.seed is None
    part.seed, part.device = 5, "cuda:1"
    assert part.parts[0].seed == 5 and part.parts[0].device == "cuda:1"
    own = Concat(of=[{"name": "vae", "seed": 3}, "filters"])
    own.seed = 5
    assert own.parts[0].seed == 3


def test_the_longest_window_of_the_parts_decides_how_small_an_image_may_be():
    assert Concat(of=["mae", "filters"]).window == 80
    assert Concat(of=["intensity", "filters"]).window == 1


@pytest.mark.parametrize(
    "of, said",
    [
        (["filters"], "needs two or more"),
        (["filters", "filter"], r"features.of\[1\]: unknown features 'filter'; did you mean 'filters'"),
        (["filters", 3], r"features.of\[1\]: 3 is not a part"),
        (["intensity", {"name": "filters", "sigma": 2}], r"features.of\[1\].sigma: .*filters takes sigmas"),
        (["intensity", {"name": "filters", "sigmas": []}], r"features.of\[1\]: .*one scale or more"),
        (["filters", "segmenter"], "segmenter needs labels"),
    ],
)
def test_what_cannot_be_put_together_is_said_in_one_line(of, said):
    with pytest.raises(UserError, match=said) as error:
        Concat(of=of)
    assert "\n" not in str(error.value)
