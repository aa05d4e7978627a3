"""A class map and its image as files."""

import numpy as np
import pytest
import tifffile

from sccs.data.writers import write_labels
from tests.sccs.instances.maps import EDGES, blobs

NAMES = {0: "unrecognized", 1: "granules", 2: "nucleus", 255: "no class"}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The working folder: labels.tif with names and voxel size, plain.tif without, image.tif."""
    labels = blobs()
    write_labels(tmp_path / "labels.tif", labels, labels.shape, EDGES, names=NAMES)
    tifffile.imwrite(tmp_path / "plain.tif", labels, metadata={"axes": "ZYX"})
    tifffile.imwrite(tmp_path / "image.tif", np.arange(labels.size, dtype=np.uint16).reshape(labels.shape))
    monkeypatch.chdir(tmp_path)
    return tmp_path
