"""The colour table: the paper's classes, no two names alike, clusters apart in grey, and blending."""

import itertools

import numpy as np
import pytest

from sccs.system.colours import FURTHER, PAPER, class_colours, cluster_colours, colourise, distance, luma, rgb


def test_classes_take_the_papers_colours_under_any_spelling():
    colours = class_colours(["Unrecognized", "nucleus", "Mitochondrion", "granules"])
    assert list(colours.values()) == [PAPER[n] for n in ("unrecognized", "nucleus", "mitochondria", "granules")]


def test_no_two_classes_share_a_colour():
    names = ["mitochondria", "mito", "background", "rest", "other", "membrane", "vessel", "nucleus", "glia", "synapse"]
    assert len(set(class_colours(names).values())) == len(names)


def test_a_persons_choice_comes_first_and_is_given_to_nobody_else():
    colours = class_colours(["nucleus", "granules"], {"granules": PAPER["nucleus"]})
    assert colours["granules"] == PAPER["nucleus"] != colours["nucleus"]


def test_distance_is_that_of_the_eyes_that_tell_worst():
    assert distance("#000000", "#ffffff") == pytest.approx(1, abs=1e-3) and distance("#27a35a", "#27a35a") == 0
    assert distance("#d55e00", "#27a35a") < 0.08  # red and green
    assert distance("#ffd000", "#0040ff") > 0.4  # yellow and blue


PAIR = distance(PAPER["mitochondria"], PAPER["unrecognized"])  # the closest of the paper's own


@pytest.mark.parametrize(
    "names",
    [
        ["unrecognized", "nucleus", "granules", "mitochondria"],
        ["nucleus", "mitochondria", "granules", "cytoplasm", "outside"],
        ["nuclear envelope", "nucleus", "cell", "background"],
        ["background", "cell", "mitochondrion", "alpha granule", "canalicular vessel", "dense granule", "dense core"],
        ["intracellular", "membrane", "glia", "mitochondria", "synapse"],
        ["class 1", "class 2", "class 3"],
    ],
)
def test_usual_classes_look_unlike_to_colour_blind_eyes_too(names):
    pairs = [distance(a, b) for a, b in itertools.combinations(class_colours(names).values(), 2)]
    assert min(pairs) >= PAIR
    assert sum(pair < 0.09 for pair in pairs) <= 1


def test_a_class_that_comes_later_stays_apart():
    """As in a table of classes that grows: what has a colour keeps it."""
    table: dict[str, str] = {}
    for name in ("cell", "membrane", "nucleus", "granules", "cytoplasm", "mitochondria"):
        table = class_colours([*table, name], table)
    assert table["nucleus"] == PAPER["nucleus"] and table["mitochondria"] == PAPER["mitochondria"]
    assert min(distance(a, b) for a, b in itertools.combinations(table.values(), 2)) >= 0.09


def test_a_colour_near_a_persons_choice_is_passed_over():
    for chosen in FURTHER:
        assert distance(class_colours(["mine", "cell"], {"mine": chosen})["cell"], chosen) > 0.1


def test_very_many_classes_still_have_colours_of_their_own():
    assert len(set(class_colours([f"class {i}" for i in range(254)]).values())) == 254


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
