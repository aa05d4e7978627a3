"""Pictures of a slice."""

import numpy as np
import pytest

from sccs.report.crops import cluster_place
from sccs.report.overlays import (
    as_scored,
    basis_map,
    basis_mosaic,
    class_overlay,
    cluster_overlay,
    error_map,
    outlines,
    superpixel_overlay,
    unsynchronised_overlay,
)
from sccs.system.colours import WRONG, class_colours, rgb
from tests.sccs.report.slices import NAMES, small


def test_outlines_are_one_pixel_thin():
    regions = np.repeat([[0, 0, 1, 1]], 3, axis=0)
    assert outlines(regions).tolist() == [[False, True, False, False]] * 3


def test_error_map_shows_wrong_pixels_in_the_colour_of_their_true_class():
    view, colours = small(), class_colours(NAMES)
    truth = view.truth_image(NAMES)
    predicted = np.array([[1, 1, 2], [0, 0, 2]])
    out = error_map(view, truth, predicted, colours)
    assert tuple(out[0, 0]) == rgb(WRONG)  # false alarm: truly unrecognized
    assert tuple(out[0, 2]) == rgb(colours["nucleus"])
    assert tuple(out[1, 1]) == (255, 255, 255)  # not scored
    right = out[[0, 1, 1], [1, 0, 2]]
    assert (right == right[0]).all() and right[0].min() > 150


def test_what_no_label_can_confirm_counts_as_the_rest():
    predicted = np.array([[-1, 0, 1, 2, 3]])  # 3: a name that a person added
    assert as_scored(predicted, NAMES).tolist() == [[0, 0, 1, 2, 0]]
    assert as_scored(predicted, ["nucleus", "granules", "mitochondria"]).tolist() == predicted.tolist()


@pytest.mark.parametrize("values", [[0.0, 1.0], [2.0, 2.0], [np.nan, 1.0]])
def test_basis_map_copes_with_constant_and_undefined_bases(values):
    out = basis_map(small(bases=np.array(values)[:, None]), 0)
    assert out.shape == (2, 3, 3) and out.dtype == np.uint8


def test_basis_map_runs_from_blue_to_red(view):
    out = basis_map(view, 4, alpha=1.0).astype(int)
    nucleus, rest = out[40, 36], out[90, 8]
    assert rest[2] > rest[0]  # low: blue
    granule = out[60, 86]
    assert granule[0] > granule[2]  # high: red
    assert not np.array_equal(nucleus, rest)


def test_basis_mosaic_shows_at_most_twelve(view):
    n = len(view.clusters)
    out = basis_mosaic(np.random.default_rng(0).normal(size=(n, 30)), view.regions)
    assert out.shape == (3 * 96, 4 * 112, 3)
    assert basis_mosaic(np.zeros((n, 1)), view.regions).shape == (96, 4 * 112, 3)
    large = view.regions.repeat(20, 0).repeat(20, 1)  # 1920 x 2240
    assert basis_mosaic(np.zeros((n, 1)), large).shape == (480, 4 * 560, 3)


def test_overlays_have_the_image_shape(view):
    colours = class_colours(NAMES)
    for out in (
        superpixel_overlay(view),
        cluster_overlay(view, 4),
        unsynchronised_overlay(view),
        class_overlay(view, view.truth_image(NAMES), colours),
        cluster_place(view, 1, "#ff0000"),
    ):
        assert out.shape == (96, 112, 3) and out.dtype == np.uint8
    assert superpixel_overlay(small()).shape == (2, 3, 3)
    assert unsynchronised_overlay(small()) is None
