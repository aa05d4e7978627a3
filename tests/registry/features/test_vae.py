"""The VAE with metric learning: its loss, its training patches; and the part: where features lie, state, errors."""

import numpy as np
import pytest
import torch

from registry.base import UserError
from registry.features import vae
from registry.features.vae import VAE, Decoder, Encoder, Pieces, metric_loss, standardised

TINY = dict(patch=8, stride=2, semantic=3, transform=2, channels=[4, 6], hidden=10, batch=4, copies=2, steps=3, seed=0)


def blobs(shape=(80, 96), seed=0):
    from scipy.ndimage import gaussian_filter

    noise = np.random.default_rng(seed).normal(size=shape)
    image = 6 * gaussian_filter(noise, 5) + 0.2 * noise
    return ((image - image.mean()) / image.std()).astype(np.float32)


def fitted(images=None, **arguments):
    part = VAE(**{**TINY, **arguments})
    part.fit([blobs()] if images is None else images)
    return part


def ramp(height=60, width=70):
    """Pixel (y, x) is worth 1000 y + x."""
    return (1000 * np.arange(height)[:, None] + np.arange(width)).astype(np.float32)


# -------------------------------------------------------------------------------------------------------- metric loss
def naive_metric_loss(codes: np.ndarray, margin: float) -> float:
    V, n, _ = codes.shape
    total = 0.0
    for v in range(V):
        for i in range(n):
            together = apart = 1.0
            for w in range(V):
                for j in range(n):
                    d = np.linalg.norm(codes[v, i] - codes[w, j])
                    if i == j and v != w:
                        together += np.exp(d - margin)
                    elif i != j:
                        apart += np.exp(margin - d)
            total += np.log(together) + np.log(apart)
    return total / (V * n)


def test_metric_loss_is_the_stated_sum():
    codes = np.random.default_rng(0).normal(size=(3, 5, 4))
    assert float(metric_loss(torch.from_numpy(codes), 0.7)) == pytest.approx(naive_metric_loss(codes, 0.7))


def test_metric_loss_is_small_where_views_agree_and_places_do_not():
    apart = (50 * torch.eye(4)).expand(3, -1, -1)  # (V, n, q_s)
    good = metric_loss(apart, 5.0)
    assert good < metric_loss(apart + torch.randn(3, 4, 4), 5.0)  # views differ
    assert good < metric_loss(apart / 50, 5.0)  # places are alike
    assert good == pytest.approx(np.log(1 + 2 * np.exp(-5)), abs=1e-5)


def test_metric_loss_of_equal_codes_has_a_gradient():
    codes = torch.zeros(2, 3, 4, requires_grad=True)
    metric_loss(codes, 1.0).backward()
    assert torch.isfinite(codes.grad).all()


# -------------------------------------------------------------------------------------------------------------- model
def test_the_decoder_mirrors_the_encoder():
    sizes = 16, [4, 6, 8], 10, 5
    mean, variance = Encoder(*sizes)(torch.randn(2, 1, 16, 16))
    assert mean.shape == variance.shape == (2, 5) and (variance > 0).all()
    painted, deviation = Decoder(*sizes)(mean)
    assert painted.shape == deviation.shape == (2, 1, 16, 16) and (deviation > 0).all()


def test_divergence_and_likelihood_are_those_of_gaussians():
    part = VAE(**TINY)
    encoder, decoder = part._build(Encoder), part._build(Decoder)
    views = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    likelihood, divergence, _ = part._terms(encoder, decoder, views, torch.Generator().manual_seed(1))
    x = views.reshape(12, 1, 8, 8)
    mean, variance = encoder(x)
    code = torch.distributions.Normal(mean, variance.sqrt())
    prior = torch.distributions.Normal(torch.zeros(5), torch.ones(5))
    assert torch.allclose(divergence, torch.distributions.kl_divergence(code, prior).sum(1).mean(), atol=1e-5)
    z = mean + variance.sqrt() * torch.randn(12, 5, generator=torch.Generator().manual_seed(1))
    expected = -torch.distributions.Normal(*decoder(z)).log_prob(x).mean()
    assert torch.allclose(likelihood, expected, atol=1e-5)


# ---------------------------------------------------------------------------------------------------- training patches
def test_pieces_are_sampled_where_asked_and_between_pixels_bilinearly():
    images = [ramp(), 5 + ramp(40, 33)]
    pieces = Pieces(images, np.random.default_rng(0), border=6)
    y, x = np.full((2, 1, 1), 3.25), np.full((2, 1, 1), 7.5)
    assert pieces.sample(np.array([0, 1]), y, x).ravel() == pytest.approx([3257.5, 3262.5])
    outside = pieces.sample(np.array([1]), np.full((1, 1, 1), -2.0), np.full((1, 1, 1), 34.0))
    assert outside.item() == 5 + 2000 + 30  # reflected at the border's pixel, without repeating it


