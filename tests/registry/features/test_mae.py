"""The masked autoencoder: masking, loss, position embedding; and the part: where features lie, checkpoints, state."""

import numpy as np
import pytest
import torch

from registry.base import UserError
from registry.features import mae
from registry.features.mae import (
    MAE,
    Encoder,
    MaskedAutoencoder,
    attention,
    encoder_arguments,
    patchify,
    sincos_position_embedding,
    unpatchify,
    weights_hash,
    write_checkpoint,
)

TINY = dict(
    patch=5,
    window=20,
    width=8,
    depth=2,
    heads=1,
    mlp_ratio=2,
    decoder_width=8,
    decoder_depth=1,
    decoder_heads=2,
    position_weight=0.08,
)
PART = dict(window=20, patch=5, width=8, depth=2, heads=1, stride=20)


def images(count=3, side=20, seed=0):
    return torch.randn(count, side, side, generator=torch.Generator().manual_seed(seed))


def noise(count=3, tokens=16, seed=1):
    return torch.rand(count, tokens, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return MaskedAutoencoder(**TINY)


@pytest.fixture
def checkpoint(tmp_path, model):
    return save(tmp_path / "encoder.safetensors", model.encoder)


def save(path, encoder, **architecture):
    weights = {name: value.half().numpy() for name, value in encoder.state_dict().items()}
    facts = {"architecture": {**TINY, **architecture}, "sha256": weights_hash(weights)}
    write_checkpoint(path, weights, facts)
    return str(path)


class MeanOfPatch(torch.nn.Module):
    """Stands in for an encoder: the feature of a patch is the mean of its pixels, so that places can be checked."""

    def forward(self, windows, layer=None):
        return patchify(windows, 5).mean(2, keepdim=True).expand(-1, -1, 8)

    def to(self, device):
        return self


def locating_part(**kwargs):
    part = MAE(**{**PART, **kwargs})
    part._encoder = MeanOfPatch()
    return part


# ------------------------------------------------------------------------------------------------------------ model
def test_paper_sizes():
    model = MaskedAutoencoder()
    encoder = sum(p.numel() for p in model.encoder.parameters())
    decoder = sum(p.numel() for p in model.parameters()) - encoder
    assert (encoder, decoder) == (4_163_712, 955_673)
    assert 2 * encoder < 10_000_000 and model.tokens == 256


def test_patchify_keeps_row_major_order_and_inverts():
    x = images()
    patches = patchify(x, 5)
    assert patches.shape == (3, 16, 25)
    assert torch.equal(patches[1, 4 * 1 + 2].view(5, 5), x[1, 5:10, 10:15])
    assert torch.equal(unpatchify(patches, 5), x)


def test_position_embedding_separates_rows_and_columns():
    position = sincos_position_embedding(8, 4).view(4, 4, 8)
    assert torch.equal(position[2, 0, :4], position[2, 3, :4])
    assert torch.equal(position[0, 2, 4:], position[3, 2, 4:])
    assert len(torch.unique(position.view(16, 8), dim=0)) == 16


def test_position_weight_acts_on_the_encoder_only():
    full, damped = (MaskedAutoencoder(**{**TINY, "position_weight": weight}) for weight in (1.0, 0.08))
    torch.testing.assert_close(damped.encoder.position, 0.08 * full.encoder.position)
    assert torch.equal(damped.decoder_position, full.decoder_position)
    assert torch.equal(full.decoder_position, sincos_position_embedding(8, 4))


def test_mask_is_one_where_noise_is_large_and_half_of_the_patches_are_hidden(model):
    n = noise()
    latent, mask, restore = model.encode(images(), n)
    assert latent.shape == (3, 8, 8)
    assert mask.sum(1).tolist() == [8, 8, 8]
    assert (n[mask == 1].min() > n.median(1).values.min()).item()
    for row, hidden in zip(n, mask):
        assert row[hidden == 1].min() > row[hidden == 0].max()
    assert torch.equal(restore.sort(1).values, torch.arange(16).expand(3, -1))


def test_encoder_sees_no_hidden_pixel(model):
    x, n = images(), noise()
    latent, mask, _ = model.encode(x, n)
    hidden = unpatchify(mask[:, :, None].expand(-1, -1, 25), 5)
    torch.testing.assert_close(model.encode(torch.where(hidden == 1, 7.0, x), n)[0], latent)


def test_loss_is_the_error_of_hidden_patches_only(model):
    x, n = images(), noise()
    loss, painted, mask = model(x, n)
    assert painted.shape == (3, 16, 25)
    expected = ((painted - patchify(x, 5)) ** 2)[mask == 1].mean()
    torch.testing.assert_close(loss, expected)
    wrong = painted + 100 * (1 - mask[:, :, None])
    torch.testing.assert_close(model.loss(x, wrong, mask), loss)


def test_decoder_puts_tokens_back_in_their_places(model):
    """With blocks that do nothing, a visible patch is painted from its own token, hidden ones from the mask token."""
    model.decoder_blocks = torch.nn.ModuleList()
    model.decoder_position.zero_()
    x, n = images(), noise()
    latent, mask, restore = model.encode(x, n)
    painted = model.decode(latent, restore)
    for b in range(3):
        assert len(torch.unique(painted[b, mask[b] == 1], dim=0)) == 1
        kept = n[b].argsort()[:8]
        direct = model.predict(model.decoder_norm(model.decoder_embed(latent[b])))
        torch.testing.assert_close(painted[b, kept], direct)


def test_every_parameter_gets_a_gradient(model):
    model(images(), noise())[0].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_attention_in_half_precision_agrees_with_the_fused_kernel():
    q, k, v = torch.randn(3, 2, 4, 9, 6, generator=torch.Generator().manual_seed(0))
    expected = torch.softmax(q @ k.transpose(-2, -1) / 6**0.5, -1) @ v
    torch.testing.assert_close(attention(q, k, v), expected)
    half = attention(q.bfloat16(), k.bfloat16(), v.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), expected, atol=0.03, rtol=0.03)


