"""The part `mae`: normalisation, precision, options, state."""

import numpy as np
import pytest
import torch

from registry.base import UserError
from registry.features.mae import MAE
from registry.mae import precision as precisions
from tests.registry.tiny_mae import PART, images, locating_part, made_up_mae, save


@pytest.fixture
def model():
    return made_up_mae()


@pytest.fixture
def checkpoint(tmp_path):
    return save(tmp_path / "encoder.safetensors", made_up_mae().encoder)


def test_token_normalisation_standardises_each_token_after_windows_are_averaged(checkpoint):
    image = images(1, 60)[0].numpy()
    plain, scaled = (
        MAE(checkpoint=checkpoint, **{**PART, "stride": 10}, normalize=how).extract(image).values
        for how in ("none", "token")
    )
    expected = (plain - plain.mean(2, keepdims=True)) / plain.std(2, keepdims=True)
    np.testing.assert_allclose(scaled, expected, atol=1e-4)


def test_a_token_without_any_contrast_normalises_to_zero():
    values = locating_part(normalize="token").extract(images(1, 40)[0].numpy()).values
    assert np.array_equal(values, np.zeros((8, 8, 8)))


def test_mixed_precision_is_close(checkpoint):
    image = images(1, 60)[0].numpy()
    full, mixed = (
        MAE(checkpoint=checkpoint, **PART, precision=precision).extract(image).values
        for precision in ("float32", "bfloat16")
    )
    assert mixed.dtype == np.float32
    assert 0 < np.linalg.norm(mixed - full) < 0.03 * np.linalg.norm(full)


@pytest.mark.parametrize("native, as_if", [(True, "bfloat16"), (False, "float32")])
def test_auto_is_mixed_only_where_the_processor_does_it_by_itself(checkpoint, monkeypatch, native, as_if):
    monkeypatch.setattr(precisions, "multiplies_bfloat16", lambda device: native)
    image = images(1, 40)[0].numpy()
    chosen, same, other = (
        MAE(checkpoint=checkpoint, **PART, precision=precision)
        for precision in ("auto", as_if, "float32" if native else "bfloat16")
    )
    assert np.array_equal(chosen.extract(image).values, same.extract(image).values)
    assert not np.array_equal(chosen.extract(image).values, other.extract(image).values)
    monkeypatch.setattr(precisions, "multiplies_bfloat16", lambda device: not native)  # moved to another device
    assert np.array_equal(chosen.extract(image).values, other.extract(image).values)


def test_machines_that_share_a_cache_do_not_share_features_of_another_precision(checkpoint, monkeypatch):
    prints = set()
    for native in (True, False):
        monkeypatch.setattr(precisions, "multiplies_bfloat16", lambda device: native)
        prints.add(MAE(checkpoint=checkpoint, **PART, precision="auto").fingerprint())
    assert len(prints) == 2
    assert MAE(checkpoint=checkpoint, **PART).fingerprint() in prints


def test_fingerprint_follows_the_weights(tmp_path, model, checkpoint):
    first = MAE(checkpoint=checkpoint, **PART).fingerprint()
    copy = save(tmp_path / "copy.safetensors", model.encoder)
    assert MAE(checkpoint=copy, **PART).fingerprint() == first
    with torch.no_grad():
        model.encoder.blocks[0].fc1.bias[0] += 1
    assert MAE(checkpoint=save(tmp_path / "other.safetensors", model.encoder), **PART).fingerprint() != first
    damped = save(tmp_path / "damped.safetensors", model.encoder, position_weight=0.5)
    assert MAE(checkpoint=damped, **PART).fingerprint() != MAE(checkpoint=copy, **PART).fingerprint()


def test_state_makes_a_model_independent_of_the_file(checkpoint, tmp_path):
    image = images(1, 45)[0].numpy()
    part = MAE(checkpoint=checkpoint, **PART)
    state = part.get_state()
    assert state["blocks.0.qkv.weight"].dtype == np.float16
    again = MAE(checkpoint=str(tmp_path / "gone.safetensors"), **PART)
    again.set_state(state)
    assert np.array_equal(again.extract(image).values, part.extract(image).values)
    assert again.fingerprint() == part.fingerprint()


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"window": 81}, "features.window: 81 must be a multiple of features.patch"),
        ({"stride": 42}, "features.stride: 42 must be a multiple of the patch"),
        ({"stride": 160}, "features.stride: 160 must be .* at most the window"),
        ({"layer": 15}, "features.layer: 15 must be 1 to 14"),
        ({"batch": 0}, "features.batch: 0 must be at least 1"),
    ],
)
def test_wrong_options_name_key_value_and_mending(wrong, words):
    with pytest.raises(UserError, match=words):
        MAE(**wrong)
