"""A slice of two superpixels."""

import numpy as np

from sccs.report.views import SliceView

NAMES = ["unrecognized", "nucleus", "granules"]


def small(**changes):
    """2 x 3 px, two superpixels and one pixel without."""
    values = dict(
        volume="a",
        z=1,
        split="test",
        image=np.full((2, 3), 100, np.uint8),
        labels=np.array([[0, 1, 1], [0, 9, 2]]),
        regions=np.array([[0, 0, 1], [0, 1, -1]], np.int32),
        bases=np.array([[0.0], [1.0]]),
        clusters=np.array([2, 0]),
        ignore=9,
        classes={0: "unrecognized", 1: "nucleus", 2: "granules"},
    )
    return SliceView(**{**values, **changes})
