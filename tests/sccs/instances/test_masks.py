"""Smoothing and bridging against loops that say what they do."""

import itertools

import numpy as np

from sccs.instances.masks import bridged, smoothed


def test_each_voxel_takes_the_majority_of_its_box():
    codes = np.random.default_rng(0).integers(0, 4, (5, 7, 6)).astype(np.uint8)
    found = smoothed(codes, (1, 2, 0))
    for z, y, x in np.ndindex(codes.shape):
        votes = np.bincount(codes[max(0, z - 1) : z + 2, max(0, y - 2) : y + 3, x].ravel(), minlength=4)
        best = np.flatnonzero(votes == votes.max())
        assert found[z, y, x] == (codes[z, y, x] if codes[z, y, x] in best else best[0])


def test_gaps_along_z_are_bridged_up_to_their_length():
    for column in itertools.product([False, True], repeat=7):
        mask = np.array(column)[:, None, None]
        text = "".join("x" if each else "." for each in column)
        inner = text.strip(".")
        for gap in (1, 2, 3):
            filled = inner
            for length in range(1, gap + 1):
                for _ in range(7):
                    filled = filled.replace("x" + "." * length + "x", "x" * (length + 2))
            right = text.replace(inner, filled) if inner else text
            assert "".join("x" if each else "." for each in bridged(mask, gap).ravel()) == right
