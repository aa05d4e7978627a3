"""A folder with volumes and a recipe; a finished run."""

from pathlib import Path

import pytest
import tifffile
import yaml

from sccs.run import main
from sccs.system.exits import guard
from tests.sccs.run.small import SMALL, volume


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two labelled volumes a.tif and b.tif, and recipe.yaml that trains on a and tests on b."""
    for name, seed in (("a", 0), ("b", 1)):
        image, labels = volume(seed)
        tifffile.imwrite(tmp_path / f"{name}.tif", image)
        tifffile.imwrite(tmp_path / f"{name}_labels.tif", labels)
    data = {"name": "volumes", "classes": {0: "dark", 1: "grey", 2: "bright"}}
    for part, name in (("train", "a"), ("test", "b")):
        data[part] = [{"image": f"{name}.tif", "labels": f"{name}_labels.tif", "voxel_size": [16, 8, 8]}]
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({**SMALL, "data": data}))
    return tmp_path


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A finished run; tests that change it take a copy."""
    base = tmp_path_factory.mktemp("finished")
    made = folder.__wrapped__(base)
    assert guard(main)([str(made / "recipe.yaml"), "--out", str(base / "run")]) == 0
    return base / "run"
