"""The study of features learned from the own images: named clusters, and the means of its table."""

from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.studies import own
from benchmarks.tables.labelled import Set


def view(clusters, classes):
    counts = np.zeros((len(clusters), 2), np.int64)
    counts[np.arange(len(classes)), classes] = 10
    return SimpleNamespace(clusters=np.array(clusters), counts=counts)


def test_clusters_are_named_by_the_labels_of_one_half_and_scored_on_the_other():
    train = [view([0, 0, 1, 1, 2], [0, 0, 1, 1, 1])]
    here = Set(train, [view([0, 1, 2], [0, 1, 1])], ["cell", "nucleus"], 3, None)
    assert own.of_clusters(here) == pytest.approx(1)
    here.test = [view([0, 0, 0, 0], [0, 0, 1, 1])]
    assert own.of_clusters(here) == pytest.approx((2 / 3 + 0) / 2)


def test_the_page_has_means_over_sets_and_deviations_over_draws():
    found = [
        ("a", data, part, draw, value + draw / 10)
        for data, value in (("hela", 0.4), ("vnc", 0.6))
        for part in ("3 labels", "32 clusters", "8 clusters")
        for draw in (0, 1)
    ]
    heads, _, line, *rest = own.page(found).splitlines()
    assert heads == "| features | 8 clusters | 32 clusters | 3 labels |"
    assert line.count("0.550 ± ") == 3 and "0.450 ± " in rest[-8] + rest[-1] + "".join(rest)


def test_every_row_is_a_valid_recipe():
    from benchmarks.harness import job

    for of in own.ROWS.values():
        features = of.replace("%s", "{name: contrast, steps: 2}")
        assert job("sccs_plus", "phantom", 0, "full", [f"features.of={features}"]).pipeline.features.parts
