"""Classical filters: what each response says of flat, straight, striped and blob-like images, and where it says so."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.ndimage import gaussian_filter

from registry.base import UserError
from registry.features.filters import Filters

SMOOTHED, GRADIENT, BLOB, DEVIATION, COHERENCE = range(5)  # of the five channels of a scale


def responses(image, sigma=2.0) -> np.ndarray:
    """(H, W, 5) of one scale."""
    return Filters(sigmas=[sigma]).extract(np.asarray(image, np.float32)).values


def grid(side=96):
    return np.mgrid[:side, :side].astype(np.float32)


def noise(shape=(64, 80), seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


# ----------------------------------------------------------------------------------------------------------- layout
def test_five_channels_for_each_scale_in_the_order_of_the_scales():
    features = Filters().extract(noise())
    assert features.values.shape == (64, 80, 25) and features.values.dtype == np.float32
    assert (features.step, features.offset, features.shape) == (1.0, 0.0, (64, 80))
    several = Filters(sigmas=[4.0, 1.0]).extract(noise()).values
    assert np.array_equal(several[..., :5], responses(noise(), 4.0))
    assert np.array_equal(several[..., 5:], responses(noise(), 1.0))


def test_the_number_of_threads_changes_nothing(monkeypatch):
    found = []
    for threads in (1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
        found.append(Filters().extract(noise()).values)
    assert np.array_equal(*found)


def test_a_response_belongs_to_its_pixel():
    image = np.zeros((61, 75), np.float32)
    image[23, 40] = 1
    for sigma in (1.0, 2.0, 4.0):
        values = responses(image, sigma)
        for channel, sign in ((SMOOTHED, 1), (BLOB, -1), (DEVIATION, 1)):
            assert np.unravel_index((sign * values[..., channel]).argmax(), image.shape) == (23, 40)


@pytest.mark.parametrize("turned", [lambda x: x[::-1], lambda x: x[:, ::-1], lambda x: np.swapaxes(x, 0, 1)])
def test_turning_the_image_turns_the_responses(turned):
    image = noise()
    np.testing.assert_allclose(responses(turned(image)), turned(responses(image)), atol=1e-4)


# ----------------------------------------------------------------------------------------------------- known answers
def test_a_flat_image_shows_its_grey_value_and_nothing_else():
    values = responses(np.full((40, 50), 0.75), 8.0)
    np.testing.assert_allclose(values[..., SMOOTHED], 0.75, atol=1e-5)
    np.testing.assert_allclose(values[..., [GRADIENT, BLOB, COHERENCE]], 0, atol=1e-4)
    np.testing.assert_allclose(values[..., DEVIATION], 0, atol=2e-3)  # the root of rounding errors


def test_smoothing_is_gaussian():
    image = np.zeros((41, 41), np.float32)
    image[20, 20] = 1
    y, x = np.mgrid[-20:21, -20:21]
    expected = np.exp(-(y**2 + x**2) / (2 * 3.0**2)) / (2 * np.pi * 3.0**2)
    np.testing.assert_allclose(responses(image, 3.0)[..., SMOOTHED], expected, atol=2e-5)


@pytest.mark.parametrize("shape", [(64, 80), (1, 33), (5, 2)])
@pytest.mark.parametrize("sigma", [1.0, 3.5])
def test_responses_are_those_of_scipy_to_the_bit(sigma, shape):
    image = noise(shape)
    mean, square = gaussian_filter(image, sigma), gaussian_filter(image * image, sigma)
    dy, dx = (ndimage.sobel(mean, axis) * np.float32(sigma / 8) for axis in (0, 1))
    yy, xx, yx = (gaussian_filter(product, sigma) for product in (dy * dy, dx * dx, dy * dx))
    expected = {
        SMOOTHED: mean,
        GRADIENT: np.hypot(dy.astype(float), dx.astype(float)).astype(np.float32),
        BLOB: ndimage.laplace(mean) * np.float32(sigma**2),
        DEVIATION: np.sqrt(np.maximum(square - mean * mean, 0)),
        COHERENCE: np.sqrt((yy - xx) * (yy - xx) + 4 * yx * yx) / (yy + xx + np.float32(1e-6)),
    }
    found = responses(image, sigma)
    for channel, values in expected.items():
        assert np.array_equal(found[..., channel], values), channel


@pytest.mark.parametrize("sigma", [1.0, 2.0, 4.0])
def test_a_ramp_has_the_gradient_of_its_slope_in_units_of_the_scale(sigma):
    y, x = grid()
    values = responses(0.03 * y + 0.04 * x, sigma)[30:-30, 30:-30]
    np.testing.assert_allclose(values[..., GRADIENT], 0.05 * sigma, rtol=1e-3)
    np.testing.assert_allclose(values[..., BLOB], 0, atol=1e-3)
    np.testing.assert_allclose(values[..., COHERENCE], 1, atol=1e-2)  # a single direction


def test_a_blob_answers_most_at_the_scale_of_its_size():
    """The scale-normalised Laplacian of a bright disk of radius r is most negative at sigma = r / sqrt(2)."""
    y, x = grid(160)
    for sigma in (2.0, 4.0, 8.0):
        disk = ((y - 80) ** 2 + (x - 80) ** 2 <= 2 * sigma**2).astype(np.float32)
        centre = Filters().extract(disk).values[80, 80].reshape(5, 5)[:, BLOB]  # at sigma 1, 2, 4, 8, 16
        assert [1.0, 2.0, 4.0, 8.0, 16.0][centre.argmin()] == sigma


def test_deviation_is_that_of_the_texture():
    values = responses(np.hstack([noise((128, 128)), 3 * noise((128, 128), seed=1)]), 8.0)[..., DEVIATION]
    np.testing.assert_allclose([values[40:-40, 40:80].mean(), values[40:-40, -80:-40].mean()], [1, 3], rtol=0.05)


def test_coherence_tells_stripes_from_dots_and_noise():
    y, x = grid()
    for stripes in (np.sin(x / 2), np.sin(y / 2), np.sin((x + y) / 3)):
        assert responses(stripes, 4.0)[30:-30, 30:-30, COHERENCE].min() > 0.9
    dot = np.exp(-((y - 48) ** 2 + (x - 48) ** 2) / 50)
    assert responses(dot, 4.0)[48, 48, COHERENCE] < 0.01
    assert responses(noise((96, 96)), 4.0)[..., COHERENCE].mean() < 0.6


# ---------------------------------------------------------------------------------------------- sides and areas
def disks() -> np.ndarray:
    """Bright disks of about 50, 450 and 3,200 px, and a dark one of 450."""
    y, x = grid(200)
    image = np.zeros((200, 200), np.float32)
    for centre, radius, value in (
        ((40, 40), 4, 1.5),
        ((40, 110), 12, 1.5),
        ((130, 60), 32, 1.5),
        ((130, 150), 12, -1.5),
    ):
        image[(y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2] = value
    return image


def test_more_channels_come_after_those_of_the_scales():
    image = noise()
    values = Filters(sides=[3, 7], areas=[10, 50, 200]).extract(image).values
    assert values.shape == (64, 80, 25 + 4 + 9) and values.dtype == np.float32
    assert np.array_equal(values[..., :25], Filters().extract(image).values)
    assert np.array_equal(values[..., 25:29], Filters(sides=[3, 7]).extract(image).values[..., 25:])
    assert np.array_equal(values[..., 29:], Filters(areas=[10, 50, 200]).extract(image).values[..., 25:])


def test_areas_tell_how_large_a_structure_is_and_whether_it_is_bright_or_dark():
    values = Filters(areas=[200, 1000, 5000]).extract(disks()).values[..., 25:].reshape(200, 200, 3, 3)
    bright, dark, middle = np.moveaxis(values, 3, 0)
    expected = {
        (40, 40): [1, 1, 1],
        (40, 110): [0, 1, 1],
        (130, 60): [0, 0, 1],
        (130, 150): [0, 0, 0],
        (90, 110): [0, 0, 0],
    }
    for (y, x), sizes in expected.items():  # whether the structure is gone, by area
        np.testing.assert_allclose(bright[y, x] > 0.75, sizes)
    np.testing.assert_allclose(dark[130, 150], [0, 1.5, 1.5], atol=0.05)
    assert dark[40, 40].max() == 0
    np.testing.assert_allclose(middle[130, 60], [1.5, 1.5, 0.75], atol=0.05)  # opened to 0, closed to 1.5
    np.testing.assert_allclose(middle[90, 110], 0, atol=0.05)


def test_sides_are_minimum_and_maximum_of_a_square():
    image = noise()
    smooth, values = gaussian_filter(image, 1.0, mode="reflect"), Filters(sides=[7]).extract(image).values[..., 25:]
    for y, x in ((30, 40), (3, 3), (60, 76)):
        square = smooth[y - 3 : y + 4, x - 3 : x + 4]
        np.testing.assert_array_equal(values[y, x], [square.min(), square.max()])


@pytest.mark.parametrize("scale", [1, 1000])
def test_grey_values_far_out_are_cut_and_do_not_wrap(scale):
    values = Filters(areas=[50]).extract(disks() * scale).values[..., 25:]
    assert np.isfinite(values).all() and values[..., :2].min() >= -0.01 and values[..., :2].max() <= 6


# ------------------------------------------------------------------------------------------------------------ errors
@pytest.mark.parametrize("sigmas", [[], [1.0, 0.0], [-2.0]])
def test_scales_must_be_positive(sigmas):
    with pytest.raises(UserError, match=r"features.sigmas: \[.*\] must be one scale or more, each above 0 px"):
        Filters(sigmas=sigmas)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"areas": [100, 0]}, "features.areas: .* each at least 1"),
        ({"sides": [3, 4]}, "features.sides: .* odd numbers of px"),
        ({"sides": [-1]}, "features.sides: .* odd numbers of px"),
    ],
)
def test_sizes_must_be_possible(arguments, message):
    with pytest.raises(UserError, match=message):
        Filters(**arguments)
