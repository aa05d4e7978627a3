"""The colour table: the paper's classes, no two names alike, clusters apart in grey, and blending."""

import itertools

import numpy as np
import pytest

from sccs.system.colours import PAPER, class_colours, cluster_colours, colourise, luma, rgb


def test_classes_take_the_papers_colours_under_any_spelling():
    colours = class_colours(["Unrecognized", "nucleus", "Mitochondrion", "granules"])
    assert list(colours.values()) == [PAPER[n] for n in ("unrecognized", "nucleus", "mitochondria", "granules")]


def test_no_two_classes_share_a_colour():
    names = ["mitochondria", "mito", "background", "rest", "other", "membrane", "vessel", "nucleus", "glia", "synapse"]
    assert len(set(class_colours(names).values())) == len(names)


def test_a_persons_choice_comes_first_and_is_given_to_nobody_else():
    colours = class_colours(["nucleus", "granules"], {"granules": PAPER["nucleus"]})
    assert colours["granules"] == PAPER["nucleus"] != colours["nucleus"]


@pytest.mark.parametrize("k", [1, 2, 3, 5, 8, 16])
def test_clusters_differ_in_grey(k):
    greys = sorted(luma(rgb(colour)) for colour in cluster_colours(k))
    assert len(greys) == k
    assert all(b - a > 9 for a, b in itertools.pairwise(greys))


def test_many_clusters_still_have_colours_of_their_own():
    assert len(set(cluster_colours(40))) == 40
    assert cluster_colours(0) == []


def test_colourise_blends_and_leaves_unknown_codes_bare():
    labels = np.array([[0, 1, 255]])
    image = np.array([[100, 100, 100]], np.uint8)
    out = colourise(labels, ["#000000", "#ffffff"], image, alpha=0.5)
    assert out.tolist() == [[[50, 50, 50], [178, 178, 178], [100, 100, 100]]]
    flat = colourise(labels, {1: "#ff0000"})
    assert flat.tolist() == [[[255, 255, 255], [255, 0, 0], [255, 255, 255]]]
    with pytest.raises(ValueError, match="must agree"):
        colourise(labels, ["#000000"], np.zeros((2, 3), np.uint8))
