"""Which crops are drawn, of which part of a volume, and that a step draws the same again."""

import numpy as np
import pytest
import torch

from sccs.training.crops import Crops, Sampler, resize
from tests.sccs.training.tiny_pretraining import crops_of, sampler, volume


def test_crops_are_standardised_pieces_of_the_image():
    source = volume(shape=(3, 40, 50), image=np.arange(3 * 40 * 50, dtype=np.int32).reshape(3, 40, 50))
    crops = crops_of(source, axes="xy")
    for seed in range(10):
        crop = crops.train(crops.draw(np.random.default_rng(seed))) * 32 + 128
        assert crop.shape == (20, 20) and crop.dtype == np.float32
        steps = {int(abs(round(float(crop[1, 0] - crop[0, 0])))), int(abs(round(float(crop[0, 1] - crop[0, 0]))))}
        assert steps == {1, 50}  # neighbours along x and y, in some orientation


@pytest.mark.parametrize(
    "shape, voxel_size, axes, planes",
    [
        ((40, 40, 40), (8, 8, 8), "all", 3),
        ((40, 40, 40), None, "all", 3),
        ((40, 40, 40), (40, 10, 10), "all", 1),  # anisotropic
        ((40, 40, 40), (8, 8, 8), "xy", 1),
        ((10, 40, 40), (8, 8, 8), "all", 1),  # thinner than a window
    ],
)
def test_planes_through_z_need_thick_isotropic_volumes(shape, voxel_size, axes, planes):
    crops = crops_of(volume(shape, voxel_size), axes=axes)
    assert len(crops.planes) == planes
    assert all(crops.train(crops.draw(np.random.default_rng(i))).shape == (20, 20) for i in range(9))


def test_only_the_region_is_read_and_its_last_columns_are_held_out():
    image = np.full((4, 100, 200), 255, np.uint8)
    image[1:3, 10:70, 20:100], image[1:3, 10:70, 100:120] = 1, 2  # region: training part 1, held-out strip 2
    for limit in (2**30, 0):  # in memory and crop by crop
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sccs.training.crops.IN_MEMORY", limit)
            crops = Crops(volume((2, 60, 100), None, (1, 10, 20), image), 20, (0.5, 2.0), "all", 0.1)
        for seed in range(30):
            rng = np.random.default_rng(seed)
            np.testing.assert_allclose(crops.train(crops.draw(rng)) * 32 + 128, 1, atol=1e-3)
            np.testing.assert_allclose(crops.held(rng) * 32 + 128, 2, atol=1e-3)


def test_narrow_volumes_hold_nothing_out():
    assert crops_of(volume((1, 40, 79)), held_out=0.1).held_box is None
    assert crops_of(volume((1, 40, 80)), held_out=0.1).held_box == ((0, 0, 60), (1, 40, 20))


def test_scaled_crops_are_resized_to_the_window():
    crops = crops_of(volume((1, 30, 100)), scale=(0.5, 4.0))
    assert crops.sides == (10, 30)  # the short side limits them
    assert crops.train(crops.draw(np.random.default_rng(0))).shape == (20, 20)
    ramp = np.tile(np.arange(40, dtype=np.float32), (40, 1))
    np.testing.assert_allclose(resize(ramp, 20)[:, 2:-2], np.tile(np.arange(20) * 2 + 0.5, (20, 1))[:, 2:-2], atol=1e-3)


def test_a_step_draws_the_same_whenever_it_is_asked_for():
    one, two = sampler(), sampler()
    one.step(0)
    for a, b in zip(one.step(5), two.step(5)):
        assert torch.equal(a, b)
    assert not torch.equal(one.step(5)[0], one.step(6)[0])
    assert not torch.equal(one.step(5)[0], sampler(seed=1).step(5)[0])


def test_data_blocks_share_the_crops_equally():
    flat = [volume(image=np.full((1, 60, 100), value, np.uint8), name=str(value)) for value in (128, 128, 128, 160)]
    groups = [[crops_of(v) for v in flat[:3]], [crops_of(flat[3])]]
    images, _ = Sampler(groups, 16, 400, 0.0, 0).step(0)
    assert 0.4 < (images.mean((1, 2)) > 0.5).float().mean() < 0.6
