"""Galleries of clusters."""

import dataclasses

import numpy as np
import pytest

from sccs.report.crops import cluster_crops, cluster_grey, most_alike, thumbnails
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


def test_the_cluster_that_looks_most_like_another(view):
    means = np.array([[0.0, 0], [1, 0], [9, 0], [7, 0]])
    noise = np.random.default_rng(0).normal(0, 0.1, (len(view.clusters), 2))
    clusters = np.arange(len(view.clusters)) % 4
    seen = dataclasses.replace(view, clusters=clusters, bases=means[clusters] + noise, columns=np.array([2, 5]))
    assert most_alike([seen, seen], 5) == [1, 0, 3, 2, None]
    other = dataclasses.replace(seen, bases=seen.bases[:, ::-1] + [5, 0], columns=np.array([1, 2]))
    assert most_alike([seen, other], 5) == [1, 0, 3, 2, None]
    assert most_alike([], 2) == [None, None]


def test_thumbnails_are_what_is_around_superpixels(view):
    shown = thumbnails(view, [0, 44], side=16)  # regions are squares of 8 px, 14 in a row
    assert shown.shape == (2, 16, 16, 3)
    assert (shown[1] == view.image[19:35, 11:27, None]).all()
    assert (shown[0, 5:, 5:, 0] == view.image[:11, :11]).all() and (shown[0, :5] == shown[0, 5]).all()
    assert thumbnails(view, []).shape == (0, 32, 32, 3)
