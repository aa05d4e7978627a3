"""Images of spots, a run that was trained on one, and how they are written and read."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from sccs.data.readers import open_image
from sccs.inference import block_job

zarr = pytest.importorskip("zarr")


SHAPE = (3, 244, 254)


def image(seed: int, shape=SHAPE) -> np.ndarray:
    """Spots of three greys, with noise."""
    rng = np.random.default_rng(seed)
    z, y, x = np.ogrid[: shape[0], : shape[1], : shape[2]]
    kinds = np.digitize(np.sin(x / 9 + seed) + np.sin(y / 11 + z), [-0.5, 0.7])
    return (60 + 60 * kinds + rng.normal(0, 8, shape)).clip(0, 255).astype(np.uint8)


def save(path, array: np.ndarray) -> None:
    tifffile.imwrite(path, array, photometric="minisblack")


def read(path) -> np.ndarray:
    return open_image(path).array[:]


REAL = block_job.label_fovs


class Counted:
    """Counts FOVs that are segmented; from `last` on it raises."""

    def __init__(self, last: float = float("inf")):
        self.count, self.last = 0, last

    def __call__(self, *args):
        for found in REAL(*args):
            if self.count >= self.last:
                raise KeyboardInterrupt
            self.count += 1
            yield found


def save_pyramid(path: Path, shape: tuple[int, int, int]) -> Path:
    """OME-Zarr of two levels, 16 x 4 x 4 and 16 x 8 x 8 nm, whose first voxel is not at the origin."""
    group = zarr.create_group(path, zarr_format=3)
    levels = []
    for number, step in enumerate((1, 2)):
        group.create_array(str(number), data=image(1, shape)[:, ::step, ::step])
        levels.append(
            {
                "path": str(number),
                "coordinateTransformations": [
                    {"type": "scale", "scale": [0.016, 0.004 * step, 0.004 * step]},
                    {"type": "translation", "translation": [1.0, 2.0, 3.0]},
                ],
            }
        )
    axes = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "zyx"]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": levels}]}
    return path


PLANES = (176, 12, 250)  # xz planes have two by two FOVs of at most 160 px, yz planes one by two
