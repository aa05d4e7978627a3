"""The masked autoencoder: masking, loss, position embedding, attention."""

import pytest
import torch

from registry.mae.network import MaskedAutoencoder, attention, patchify, sincos_position_embedding, unpatchify
from tests.registry.tiny_mae import TINY, images, made_up_mae, noise


@pytest.fixture
def model():
    return made_up_mae()


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


def test_the_fused_kernel_of_inference_attends_as_the_two_products_of_training_do():
    q, k, v = torch.randn(3, 2, 1, 64, 32, generator=torch.Generator().manual_seed(0)).bfloat16()
    plain = attention(q, k, v)
    with torch.no_grad():
        fused = attention(q, k, v)
    torch.testing.assert_close(fused, plain, atol=0.02, rtol=0.02)
