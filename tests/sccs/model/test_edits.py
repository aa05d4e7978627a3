"""Splits and merges of clusters, node by node."""

import numpy as np
import pytest

from registry.base import UserError
from sccs.model.edits import Edits

Z = np.array([[0, 0], [0.1, 0], [9, 9], [9, 9.1], [5, 5]], np.float32)


def test_a_split_keeps_the_number_for_a_part_and_a_merge_takes_the_first():
    edits = Edits("m", 2).split(0, 2, Z[:4], seed=0)
    found = edits.apply(np.array([0, 0, 0, 0, 1], np.uint8), Z)
    assert edits.clusters == 3 and found[4] == 1
    assert found[0] == found[1] != found[2] == found[3] and {found[0], found[2]} == {0, 2}
    assert set(edits.merge([1, 2]).apply(np.array([0, 0, 0, 0, 1], np.uint8), Z).tolist()) == {0, 1}


def test_what_was_written_is_read(tmp_path):
    edits = Edits("m", 2).split(0, 2, Z[:4], seed=0).merge([1, 2])
    edits.write(tmp_path / "edits")
    again = Edits.read(tmp_path / "edits", 2)
    assert again.edits == edits.edits and np.array_equal(again.centroids[0], edits.centroids[0])
    with pytest.raises(UserError, match="does not fit the model"):
        Edits.read(tmp_path / "edits", 3)


def test_centroids_of_other_coordinates_are_told():
    edits = Edits("m", 2).split(0, 2, Z[:4], seed=0)
    with pytest.raises(UserError, match="centroids have 2 coordinates, nodes 3"):
        edits.apply(np.zeros(5, np.uint8), np.zeros((5, 3), np.float32))
