"""The embedded data set: seeded, exactly labelled, coherent in 3-D, and imaged without saturation."""

import numpy as np
import pytest

from registry.base import UserError
from sccs.data.phantom import CLASSES, GRANULES, IGNORE, MITOCHONDRIA, NUCLEUS, make_phantom


@pytest.fixture(scope="module")
def cells():
    """A whole cell in a thin slab and a part of a cell in a cube."""
    return make_phantom(0, shapes=((8, 560, 560), (64, 64, 64)))


def test_same_seed_gives_the_same_voxels_whatever_the_other_volumes_are():
    a, b = make_phantom(3, shapes=((4, 96, 96), (6, 100, 90)))
    c, d = make_phantom(3, shapes=((5, 80, 80), (6, 100, 90)))
    assert np.array_equal(b.image, d.image) and np.array_equal(b.labels, d.labels)
    assert a.image.shape != c.image.shape
    assert np.array_equal(a.image, make_phantom(3, shapes=((4, 96, 96),))[0].image)


def test_another_seed_and_another_volume_differ():
    a, b = make_phantom(0, shapes=((4, 96, 96),) * 2)
    c = make_phantom(1, shapes=((4, 96, 96),))[0]
    assert not np.array_equal(a.image, b.image) and not np.array_equal(a.image, c.image)
    assert abs(float(a.image.mean()) - float(b.image.mean())) > 1  # another stain, not only other noise


def test_names_types_and_voxel_size():
    volumes = make_phantom(0, shapes=((4, 64, 72),) * 4, voxel_nm=8)
    assert [v.name for v in volumes] == ["phantom_c1", "phantom_c2", "phantom_c3", "phantom_c4"]
    for v in volumes:
        assert v.image.shape == v.labels.shape == (4, 64, 72)
        assert v.image.dtype == v.labels.dtype == np.uint8
        assert v.voxel_size == (8.0, 8.0, 8.0)


def test_areas_of_the_cell_are_those_of_real_cells():
    shares = []
    for seed in range(3):
        for volume in make_phantom(seed, shapes=((4, 560, 560),) * 2):
            inside = volume.labels[volume.labels != IGNORE]
            assert 0.55 < inside.size / volume.labels.size < 0.9
            shares.append([np.mean(inside == code) for code in CLASSES])
            assert min(shares[-1]) > 0.07
    share = dict(zip(CLASSES, np.mean(shares, 0)))
    assert abs(share[GRANULES] - 0.18) < 0.02
    assert abs(share[MITOCHONDRIA] - 0.12) < 0.015
    assert abs(share[NUCLEUS] - 0.13) < 0.03
    assert abs(share[0] - 0.57) < 0.03


def test_a_thick_volume_is_as_full_of_granules_as_a_slab():
    (volume,) = make_phantom(0, shapes=((16, 500, 500),))
    assert abs(np.mean(volume.labels[volume.labels != IGNORE] == GRANULES) - 0.18) < 0.02


@pytest.mark.parametrize("side", (160, 240, 320))
def test_the_small_volumes_of_recipes_show_nucleus_and_cytoplasm(side):
    for volume in make_phantom(0, shapes=((4, side, side),) * 2):
        assert {*CLASSES} <= set(np.unique(volume.labels))
        assert 0.15 < np.mean(volume.labels == NUCLEUS) < 0.6


def test_a_part_of_a_cell_shows_nucleus_and_cytoplasm(cells):
    inside = cells[1].labels[cells[1].labels != IGNORE]
    assert 0.1 < np.mean(inside == NUCLEUS) < 0.9
    assert {0, NUCLEUS, GRANULES} <= set(np.unique(inside))


@pytest.mark.parametrize("axis", range(3))
def test_structures_go_on_from_slice_to_slice_along_every_axis(cells, axis):
    labels = np.moveaxis(cells[1].labels, axis, 0)
    for code in (NUCLEUS, GRANULES):
        here, there = labels[:-1] == code, labels[1:] == code
        assert (here & there).sum() / (here | there).sum() > 0.75


def test_the_image_is_coherent_in_depth_beyond_its_noise(cells):
    image = cells[0].image.astype(float)
    image -= image.mean(axis=(1, 2), keepdims=True)
    near = np.mean(image[:-1] * image[1:]) / np.mean(image**2)
    far = np.mean(image[:1] * image[-1:]) / np.mean(image**2)
    assert near > 0.4 and near > far


def test_the_image_is_neither_saturated_nor_flat(cells):
    for v in cells:
        assert np.mean((v.image == 0) | (v.image == 255)) < 1e-3
        assert 90 < v.image.mean() < 165 and 15 < v.image.std() < 45


def test_no_range_of_grey_values_is_the_nucleus(cells):
    image, labels = cells[0].image, cells[0].labels
    nucleus = np.bincount(image[labels == NUCLEUS], minlength=256)
    others = np.bincount(image[(labels != NUCLEUS) & (labels != IGNORE)], minlength=256)
    hits, misses = (np.r_[0, np.cumsum(each)] for each in (nucleus, others))
    taken, wrong = hits[None] - hits[:, None], misses[None] - misses[:, None]  # by range [i, j)
    dice = 2 * taken / np.maximum(nucleus.sum() + taken + wrong, 1)
    assert 0.25 < dice[np.triu_indices(257)].max() < 0.6


def test_euchromatin_is_even_and_cytoplasm_is_not(cells):
    image, labels = cells[0].image[4].astype(float), cells[0].labels[4]
    means = image.reshape(56, 10, 56, 10).mean((1, 3))
    whole = labels.reshape(56, 10, 56, 10).swapaxes(1, 2).reshape(56, 56, -1)
    nucleus, rest = (means[(whole == code).all(-1)] for code in (NUCLEUS, 0))
    assert len(nucleus) > 100 and len(rest) > 100
    assert nucleus.std() < 0.7 * rest.std()


@pytest.mark.parametrize("shape", [(4, 4, 4), (4, 96, 96), (40, 8, 30)])
def test_tiny_volumes_work(shape):
    (volume,) = make_phantom(0, shapes=(shape,))
    assert volume.image.shape == shape


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"shapes": ((24, 560),)}, "shape"),
        ({"shapes": ((3, 64, 64),)}, "at least 4 px"),
        ({"seed": -1}, "seed"),
        ({"voxel_nm": 0.0}, "voxel_nm"),
    ],
)
def test_bad_arguments_are_said_in_one_line(arguments, message):
    with pytest.raises(UserError, match=message):
        make_phantom(**arguments)
