"""Labels of one model in processes that compute differently."""

import numpy as np
import pytest

from benchmarks.studies import processors
from sccs.pipeline import Pipeline


def test_the_share_is_of_all_pixels_of_all_planes():
    one = [np.zeros((2, 3), np.uint8), np.zeros((4, 1), np.uint8)]
    other = [np.array([[0, 1, 0], [0, 0, 2]], np.uint8), np.zeros((4, 1), np.uint8)]
    assert processors.changed_share(one, one) == 0
    assert processors.changed_share(one, other) == pytest.approx(0.2)
    with pytest.raises(ValueError):
        processors.changed_share(one, other[:1])


@pytest.mark.parametrize("system, of", [("sccs_fast", [""]), ("sccs_plus", ["bfloat16"]), ("filters_kmeans", [])])
def test_precision_reaches_the_parts_that_have_one(system, of):
    pipeline = Pipeline.from_recipe(system)
    processors.set_precision(pipeline, "bfloat16")
    found = [part.precision for part in (pipeline.features, *pipeline.features.parts) if hasattr(part, "precision")]
    assert found == ["bfloat16"] * len(of)
