"""A slice as it is kept."""

import dataclasses

import numpy as np
import pytest

from sccs.report.views import SHOWN_BASES, SliceView
from tests.sccs.report.slices import NAMES, small


@pytest.mark.parametrize("labelled", [True, False])
def test_a_view_comes_back_as_it_was_saved(tmp_path, view, labelled):
    if not labelled:
        view.labels = view.kmeans_raw = view.ignore = None
    path = view.save(tmp_path / "data")
    assert path.name == "cell_z0000.npz" and path.stat().st_size < 60_000
    again = SliceView.load(path)
    for field in dataclasses.fields(SliceView):
        before, after = getattr(view, field.name), getattr(again, field.name)
        if isinstance(before, np.ndarray):
            np.testing.assert_array_equal(before, after)
        else:
            assert before == after, field.name


def test_of_many_bases_those_of_highest_variance_are_kept():
    rng = np.random.default_rng(0)
    scale = np.ones(40)
    scale[5::3] = 10
    bases = rng.normal(size=(300, 40)) * scale
    view = small(
        regions=np.arange(300).reshape(15, 20),
        image=np.zeros((15, 20), np.uint8),
        labels=None,
        bases=bases,
        clusters=np.zeros(300, int),
    )
    assert view.u == 40
    assert view.columns.tolist() == list(range(5, 40, 3))[:SHOWN_BASES]
    np.testing.assert_allclose(view.bases, bases[:, 5::3], rtol=1e-5)


def test_a_view_refuses_arrays_that_do_not_belong_together():
    with pytest.raises(ValueError, match="share one shape"):
        small(labels=np.zeros((3, 3)))
    with pytest.raises(ValueError, match="number of superpixels"):
        small(clusters=np.array([0]))


def test_superpixels_become_pixels():
    view = small()
    assert view.cluster_image().tolist() == [[2, 2, 0], [2, 0, -1]]
    assert view.class_image(["nucleus", "granules", None], NAMES).tolist() == [[-1, -1, 1], [-1, 1, -1]]
    assert view.truth_image(NAMES).tolist() == [[0, 1, 1], [0, -1, 2]]
    assert small(labels=None).truth_image(NAMES) is None
