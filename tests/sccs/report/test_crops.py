"""Galleries of clusters."""

import dataclasses

import numpy as np
import pytest

from sccs.report.crops import cluster_crops, cluster_grey
from sccs.system.colours import rgb
from tests.sccs.report.slices import small


def test_crops_show_a_cluster_outlined_and_none_of_an_empty_one(view):
    crops = cluster_crops([view, view], 1, "#ff0000", count=3, side=32)
    assert 1 <= len(crops) <= 3
    assert all(crop.picture.shape == (64, 64, 3) and crop.view is view for crop in crops)
    assert (crops[0].picture == rgb("#ff0000")).all(axis=2).any()
    assert cluster_crops([view], 3, "#ff0000") == []


def test_crops_come_from_all_slices(view):
    other = dataclasses.replace(view, z=7)
    crops = cluster_crops([view, other], 1, "#ff0000", count=4, side=32)
    assert {crop.view.z for crop in crops} == {0, 7}


def test_mean_grey_is_in_deviations_of_the_volume(view):
    flat = dataclasses.replace(view, image=np.full(view.image.shape, 255, np.uint8))
    assert cluster_grey([flat], 1) == pytest.approx(3.0)
    assert cluster_grey([flat], 3) is None


def test_crops_of_an_image_smaller_than_a_crop():
    crops = cluster_crops([small()], 2, "#ff0000", side=8)
    assert [crop.picture.shape for crop in crops] == [(16, 16, 3)]
