"""Panels of slices side by side."""

from sccs.report.drawing import to_rgb
from sccs.report.panels import overview_panel
from tests.sccs.report.slices import small


def test_an_identity_embedding_of_one_column_still_has_an_overview(view):
    figure = overview_panel([small(), view], 4, None, {})
    assert to_rgb(figure, dpi=40).ndim == 3
