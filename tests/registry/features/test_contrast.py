"""Features learned from a set's own images: its views and their places, its loss; and the part: state, errors."""

import weakref

import numpy as np
import pytest
import torch

from registry.base import UserError
from registry.features import contrast
from registry.features.contrast import Contrast
from tests.registry.parts.small import grey

TINY = dict(width=4, q=6, steps=3, batch=3, places=8, crop=32, precision="float32", seed=0)


def fitted(images=None, **arguments):
    part = Contrast(**{**TINY, **arguments})
    part.fit([grey((90, 100))] if images is None else images)
    return part


def values_at(view, places):
    return torch.nn.functional.grid_sample(view[None, None], places[None, None], align_corners=False)[0, 0, 0]


# --------------------------------------------------------------------------------------------------------------- views
@pytest.mark.parametrize("shape", [(200, 300), (40, 300), (20, 25)])
def test_both_views_show_the_same_at_the_same_places(shape, monkeypatch):
    for name in ("BRIGHTNESS", "CONTRAST", "NOISE", "BLURRED"):
        monkeypatch.setattr(contrast, name, 0.0)
    y, x = np.indices(shape)
    image = np.sin(y / 15) + np.cos(x / 18).astype(np.float32)  # smooth, so that interpolation adds little
    part = Contrast(**{**TINY, "shift": 0.0, "crop": 64, "batch": 6})
    views, places = part.views([image.astype(np.float32)], np.random.default_rng(0))
    assert views.shape == (2, 6, 64, 64) and places.shape == (2, 6, 8, 2)
    assert places.abs().max() < 1.3 and not torch.equal(views[0], views[1])
    inside = (places.abs() < 0.95).all(3).all(0)
    assert inside.sum() > 20
    for one, other, here, there, kept in zip(*views, *places, inside):
        torch.testing.assert_close(values_at(one, here)[kept], values_at(other, there)[kept], atol=0.03, rtol=0)


def test_a_shift_moves_places_by_so_many_pixels(monkeypatch):
    monkeypatch.setattr(contrast, "STRETCH", 0.0)
    still, moving = (Contrast(**{**TINY, "shift": shift, "places": 2000}) for shift in (0.0, 3.0))
    image = [grey((90, 100))]
    (_, one), (_, other) = (part.views(image, np.random.default_rng(0)) for part in (still, moving))
    torch.testing.assert_close(one[0, 0], other[0, 0])  # only the second view's places move
    assert float((one[1, 0] - other[1, 0]).std() * 32 / 2) == pytest.approx(3.0, rel=0.1)


def test_views_differ_in_brightness_and_noise_and_large_images_are_drawn_more_often():
    rng = np.random.default_rng(0)
    part = Contrast(**{**TINY, "batch": 400})
    views, _ = part.views([np.zeros((40, 40), np.float32), np.full((120, 120), 5, np.float32)], rng)
    means = views.mean((2, 3))
    assert (means > 2.5).float().mean() == pytest.approx(0.9, abs=0.05)
    assert means[means < 2.5].std() > 0.1 and views.std((2, 3)).max() > 0.1


# ---------------------------------------------------------------------------------------------------------------- loss
def test_the_loss_is_low_if_places_are_alike_in_both_views_and_unlike_one_another():
    part, same = Contrast(**{**TINY, "batch": 1, "places": 4}), torch.nn.Identity()
    vectors = torch.nn.functional.one_hot(torch.arange(4)).float().T.reshape(1, 4, 2, 2)
    corners = torch.tensor([[-0.5, -0.5], [0.5, -0.5], [-0.5, 0.5], [0.5, 0.5]])[None, None]

    def loss(one, other, places=corners):
        return float(part.loss(same, same, torch.stack([one, other]), torch.cat([places, places])))

    expected = np.log(1 + 3 * np.exp(-1 / part.temperature))
    assert loss(vectors, vectors) == pytest.approx(expected, rel=1e-4)
    assert loss(vectors, vectors.flip(1)) == pytest.approx(expected + 1 / part.temperature, rel=1e-4)
    assert loss(torch.ones_like(vectors), vectors * 0 + 1) == pytest.approx(np.log(4), rel=1e-4)


