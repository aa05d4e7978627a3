"""Which superpixels `sccs suggest` asks about."""

from types import SimpleNamespace

import numpy as np

from sccs.inference.suggest import telling


def test_half_of_the_questions_after_teaching_are_in_doubt_and_half_are_not():
    coordinates = SimpleNamespace(deviation_=np.ones((1, 2)), u=2)
    points = np.random.default_rng(0).normal(size=(2000, 2))
    P = np.where(np.arange(2000)[:, None] < 100, [0.5, 0.5], [0.99, 0.01])
    asked = telling(coordinates, points, np.zeros(2000, int), P, 20, 0)
    assert len(np.unique(asked)) == 20 and (asked < 100).sum() in range(10, 15)