def test_pieces_keep_a_bounded_part_of_many_images_each_with_the_same_chance(monkeypatch):
    monkeypatch.setattr(vae, "TILE", 20)
    monkeypatch.setattr(vae, "TILES", 6)
    images = [np.full((20, 38), number, np.float32) for number in range(10)]  # two pieces each
    kept = np.zeros(10)
    for seed in range(300):
        pieces = Pieces(iter(images), np.random.default_rng(seed), border=1)
        assert pieces.shapes.tolist() == [[20, 19]] * 6
        kept += np.bincount(pieces.pixels.reshape(6, -1)[:, 0].astype(int), minlength=10)
    assert kept.sum() == 300 * 6 and kept.min() > 0.7 * kept.mean() and kept.max() < 1.3 * kept.mean()


def quiet(monkeypatch):
    for name in ("BRIGHTNESS", "NOISE", "ELASTIC"):
        monkeypatch.setattr(vae, name, 0)
    monkeypatch.setattr(vae, "CONTRAST", 1)


def test_copies_lie_near_their_place_turned_flipped_and_scaled(monkeypatch):
    quiet(monkeypatch)
    part = VAE(**{**TINY, "standardize": "none", "batch": 200, "jitter": 3.0, "scale": [0.5, 2.0]})
    margin = 40
    y, x = np.indices((200, 200)).astype(np.float32)
    views = []
    for coordinate in (y, x):  # the image is its own coordinate, so patches tell where they come from
        rng = np.random.default_rng(5)
        pieces = Pieces([coordinate], rng, part._border())
        views.append(part._views(pieces, rng))
    whole = np.stack(views)  # (2, V, n, s, s)
    corners = whole[:, :, :, [0, 0, -1, -1], [0, -1, 0, -1]]  # (2, V, n, 4)
    inside = ((corners > margin) & (corners < 199 - margin)).all((0, 1, 3))
    assert inside.sum() > 20
    whole, corners = whole[:, :, inside], corners[:, :, inside]
    centre = corners.mean(-1)  # (2, V, n)
    assert np.linalg.norm(centre[:, 1:] - centre[:, :1], axis=0).max() < 3 + 1  # whole px, so up to half a px more
    down, right = whole[..., -1, 0] - whole[..., 0, 0], whole[..., 0, -1] - whole[..., 0, 0]  # (2, V, n)
    side = np.linalg.norm(down, axis=0) / 7
    assert side == pytest.approx(np.linalg.norm(right, axis=0) / 7, rel=1e-3)  # squares stay squares
    assert 0.5 <= side.min() < 0.7 and 1.6 < side.max() <= 2.001
    assert np.abs((down * right).sum(0)).max() < 0.05
    handed = np.sign(down[0] * right[1] - down[1] * right[0])
    assert {-1, 1} == set(handed.ravel())
    angle = np.degrees(np.arctan2(right[0], right[1])) % 90
    assert np.minimum(angle[0], 90 - angle[0]).max() < 0.1  # the first view is turned by quarters
    assert np.histogram(angle[1:], bins=5, range=(0, 90))[0].min() > 0  # the others by any angle


def test_patches_are_standardised_one_by_one_but_flat_ones_stay_flat():
    patches = torch.stack([3 + 5 * torch.randn(8, 8), 2 + 1e-3 * torch.randn(8, 8), torch.zeros(8, 8)])
    out = standardised(patches, "patch")
    assert out[0].mean() == pytest.approx(0, abs=1e-5) and out[0].std(unbiased=False) == pytest.approx(1, abs=1e-4)
    assert out[1].abs().max() < 0.1 and torch.equal(out[2], torch.zeros(8, 8))
    assert standardised(patches, "none") is patches


# --------------------------------------------------------------------------------------------------------------- part
class MiddleOfPatch(torch.nn.Module):
    """Stands in for an encoder: the code of a patch is the mean of its four middle pixels."""

    def __init__(self):
        super().__init__()
        self.mean = torch.nn.Linear(1, 3)
        with torch.no_grad():
            self.mean.weight.fill_(1)
            self.mean.bias.zero_()

    def trunk(self, patches):
        return patches[:, 0, 3:5, 3:5].mean((1, 2))[:, None]


@pytest.mark.parametrize("shape", [(80, 80), (83, 121), (97, 80)])
@pytest.mark.parametrize("stride", [2, 4, 8])
def test_a_token_is_coded_from_the_patch_around_its_centre(shape, stride):
    part = VAE(**{**TINY, "standardize": "none", "stride": stride})
    part._encoder = MiddleOfPatch()
    features = part.extract(ramp(*shape))
    y, x = (features.offset + features.step * np.arange(n) for n in features.values.shape[:2])
    inside = np.ix_(y <= shape[0] - 1.5, x <= shape[1] - 1.5)  # beyond, the image is continued by reflection
    np.testing.assert_allclose(features.values[..., 0][inside], (1000 * y[:, None] + x)[inside], rtol=1e-6)


