"""Pooling from the token grid equals pooling of the upsampled pixels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.base import FeatureMap, FeatureStack
from registry.spg.pooling import blocks, pool, upsample


def pooled_plainly(features: FeatureMap, regions: np.ndarray) -> np.ndarray:
    pixels = upsample(features).astype(np.float64)
    rows = [pixels[regions == r] for r in range(regions.max() + 1)]
    return np.stack([np.concatenate([row.mean(0), row.std(0)]) for row in rows])


@settings(max_examples=25)
@given(
    st.integers(1, 40), st.integers(1, 40), st.sampled_from([(5.0, 2.0), (4.0, 1.5), (1.0, 0.0)]), st.integers(0, 99)
)
def test_pool_equals_mean_and_population_std_of_upsampled_pixels(H, W, grid, seed):
    step, offset = grid
    rng = np.random.default_rng(seed)
    values = rng.normal(2, 1, (-(-H // int(step)), -(-W // int(step)), 3)).astype(np.float32)
    features = FeatureMap(values, step, offset, (H, W))
    regions = np.unique(rng.integers(0, 6, (H, W)), return_inverse=True)[1].reshape(H, W)
    assert np.allclose(pool(features, regions), pooled_plainly(features, regions), atol=2e-6)


def test_upsample_is_the_token_at_its_centre_and_linear_between():
    values = np.arange(4, dtype=np.float32).reshape(1, 4, 1)
    pixels = upsample(FeatureMap(values, 5.0, 2.0, (5, 20)))[2, :, 0]
    assert pixels[2] == 0 and pixels[7] == 1 and pixels[17] == 3
    assert np.allclose(pixels[2:18], np.linspace(0, 3, 16))
    assert pixels[0] == 0 and pixels[19] == 3  # clamped beyond the outer centres


def test_one_pixel_region_has_deviation_zero_not_nan():
    regions = np.zeros((10, 10), int)
    regions[4, 4] = 1
    features = FeatureMap(np.random.default_rng(0).normal(size=(2, 2, 3)).astype(np.float32), 5.0, 2.0, (10, 10))
    assert np.allclose(pool(features, regions)[1, 3:], 0, atol=1e-6)


def test_a_constant_offset_of_features_does_not_cost_precision():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(4, 4, 2)).astype(np.float32)
    regions = np.repeat(np.arange(4), 5)[:, None].repeat(20, 1)
    far = pool(FeatureMap(values + np.float32(1000), 5.0, 2.0, (20, 20)), regions)
    near = pool(FeatureMap(values, 5.0, 2.0, (20, 20)), regions)
    assert far[:, 2:] == pytest.approx(near[:, 2:], abs=2e-3)


def test_channels_may_be_planes_or_a_part_of_larger_ones():
    rng = np.random.default_rng(4)
    planes = rng.normal(size=(5, 24, 30)).astype(np.float32)
    regions = np.repeat(np.arange(4), 5)[:, None].repeat(20, 1)
    view = planes[:, 2:22, 7:27].transpose(1, 2, 0)
    found = pool(FeatureMap(view, 1.0, 0.0, (20, 20)), regions)
    assert np.array_equal(found, pool(FeatureMap(view.copy(order="C"), 1.0, 0.0, (20, 20)), regions))


def test_a_stack_is_pooled_map_by_map_and_says_where_one_ends():
    rng = np.random.default_rng(2)
    coarse = FeatureMap(rng.normal(size=(4, 4, 3)).astype(np.float32), 5.0, 2.0, (20, 20))
    fine = FeatureMap(rng.normal(size=(20, 20, 2)).astype(np.float32), 1.0, 0.0, (20, 20))
    stack, regions = FeatureStack((coarse, fine)), np.repeat(np.arange(4), 5)[:, None].repeat(20, 1)
    pooled = pool(stack, regions)
    assert stack.q == 5 and blocks(stack).tolist() == [6, 4] and blocks(coarse) is None
    assert np.array_equal(pooled[:, :6], pool(coarse, regions)) and np.array_equal(pooled[:, 6:], pool(fine, regions))
    assert np.array_equal(upsample(stack), np.concatenate([upsample(coarse), upsample(fine)], axis=2))
