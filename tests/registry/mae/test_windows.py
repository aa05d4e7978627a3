"""Windows over an image: the grid covers it, and a token lies where it belongs."""

import numpy as np
import pytest
import torch

from registry.features.mae import MAE
from registry.mae.windows import Known
from tests.registry.tiny_mae import PART, images, locating_part, made_up_mae, save


@pytest.fixture
def checkpoint(tmp_path):
    return save(tmp_path / "encoder.safetensors", made_up_mae().encoder)


@pytest.mark.parametrize("stride", [20, 15, 10, 5])
@pytest.mark.parametrize("shape", [(20, 20), (60, 40), (47, 53), (21, 96)])
def test_grid_covers_the_image(checkpoint, stride, shape):
    image = images(1, 100)[0, : shape[0], : shape[1]].numpy()
    features = MAE(checkpoint=checkpoint, **{**PART, "stride": stride}).extract(image)
    h, w = -(-shape[0] // 5), -(-shape[1] // 5)
    assert features.values.shape == (h, w, 8) and features.values.dtype == np.float32
    assert (features.step, features.offset, features.shape) == (5.0, 2.0, shape)
    assert np.isfinite(features.values).all()
    for count, size in zip((h, w), shape):
        assert features.offset + features.step * (count - 1) + features.step / 2 >= size - 1


@pytest.mark.parametrize("stride", [20, 15, 10, 5])
def test_the_feature_of_a_pixel_belongs_to_that_pixel(stride):
    """A ramp: the feature at pixel (offset + 5i, offset + 5j) is the ramp's value there, exactly."""
    y, x = np.mgrid[:60, :85].astype(np.float32)
    for ramp in (y, x):
        features = locating_part(stride=stride).extract(ramp)
        rows = int(features.offset) + int(features.step) * np.arange(features.values.shape[0])
        columns = int(features.offset) + int(features.step) * np.arange(features.values.shape[1])
        np.testing.assert_allclose(features.values[:, :, 3], ramp[np.ix_(rows, columns)], atol=1e-4)


@pytest.mark.parametrize("stride", [20, 10, 5])
def test_an_impulse_lights_its_own_token_only(stride):
    for y, x in [(0, 0), (4, 5), (17, 33), (44, 62), (59, 80)]:
        image = np.zeros((60, 81), np.float32)
        image[y, x] = 1
        lit = np.argwhere(locating_part(stride=stride).extract(image).values[:, :, 0] > 0)
        assert lit.tolist() == [[y // 5, x // 5]]


def test_an_impulse_moves_the_real_encoders_features_most_where_it_is(checkpoint):
    image = images(1, 60)[0].numpy()
    changed = image.copy()
    changed[33:36, 21:24] += 3
    for stride in (20, 10):
        part = MAE(checkpoint=checkpoint, **{**PART, "stride": stride})
        change = np.abs(part.extract(changed).values - part.extract(image).values).sum(2)
        inside = change[6:8, 4]
        assert change.max() == inside.max()
        far = change.copy()
        far[4:8, 4:8] = 0  # the window at (20, 20); with stride 10 those that overlap it too
        if stride == 20:
            assert far.max() == 0


def test_overlapping_tokens_are_averaged(checkpoint):
    image = images(1, 30)[0, :20].numpy()
    encoder = MAE(checkpoint=checkpoint, **PART)._load()
    with torch.inference_mode():
        left, right = (encoder(torch.from_numpy(image[None, :, x : x + 20])).view(4, 4, 8).numpy() for x in (0, 10))
    values = MAE(checkpoint=checkpoint, **{**PART, "stride": 10}).extract(image).values
    np.testing.assert_allclose(values[:, :2], left[:, :2], atol=1e-5)
    np.testing.assert_allclose(values[:, 2:4], (left[:, 2:] + right[:, :2]) / 2, atol=1e-5)
    np.testing.assert_allclose(values[:, 4:], right[:, 2:], atol=1e-5)


def test_the_number_of_windows_at_once_changes_nothing(checkpoint):
    image = images(1, 70)[0].numpy()
    one, many = (MAE(checkpoint=checkpoint, **PART, batch=batch).extract(image).values for batch in (1, 100))
    np.testing.assert_allclose(one, many, atol=1e-5)


def test_an_image_smaller_than_a_window_is_padded(checkpoint):
    assert MAE(checkpoint=checkpoint, **PART).extract(images(1, 3)[0].numpy()).values.shape == (1, 1, 8)
    assert MAE(checkpoint=checkpoint, **PART).extract(images(1, 9)[0, :2].numpy()).values.shape == (1, 2, 8)


def test_the_callers_image_is_left_alone(checkpoint):
    image = images(1, 20)[0].numpy()
    before = image.copy()
    MAE(checkpoint=checkpoint, **PART).extract(image)
    assert np.array_equal(image, before)


@pytest.mark.parametrize("stride", [20, 10])
def test_windows_that_two_images_have_in_common_are_encoded_once_with_the_same_values(checkpoint, stride, monkeypatch):
    whole, part = images(1, 180)[0, :100].numpy(), MAE(checkpoint=checkpoint, **{**PART, "stride": stride})
    views = [whole[:, :100], whole[:, 80:180], whole[:, 3:103]]
    alone = [part.extract(view).values for view in views]
    encoded, encode = [], part.encode
    monkeypatch.setattr(part, "encode", lambda windows: encoded.append(len(windows)) or encode(windows))
    with part.sharing():
        for view, values in zip(views, alone):
            assert np.array_equal(part.extract(view).values, values)
    along = (100 - 20) // stride + 1
    assert sum(encoded) == along * (3 * along - 1)  # the second image's first column
    part.extract(views[0])
    assert sum(encoded) == along * (4 * along - 1)  # nothing is kept afterwards


def test_windows_used_longest_ago_are_forgotten_first():
    known, tokens = Known(limit=300), torch.ones(4, 8)
    for key in (b"a", b"b"):
        known.keep(key, tokens)
    known.get(b"a")
    known.keep(b"c", tokens)
    assert known.get(b"b") is None and torch.equal(known.get(b"a"), tokens) and torch.equal(known.get(b"c"), tokens)