@pytest.mark.parametrize("standardize", ["patch", "none"])
def test_dense_codes_are_those_of_each_patch_alone(standardize):
    part, image = fitted(standardize=standardize), blobs((41, 53), seed=3)
    values = part.extract(image).values
    padded = np.pad(image, 3 + 8, mode="reflect")
    for i, j in [(0, 0), (3, 5), (20, 26), (7, 26), (20, 0)]:
        top, left = 2 * i - 3 + 11, 2 * j - 3 + 11  # the patch of 8 px around a cell of 2 px
        alone = part.code(torch.from_numpy(padded[None, top : top + 8, left : left + 8].copy()))
        np.testing.assert_allclose(values[i, j], alone[0].numpy(), atol=1e-5)


def test_features_are_the_semantic_means_of_the_encoder():
    part = fitted()
    patches = torch.randn(5, 8, 8)
    mean, _ = part._encoder(standardised(patches, "patch")[:, None])
    np.testing.assert_allclose(part.code(patches).numpy(), mean[:, :3].detach().numpy(), atol=1e-5)


def test_brightness_and_contrast_of_a_patch_do_not_count_when_it_is_standardised():
    part, image = fitted(), blobs((40, 40))
    np.testing.assert_allclose(part.extract(3 * image + 2).values, part.extract(image).values, atol=1e-4)


def test_training_lowers_the_losses_and_tells_them():
    part = fitted(steps=120, batch=8, lr=3e-3)
    assert part.losses_.shape == (120, 3) and np.isfinite(part.losses_).all()
    early, late = part.losses_[:10].mean(0), part.losses_[-10:].mean(0)
    assert late[0] < early[0] and late[2] < early[2]


def test_semantic_codes_vary_less_under_transformation_than_the_others():
    """The paper's claim: a smaller share of their variance lies between views of the same place."""
    part = fitted([blobs((200, 200))], patch=16, channels=[8, 16], transform=5, steps=300, batch=12, lr=3e-3)
    part.batch, rng = 100, np.random.default_rng(9)
    views = torch.from_numpy(part._views(Pieces([blobs((200, 200), seed=7)], rng, part._border()), rng))
    means = part._encoder(views.view(-1, 1, 16, 16))[0].detach().view(3, 100, 8)  # (V, n, q_s + q_t)
    share = means.var(0).mean(0) / means.flatten(0, 1).var(0)
    assert share[:3].mean() < 0.75 * share[3:].mean()


def test_training_depends_on_the_seed_alone():
    torch.manual_seed(1)
    np.random.seed(1)
    one = fitted().get_state()
    before = torch.get_rng_state()
    other = fitted().get_state()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(np.array_equal(one[name], other[name]) for name in one)
    assert not np.array_equal(one["mean.weight"], fitted(seed=1).get_state()["mean.weight"])


def test_images_may_come_from_an_iterator_and_be_of_several_sizes():
    part = fitted(iter([blobs((80, 80)), blobs((16, 200)), blobs((97, 81))]))
    assert np.isfinite(part.extract(blobs()).values).all()


def test_no_training_image_is_the_users_mistake():
    with pytest.raises(UserError, match="data.train: no training image"):
        fitted([])


def test_features_before_training_are_refused_and_there_is_no_state():
    part = VAE(**TINY)
    assert part.get_state() == {}
    part.set_state({})
    with pytest.raises(RuntimeError, match="fit"):
        part.extract(blobs())


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"patch": 10}, "features.patch: 10 must be a multiple of 4"),
        ({"patch": 0}, "features.patch: 0 must be a multiple of 4"),
        ({"stride": 3}, "features.stride: 3 must be even, from 2 to features.patch"),
        ({"stride": 10}, "features.stride: 10 must be even, from 2 to features.patch"),
        ({"semantic": 0}, "features.semantic: 0 must be at least 1"),
        ({"transform": -1}, "features.transform: -1 must be at least 0"),
        ({"channels": []}, "features.channels"),
        ({"channels": [4, 0]}, "features.channels"),
        ({"steps": 0}, "features.steps: 0 must be at least 1"),
        ({"batch": 1}, "features.batch: 1 must be at least 2"),
        ({"copies": 0}, "features.copies: 0 must be at least 1"),
        ({"lr": 0.0}, "features.lr: 0.0 must be above 0"),
        ({"jitter": -1.0}, "features.jitter: -1.0 must be at least 0"),
        ({"scale": [0.0, 1.0]}, "features.scale"),
        ({"scale": [1.5, 0.5]}, "features.scale"),
        ({"scale": [1.0]}, "features.scale"),
        ({"beta": -1.0}, "features.beta"),
        ({"margin": -1.0}, "features.margin"),
    ],
)
def test_arguments_that_make_no_sense(arguments, message):
    with pytest.raises(UserError) as error:
        VAE(**{**TINY, **arguments})
    assert str(error.value).startswith(message) and "\n" not in str(error.value)
