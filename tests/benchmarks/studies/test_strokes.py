"""Simulated strokes."""

import numpy as np

from benchmarks.studies.strokes import first_places, stroke, truth_of, wrong_places

TRUTH = np.ones((300, 300), np.uint8)
TRUTH[:, 100:200], TRUTH[:, 200:] = 2, 3


def test_a_stroke_paints_its_own_class_alone():
    painted = np.zeros_like(TRUTH)
    stroke(painted, TRUTH, 150, 95, 80, 0.0)
    assert set(np.unique(painted)) == {0, 1} and (painted > 0).sum() > 200 and not (painted[:, 100:] > 0).any()


def test_a_stroke_at_an_edge_stays_short():
    painted = np.zeros_like(TRUTH)
    stroke(painted, TRUTH, 2, 50, 80, np.pi / 2)
    stroke(painted, TRUTH, 150, 2, 80, 0.0)
    assert 0 < (painted > 0).sum() < 2 * 80 * 13


def test_strokes_fall_on_every_class_first_and_then_on_what_is_wrong():
    first = first_places(TRUTH, np.random.default_rng(0))
    assert sorted(int(TRUTH[y, x]) for y, x, _ in first) == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    seen = TRUTH.copy()
    seen[100:140, 20:60] = 2
    ((y, x, length),) = wrong_places(TRUTH, seen)
    assert abs(y - 120) < 3 and abs(x - 40) < 3 and 0 < length <= 80
    assert not wrong_places(TRUTH, TRUTH)


def test_the_envelope_counts_as_the_rest_of_the_cell():
    assert truth_of(np.array([[1, 2, 3, 4, 0]], np.uint8)).tolist() == [[2, 1, 2, 3, 0]]
