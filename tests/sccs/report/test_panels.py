"""Panels of slices side by side."""

import numpy as np
from PIL import Image

from sccs.report.drawing import save_png
from sccs.report.panels import overview_panel
from tests.sccs.report.slices import small


def test_an_identity_embedding_of_one_column_still_has_an_overview(tmp_path, view):
    figure = overview_panel([small(), view], 4, None, {})
    with Image.open(save_png(figure, tmp_path / "overview.png", dpi=40)) as image:
        assert np.asarray(image.convert("RGB")).ndim == 3
