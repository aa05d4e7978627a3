"""A run, an image with its labels, and a pyramid."""

from pathlib import Path

import numpy as np
import pytest

from sccs.data.volumes import Dataset, Volume
from sccs.inference.segment import segment
from sccs.pipeline import Pipeline
from tests.sccs.inference.spots import image, read, save, save_pyramid
from tests.sccs.quickest import RECIPE


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> str:
    """A run folder whose fields of view have 160 px, trained at 16 x 8 x 8 nm."""
    folder = tmp_path_factory.mktemp("segment") / "run"
    model = Pipeline.from_recipe(RECIPE)
    model.fit(Dataset("spots", [Volume("a", image(0)[:1], fov=160, voxel_size=(16, 8, 8))], [], {}))
    model.save(folder / "model")
    return str(folder)


@pytest.fixture(scope="module")
def scene(tmp_path_factory, run) -> tuple[str, np.ndarray]:
    """An image file and its labels."""
    folder = tmp_path_factory.mktemp("scene")
    save(folder / "a.tif", image(1))
    segment(run, str(folder / "a.tif"), str(folder / "a.ome.zarr"))
    return str(folder / "a.tif"), read(folder / "a.ome.zarr")


@pytest.fixture(scope="module")
def pyramid(tmp_path_factory) -> Path:
    return save_pyramid(tmp_path_factory.mktemp("pyramid") / "a.ome.zarr", (2, 120, 1100))
