"""Degraded test images: each kind of noise is what it says, and read the same twice."""

import numpy as np
import pytest

from benchmarks import noise
from sccs.data.volumes import LabelCodes, Volume


@pytest.mark.parametrize(
    "kind, level", [("gaussian", 0.5), ("poisson", 0.5), ("salt_and_pepper", 0.1), ("blur", 2.0), ("contrast", 0.5)]
)
def test_degraded_images_are_what_they_say(kind, level):
    rng = np.random.default_rng(0)
    plane = (120 + 30 * rng.normal(size=(200, 200))).astype(np.float32)
    limits = tuple(np.quantile(plane, (0.001, 0.999)))
    worse = noise.degrade(plane, kind, level, np.random.default_rng(1), plane.mean(), plane.std(), limits)
    difference = worse - plane
    if kind in ("gaussian", "poisson"):
        assert abs(difference.mean()) < 1 and np.isclose(difference.std(), level * plane.std(), rtol=0.1)
    elif kind == "salt_and_pepper":
        changed = (difference != 0).mean()
        assert np.isclose(changed, level, atol=0.01) and set(np.unique(worse[difference != 0])) <= set(limits)
    elif kind == "blur":
        assert worse.std() < plane.std() / 4
    else:
        assert np.isclose(worse.std(), plane.std() * level, rtol=0.02)


def test_a_degraded_volume_is_standardised_anew_and_reads_the_same_twice():
    image = np.random.default_rng(0).integers(0, 255, (3, 100, 120)).astype(np.uint8)
    volume = Volume("a", image, labels=(image > 99).astype(np.uint8), codes=codes(), fov=100)
    worse = noise.degraded(volume, "gaussian", 1.0)
    first, second = (worse.read_slice(1) for _ in range(2))
    assert np.array_equal(first, second) and abs(first.mean()) < 0.05 and abs(first.std() - 1) < 0.05
    assert np.array_equal(worse.read_labels(1), volume.read_labels(1))
    assert not np.array_equal(worse.read_slice(0), worse.read_slice(2))


def codes():
    return LabelCodes({0: "dark", 1: "bright"})
