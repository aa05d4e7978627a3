"""Empty background: found where there is some, and nowhere else."""

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from sccs.data.survey import examine
from sccs.init.background import CELL, find_tissue, slices_apart


def tissue(depth=1, shape=(320, 400), seed=0):
    """(Z, Y, X) float: dark stain on a brighter ground, with structures of some pixels, and noise."""
    rng = np.random.default_rng(seed)
    texture = ndimage.gaussian_filter(rng.normal(size=(depth, *shape)), (0, 3, 3))
    return 110 + 30 * texture / texture.std() + rng.normal(0, 5, texture.shape)


def found(folder, image):
    tifffile.imwrite(folder / "image.tif", image.clip(0, 255).astype(np.uint8), photometric="minisblack")
    return examine(str(folder / "image.tif")).source.array


def with_background(image, where, seed=1):
    image[where] = 190 + np.random.default_rng(seed).normal(0, 5, image.shape)[where]
    return image


def test_resin_is_found_to_within_a_cell(tmp_path):
    y, x = np.ogrid[:320, :400]
    resin = ((y - 60) ** 2 + (x - 300) ** 2 < 110**2)[None]
    mask = find_tissue(found(tmp_path, with_background(tissue(), resin)))
    assert mask.shape == (1, 320, 400) and set(np.unique(mask)) == {0, 1}
    core = ndimage.binary_erosion(resin[0], iterations=3 * CELL)
    assert core.any() and not mask[0][core].any()
    assert mask[0][~ndimage.binary_dilation(resin[0], iterations=2 * CELL)].all()


def test_padding_is_background_whatever_its_grey(tmp_path):
    for grey in (0, 255):
        image = tissue()
        image[:, :, :100] = grey
        mask = find_tissue(found(tmp_path, image))
        assert not mask[:, :, :90].any() and mask[:, :, 120:].all()


@pytest.mark.parametrize("side", [0, 30])
def test_tissue_alone_or_with_small_bright_spots_needs_no_mask(tmp_path, side):
    spot = np.zeros((1, 320, 400), bool)
    spot[:, 100 : 100 + side, 100 : 100 + side] = True
    assert find_tissue(found(tmp_path, with_background(tissue(), spot))) is None


def test_an_even_nucleus_as_dark_as_cytoplasm_is_no_background(tmp_path):
    image = tissue()
    image[:, 60:220, 60:220] = 110 + np.random.default_rng(2).normal(0, 5, (1, 160, 160))
    assert find_tissue(found(tmp_path, image)) is None


def test_deep_volumes_are_looked_at_in_steps_that_a_mask_can_have(tmp_path):
    depth = 7
    resin = np.zeros((depth, 320, 400), bool)
    resin[:4, :, :200] = True
    volume = found(tmp_path, with_background(tissue(depth), resin))
    mask = find_tissue(volume, most=2 * 320 * 400)
    assert len(mask) == 2 and mask[0].mean() < 0.6 and mask[1].all()
    assert find_tissue(volume, most=320 * 400 - 1) is None  # a slice is too large


@pytest.mark.parametrize("most", [1, 3, 64])
def test_steps_are_read_back_as_factors(most):
    for Z in range(1, 400):
        step = slices_apart(Z, most)
        count = -(-Z // step)
        assert count <= most and round(Z / count) == step and abs(Z - count * step) < step
