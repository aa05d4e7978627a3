"""MAESTER's per-pixel features: which windows are encoded, and that a pixel gets the token that is centred on it."""

import numpy as np
import pytest
import torch

from registry.base import UserError
from registry.features.mae import MAE
from registry.features.maester import Maester
from registry.mae.checkpoint import weights_hash, write_checkpoint
from registry.mae.network import Encoder, patchify

SIZES = dict(patch=5, width=8, depth=2, heads=1)


def image(shape=(47, 53), seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.fixture
def part(tmp_path):
    """part(window=20, central=2, ...): a Maester with an untrained encoder for windows of that size."""

    def make(window=20, central=2, cls=Maester, **kwargs):
        torch.manual_seed(0)
        architecture = {**SIZES, "window": window, "mlp_ratio": 2, "position_weight": 0.08}
        weights = {name: value.numpy() for name, value in Encoder(**architecture).state_dict().items()}
        path = tmp_path / f"{window}.safetensors"
        write_checkpoint(path, weights, {"architecture": architecture, "sha256": weights_hash(weights)})
        own = {"central": central} if cls is Maester else {}
        return cls(checkpoint=str(path), window=window, **SIZES, **own, **kwargs)

    return make


class MeanOfPatch(torch.nn.Module):
    """Stands in for an encoder: the feature of a patch is the mean of its pixels, so that places can be checked."""

    def forward(self, windows, layer=None):
        return patchify(windows, 5).mean(2, keepdim=True).expand(-1, -1, 8)

    def to(self, device):
        return self


@pytest.fixture
def locating(part):
    def make(**kwargs):
        made = part(**kwargs)
        made._encoder = MeanOfPatch()
        return made

    return make


def tokens_of(part, windows) -> np.ndarray:
    """(B, window, window) -> (B, N, q)."""
    with torch.inference_mode():
        return part.encode(torch.from_numpy(np.stack(windows))).numpy()


# ---------------------------------------------------------------------------------------------------------- windows
def test_windows_of_the_published_setting():
    assert Maester().passes(560, 560) == 19_600  # 560 * 560 / 4^2; the released code makes 24,649
    assert Maester(central=16).passes(560, 560) == 35**2
    assert Maester().passes(561, 80) == 29 * 5 * 4 * 5  # a row of blocks for one line of pixels more


@pytest.mark.parametrize("window, central", [(20, 2), (20, 4), (25, 1), (25, 3)])
def test_as_many_windows_are_encoded_as_passes_says(part, window, central):
    made, seen = part(window, central, batch=9), []
    encode = made.encode
    made.encode = lambda windows: seen.append(len(windows)) or encode(windows)
    made.extract(image((37, 21)))
    assert sum(seen) == made.passes(37, 21) and max(seen) <= 9


@pytest.mark.parametrize("central", [0, 3, 5, 18])
def test_central_tokens_must_have_a_middle(central):
    with pytest.raises(UserError, match=f"features.central: {central} tokens cannot be centred among 16"):
        Maester(central=central)


def test_a_patch_needs_a_pixel_at_its_centre():
    with pytest.raises(UserError, match="features.patch: 4 must be odd"):
        Maester(patch=4)


# ----------------------------------------------------------------------------------------------------------- places
@pytest.mark.parametrize("window, central", [(20, 2), (20, 4), (25, 1)])
def test_every_pixel_of_a_ramp_has_the_ramps_value(locating, window, central):
    y, x = np.mgrid[:43, :56].astype(np.float32)
    for ramp in (y, x):
        features = locating(window=window, central=central).extract(ramp)
        assert (features.step, features.offset, features.shape) == (1.0, 0.0, (43, 56))
        assert features.values.shape == (43, 56, 8)
        # within 2 px of the border, a patch sees the reflected half of the ramp
        np.testing.assert_allclose(features.values[2:-2, 2:-2, 0], ramp[2:-2, 2:-2], atol=1e-4)


@pytest.mark.parametrize("place", [(20, 33), (3, 5), (42, 52)])
def test_an_impulse_lights_the_patch_around_it(locating, place):
    dark = np.zeros((47, 57), np.float32)
    dark[place] = 1
    y, x = np.argwhere(locating().extract(dark).values[:, :, 3] > 0).T
    assert (y.min(), y.max(), x.min(), x.max()) == (place[0] - 2, place[0] + 2, place[1] - 2, place[1] + 2)
    assert len(y) == 25


def test_with_one_central_token_each_pixel_is_the_middle_of_its_own_window(part):
    made, picture = part(window=25, central=1), image((31, 28))
    padded = np.pad(picture, 12, mode="reflect")
    values = made.extract(picture).values
    for y, x in [(0, 0), (7, 11), (30, 27), (15, 0)]:
        expected = tokens_of(made, [padded[y : y + 25, x : x + 25]])[0, 12]  # the middle one of 5 x 5
        np.testing.assert_allclose(values[y, x], expected, atol=1e-5)


def test_a_pixel_gets_the_central_token_that_is_centred_on_it(part):
    """Windows of 4 x 4 tokens, of which the middle 2 x 2 are used: token 1 or 2, centred 7 or 12 px into the window."""
    made, picture = part(window=20, central=2), image((40, 41))
    padded = np.pad(picture, 20, mode="reflect")
    values = made.extract(picture).values
    for y, x in [(0, 0), (4, 3), (5, 9), (17, 26), (39, 40)]:
        row, column = 1 + y % 10 // 5, 1 + x % 10 // 5  # blocks are 10 px, the first half of one belongs to token 1
        top, left = 20 + y - 5 * row - 2, 20 + x - 5 * column - 2
        window = padded[top : top + 20, left : left + 20]
        np.testing.assert_allclose(values[y, x], tokens_of(made, [window])[0, 4 * row + column], atol=1e-5)


def test_with_all_tokens_every_fifth_pixel_has_the_feature_of_mae(part):
    picture = image((40, 60))
    pixels, tokens = part(central=4).extract(picture), part(cls=MAE, stride=20).extract(picture)
    np.testing.assert_allclose(pixels.values[2::5, 2::5], tokens.values, atol=1e-5)


def test_an_image_smaller_than_a_window_has_features_too(part):
    features = part(window=25, central=3).extract(image((16, 9)))
    assert features.values.shape == (16, 9, 8) and np.isfinite(features.values).all()


# ---------------------------------------------------------------------------------------------------------- options
def test_the_number_of_windows_at_once_changes_nothing(part):
    one, many = (part(batch=batch).extract(image((21, 32))).values for batch in (1, 1000))
    np.testing.assert_allclose(one, many, atol=1e-5)


def test_token_normalisation_standardises_each_pixel(part):
    plain, scaled = (part(normalize=how).extract(image()).values for how in ("none", "token"))
    np.testing.assert_allclose(scaled.mean(2), 0, atol=1e-5)
    np.testing.assert_allclose(scaled.std(2), 1, atol=1e-4)
    expected = (plain - plain.mean(2, keepdims=True)) / plain.std(2, keepdims=True)
    np.testing.assert_allclose(scaled, expected, atol=1e-4)


def test_mixed_precision_is_close(part):
    full, mixed = (part(precision=precision).extract(image((20, 30))).values for precision in ("float32", "bfloat16"))
    assert mixed.dtype == np.float32
    assert 0 < np.linalg.norm(mixed - full) < 0.03 * np.linalg.norm(full)


def test_state_makes_a_model_independent_of_the_file(part):
    made, again = part(), Maester(checkpoint="gone.safetensors", window=20, central=2, **SIZES)
    again.set_state(made.get_state())
    assert np.array_equal(again.extract(image()).values, made.extract(image()).values)