def test_layer_stops_early_and_none_ends_with_the_norm(model):
    x, encoder = images(), model.encoder
    after_one = encoder(x, layer=1)
    torch.testing.assert_close(encoder(x, layer=2), encoder.blocks[1](after_one))
    torch.testing.assert_close(encoder(x), encoder.norm(encoder(x, layer=2)))


# ------------------------------------------------------------------------------------------------------------- part
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
    monkeypatch.setattr(mae, "multiplies_bfloat16", lambda device: native)
    image = images(1, 40)[0].numpy()
    chosen, same, other = (
        MAE(checkpoint=checkpoint, **PART, precision=precision)
        for precision in ("auto", as_if, "float32" if native else "bfloat16")
    )
    assert np.array_equal(chosen.extract(image).values, same.extract(image).values)
    assert not np.array_equal(chosen.extract(image).values, other.extract(image).values)
    monkeypatch.setattr(mae, "multiplies_bfloat16", lambda device: not native)  # moved to another device
    assert np.array_equal(chosen.extract(image).values, other.extract(image).values)


def test_the_fused_kernel_of_inference_attends_as_the_two_products_of_training_do():
    q, k, v = torch.randn(3, 2, 1, 64, 32, generator=torch.Generator().manual_seed(0)).bfloat16()
    plain = attention(q, k, v)
    with torch.no_grad():
        fused = attention(q, k, v)
    torch.testing.assert_close(fused, plain, atol=0.02, rtol=0.02)


def test_machines_that_share_a_cache_do_not_share_features_of_another_precision(checkpoint, monkeypatch):
    prints = set()
    for native in (True, False):
        monkeypatch.setattr(mae, "multiplies_bfloat16", lambda device: native)
        prints.add(MAE(checkpoint=checkpoint, **PART, precision="auto").fingerprint())
    assert len(prints) == 2
    assert MAE(checkpoint=checkpoint, **PART).fingerprint() in prints


def test_the_processor_is_asked(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True, raising=False)
    assert mae.multiplies_bfloat16("cpu") is True
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported")
    assert mae.multiplies_bfloat16("cpu") is False


def test_an_image_smaller_than_a_window_is_padded(checkpoint):
    assert MAE(checkpoint=checkpoint, **PART).extract(images(1, 3)[0].numpy()).values.shape == (1, 1, 8)
    assert MAE(checkpoint=checkpoint, **PART).extract(images(1, 9)[0, :2].numpy()).values.shape == (1, 2, 8)


def test_the_callers_image_is_left_alone(checkpoint):
    image = images(1, 20)[0].numpy()
    before = image.copy()
    MAE(checkpoint=checkpoint, **PART).extract(image)
    assert np.array_equal(image, before)


# ------------------------------------------------------------------------------------------------------ checkpoints
@pytest.mark.parametrize("key, value", [("width", 12), ("depth", 3), ("window", 25), ("heads", 2), ("patch", 4)])
def test_a_checkpoint_of_another_architecture_is_refused(checkpoint, key, value):
    wrong = {**PART, key: value}
    wrong["stride"] = wrong["window"]
    with pytest.raises(UserError) as error:
        MAE(checkpoint=checkpoint, **wrong).extract(np.zeros((40, 40), np.float32))
    text = str(error.value)
    assert f"features.{key} is {value} but the checkpoint has {TINY[key]}" in text
    assert f"write {key}: {TINY[key]}" in text and "\n" not in text


def test_a_missing_checkpoint_is_the_users_mistake(tmp_path):
    with pytest.raises(UserError, match="no file .*none.safetensors; train one with the recipe mae.yaml"):
        MAE(checkpoint=str(tmp_path / "none.safetensors")).extract(np.zeros((80, 80), np.float32))


def test_files_that_are_no_checkpoints_are_the_users_mistake(tmp_path, checkpoint):
    from safetensors.numpy import save_file

    text, other, cut = (tmp_path / f"{name}.safetensors" for name in ("text", "other", "cut"))
    text.write_text("not a checkpoint")
    save_file({"a": np.zeros(3)}, other)
    whole = open(checkpoint, "rb").read()
    cut.write_bytes(whole[:-7])
    for path, words in [(text, "not a readable"), (other, "not a checkpoint of an MAE"), (cut, "not a readable")]:
        with pytest.raises(UserError, match=words):
            MAE(checkpoint=str(path), **PART).fingerprint()
    flipped = bytearray(whole)
    flipped[-3] ^= 1
    cut.write_bytes(flipped)
    with pytest.raises(UserError, match="damaged"):
        MAE(checkpoint=str(cut), **PART).fingerprint()


def test_variables_in_the_checkpoints_path_are_expanded(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setenv("WEIGHTS_HERE", str(tmp_path))
    assert MAE(checkpoint="${WEIGHTS_HERE}/encoder.safetensors", **PART).fingerprint()


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


def test_encoder_arguments_build_the_encoder():
    assert len(Encoder(**encoder_arguments(TINY)).blocks) == 2


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