# ------------------------------------------------------------------------------------------------------------ the part
def test_it_learns_to_tell_places_apart():
    image = grey((160, 160))
    part = fitted([image], steps=120, width=8, places=16, lr=5e-3)
    before, after = part.curve_[0][1]["loss/features"], part.curve_[-1][1]["loss/features"]
    assert part.curve_[0][0] == 1 and part.curve_[-1][0] == 120
    assert after < before - 0.5


def test_the_seed_determines_the_features_and_no_global_state_changes():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, again, other = fitted(), fitted(), fitted(seed=1)
    assert torch.equal(torch.rand(3), expected)
    assert one.fingerprint() == again.fingerprint() != other.fingerprint() != Contrast(**TINY).fingerprint()


def test_features_lie_on_the_students_grid_and_a_loaded_part_gives_the_same():
    part, image = fitted(), grey((83, 121))
    loaded = Contrast(**TINY)
    loaded.set_state(part.get_state())
    found, again = part.extract(image), loaded.extract(image)
    assert found.values.shape == (21, 31, 6) and (found.step, found.offset) == (4.0, 1.5)
    np.testing.assert_array_equal(found.values, again.values)
    assert found.values.std() > 1e-3


def test_images_smaller_than_a_view_and_of_one_grey_value_are_learned_from():
    part = fitted([grey((20, 17)), np.zeros((64, 64), np.float32)])
    assert np.isfinite(part.extract(grey((20, 17))).values).all()


def test_training_in_bfloat16_gives_finite_features():
    assert np.isfinite(fitted(precision="bfloat16").extract(grey((64, 64))).values).all()


def test_of_many_images_some_are_enough(monkeypatch):
    monkeypatch.setattr(contrast, "MOST", 2)
    seen = []
    monkeypatch.setattr(
        Contrast, "views", lambda self, images, rng: seen.append(len(images)) or _views(self, images, rng)
    )
    fitted([grey((40, 40))] * 5)
    assert set(seen) == {2}


_views = Contrast.views


def test_progress_is_logged(caplog):
    with caplog.at_level("INFO", logger="registry"):
        fitted()
    assert "step 1 of 3" in caplog.text and "step 3 of 3" in caplog.text


def test_a_net_that_diverges_is_an_error(monkeypatch):
    monkeypatch.setattr(Contrast, "loss", lambda self, net, *rest: next(net.parameters()).sum() * np.nan)
    with pytest.raises(UserError, match=r"features\.lr: with 0\.002, the net diverged at step 1"):
        fitted()


def test_nothing_is_known_before_fit():
    part = Contrast(**TINY)
    assert part.get_state() == {}
    with pytest.raises(RuntimeError, match="nothing learned"):
        part.extract(grey((64, 64)))


@pytest.mark.parametrize(
    ("arguments", "message"), [({"crop": 20}, "features.crop: 20"), ({"batch": 1, "places": 1}, "features.places")]
)
def test_arguments_out_of_range_are_named(arguments, message):
    with pytest.raises(UserError, match=message):
        Contrast(**{**TINY, **arguments})


def test_no_images_is_an_error():
    with pytest.raises(UserError, match=r"data\.train: no training images"):
        Contrast(**TINY).fit([])


@pytest.mark.parametrize("count, most", [(1, 4), (4, 4), (7, 4), (8, 4), (9, 4), (100, 4), (1000, 16)])
def test_many_images_are_thinned_evenly_and_never_all_in_memory(count, most):
    alive, most_alive = set(), 0

    def images():
        nonlocal most_alive
        for i in range(count):
            image = np.full((2, 2), i, np.float32)
            alive.add(i)
            weakref.finalize(image, alive.discard, i)
            most_alive = max(most_alive, len(alive))
            yield image

    kept = [int(image[0, 0]) for image in contrast.evenly_spaced(images(), most)]
    assert len(kept) == min(count, most) and kept[0] == 0 and len(set(kept)) == len(kept)
    assert most_alive <= 2 * most + 1
    assert kept[-1] >= count - 1 - count / most and max(np.diff(kept), default=1) <= max(1, 3 * count / most)
    if count <= most:
        assert kept == list(range(count))
