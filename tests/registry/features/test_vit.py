"""DINO's transformer: the same numbers as by PyTorch's own attention, features where they belong, files it takes."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from registry.base import UserError
from registry.features.vit import MEAN, STD, ViT
from tests.registry.dino_checkpoint import made_up_dino, made_up_weights

P = 8  # px of a patch


def image(shape=(32, 32), seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.fixture
def checkpoint(tmp_path):
    made_up_dino(tmp_path / "dino.pth")
    return str(tmp_path / "dino.pth")


def expected(weights, picture, heads, layer=None):
    """Keys and output of block `layer` by PyTorch's functions, for an image of just the grid of `pos_embed`: (N, q)."""
    grey = torch.from_numpy(picture / 6 + 0.5).clamp(0, 1)
    colours = torch.stack([(grey - mean) / std for mean, std in zip(MEAN, STD)])[None]
    width, depth = weights["cls_token"].shape[2], layer or 2

    def norm(x, name):
        return F.layer_norm(x, (width,), weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-6)

    def linear(x, name):
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    x = F.conv2d(colours, weights["patch_embed.proj.weight"], weights["patch_embed.proj.bias"], stride=P)
    x = torch.cat([weights["cls_token"][0], x[0].flatten(1).T]) + weights["pos_embed"][0]
    for number in range(depth):
        block = f"blocks.{number}"
        y = norm(x, f"{block}.norm1")
        keys = linear(y, f"{block}.attn.qkv")[:, width : 2 * width]
        attended, _ = F.multi_head_attention_forward(
            y[:, None],
            y[:, None],
            y[:, None],
            width,
            heads,
            weights[f"{block}.attn.qkv.weight"],
            weights[f"{block}.attn.qkv.bias"],
            None,
            None,
            False,
            0.0,
            weights[f"{block}.attn.proj.weight"],
            weights[f"{block}.attn.proj.bias"],
            need_weights=False,
        )
        x = x + attended[:, 0]
        y = norm(x, f"{block}.norm2")
        x = x + linear(F.gelu(linear(y, f"{block}.mlp.fc1")), f"{block}.mlp.fc2")
    return {"key": keys[1:], "token": (norm(x, "norm") if layer is None else x)[1:]}


# ---------------------------------------------------------------------------------------------------------- numbers
@pytest.mark.parametrize("facet", ["key", "token"])
@pytest.mark.parametrize("layer", [None, 1, 2])
@pytest.mark.parametrize("heads", [None, 4])
def test_features_are_those_of_the_transformer(checkpoint, facet, layer, heads):
    features = ViT(checkpoint=checkpoint, facet=facet, layer=layer, heads=heads).extract(image())
    known = expected(made_up_weights(), image(), heads or 1, layer)[facet].view(4, 4, 16)
    np.testing.assert_allclose(features.values, known.numpy(), atol=1e-4)


def test_one_head_for_64_channels(tmp_path):
    weights = made_up_dino(tmp_path / "wide.pth", width=192, depth=2)
    values = ViT(checkpoint=str(tmp_path / "wide.pth"), facet="token").extract(image()).values
    known = expected(weights, image(), heads=3)["token"].view(4, 4, 192)
    np.testing.assert_allclose(values, known.numpy(), atol=1e-3)


def test_grey_values_beyond_three_deviations_are_cut_off(checkpoint):
    part = ViT(checkpoint=checkpoint)
    bright, brighter = (part.extract(np.full((32, 32), grey, np.float32)).values for grey in (3, 30))
    assert np.array_equal(bright, brighter)


def test_positions_are_interpolated_along_the_right_axis(tmp_path):
    """Keys of the first block, of a flat image, tell a token's position and nothing else."""
    weights = made_up_weights()
    row = torch.linspace(0, 1, 4)[:, None].expand(4, 4).reshape(16)
    weights["pos_embed"][:, 1:] = row[None, :, None] * torch.randn(16, generator=torch.Generator().manual_seed(1))
    torch.save(weights, tmp_path / "rows.pth")
    values = ViT(checkpoint=str(tmp_path / "rows.pth"), layer=1).extract(np.zeros((72, 48), np.float32)).values
    assert values.shape == (9, 6, 16)
    np.testing.assert_allclose(values, values[:, :1].repeat(6, 1), atol=1e-5)
    steps = np.linalg.norm(np.diff(values[:, 0], axis=0), axis=1)
    assert steps.min() > 1e-3


# ----------------------------------------------------------------------------------------------------------- places
class MeanOfPatch(torch.nn.Module):
    """Stands in for the transformer: the feature of a patch is its mean grey value, so that places can be checked."""

    patch = P

    def forward(self, colours, stride, facet, layer):
        grey = (colours[:, :1] * STD[0] + MEAN[0] - 0.5) * 6
        return F.avg_pool2d(grey, P, stride)[0].permute(1, 2, 0)


@pytest.mark.parametrize("stride, offset", [(None, 3.5), (8, 3.5), (6, 2.5), (5, 2.5), (4, 1.5), (1, 0.5)])
@pytest.mark.parametrize("shape", [(48, 48), (43, 61)])
def test_a_token_lies_where_the_map_says(stride, offset, shape):
    part = ViT(stride=stride)
    part._network = MeanOfPatch()
    step = stride or P
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32) / 20
    for ramp in (y, x):
        features = part.extract(ramp)
        assert (features.step, features.offset, features.shape) == (step, offset, shape)
        rows, columns = (offset + step * np.arange(-(-side // step)) for side in shape)
        assert features.values.shape == (len(rows), len(columns), 1)
        inside = np.ix_((rows >= 3.5) & (rows <= shape[0] - 4.5), (columns >= 3.5) & (columns <= shape[1] - 4.5))
        known = (rows[:, None] if ramp is y else columns[None, :]) / 20 + np.zeros(features.values.shape[:2])
        np.testing.assert_allclose(features.values[..., 0][inside], known[inside], atol=1e-5)


@pytest.mark.parametrize("place", [(0, 0), (17, 30), (39, 55)])
def test_an_impulse_lights_its_own_patch_only(checkpoint, place):
    """The first block's keys know their own patch only."""
    part = ViT(checkpoint=checkpoint, layer=1)
    dark, lit = image((40, 56)), image((40, 56))
    lit[place] += 2
    change = np.abs(part.extract(lit).values - part.extract(dark).values).sum(2)
    assert np.argwhere(change > 1e-6).tolist() == [[place[0] // P, place[1] // P]]


def test_the_callers_image_is_left_alone(checkpoint):
    picture = image()
    ViT(checkpoint=checkpoint, stride=4).extract(picture)
    assert np.array_equal(picture, image())


# ------------------------------------------------------------------------------------------------------ checkpoints
def test_all_kinds_of_files_give_the_same_features(tmp_path, checkpoint, monkeypatch):
    made_up_dino(tmp_path / "run.pth", wrapped=True)
    made_up_dino(tmp_path / "timm.safetensors")
    monkeypatch.setenv("WEIGHTS_HERE", str(tmp_path))
    files = checkpoint, str(tmp_path / "run.pth"), "${WEIGHTS_HERE}/timm.safetensors"
    parts = [ViT(checkpoint=file) for file in files]
    first = parts[0].extract(image()).values
    for part in parts[1:]:
        assert np.array_equal(part.extract(image()).values, first)
        assert part.fingerprint() == parts[0].fingerprint()


def test_a_classifiers_head_is_ignored(tmp_path, checkpoint):
    torch.save({**made_up_weights(), "head.weight": torch.zeros(10, 16)}, tmp_path / "head.pth")
    assert ViT(checkpoint=str(tmp_path / "head.pth")).fingerprint() == ViT(checkpoint=checkpoint).fingerprint()


def test_fingerprint_follows_the_weights(tmp_path, checkpoint):
    made_up_dino(tmp_path / "other.pth", seed=1)
    assert ViT(checkpoint=str(tmp_path / "other.pth")).fingerprint() != ViT(checkpoint=checkpoint).fingerprint()


def test_state_makes_a_model_independent_of_the_file(tmp_path):
    halves = {name: value.half() for name, value in made_up_weights().items()}
    torch.save(halves, tmp_path / "half.pth")
    part, again = ViT(checkpoint=str(tmp_path / "half.pth")), ViT(checkpoint="gone.pth")
    assert part.get_state()["cls_token"].dtype == np.float16
    again.set_state(part.get_state())
    assert np.array_equal(again.extract(image()).values, part.extract(image()).values)
    assert again.fingerprint() == part.fingerprint()


@pytest.mark.parametrize(
    "checkpoint, words",
    [
        ("", "none given; use weights of DINO, a .pth file of github.com/facebookresearch/dino"),
        ("${NO_SUCH_VARIABLE}/dino.pth", "the environment variable NO_SUCH_VARIABLE is not set"),
        ("none.pth", "no file none.pth; use weights of DINO"),
    ],
)
def test_without_a_checkpoint_the_user_is_told_how_to_get_one(checkpoint, words):
    part = ViT(checkpoint=checkpoint)  # a recipe may be read and shown without the file
    for use in (part.fingerprint, lambda: part.extract(image())):
        with pytest.raises(UserError) as error:
            use()
        assert str(error.value).startswith("features.checkpoint: ") and words in str(error.value)
        assert "\n" not in str(error.value)


def without(name):
    return {key: value for key, value in made_up_weights().items() if key != name}


@pytest.mark.parametrize(
    "content, words",
    [
        ("text", "cannot be read as weights"),
        ([1, 2], "not a ViT of DINO's layout: it lacks"),
        (without("blocks.0.norm2.bias"), "it lacks blocks.0.norm2.bias;"),
        (without("cls_token"), "it lacks cls_token;"),
        ({**made_up_weights(), "blocks.0.ls1.gamma": torch.ones(16)}, "it has blocks.0.ls1.gamma;"),  # DINOv2
        ({**made_up_weights(), "register_tokens": torch.ones(1, 4, 16)}, "it has register_tokens;"),
        ({**made_up_weights(), "pos_embed": torch.zeros(1, 16, 16)}, "15 positions are not a square grid"),
        ({**made_up_weights(), "patch_embed.proj.weight": torch.zeros(16, 1, 8, 8)}, "square patches of 3 colours"),
        (
            {**made_up_weights(), "norm.bias": torch.zeros(17)},
            "not a ViT of DINO's layout .*size mismatch for norm.bias",
        ),
    ],
)
def test_files_of_another_kind_are_the_users_mistake(tmp_path, content, words):
    path = tmp_path / "dino.pth"
    path.write_text(content) if isinstance(content, str) else torch.save(content, path)
    with pytest.raises(UserError, match=words) as error:
        ViT(checkpoint=str(path)).extract(image())
    assert "\n" not in str(error.value)


def test_a_damaged_safetensors_file_is_the_users_mistake(tmp_path):
    (tmp_path / "dino.safetensors").write_bytes(b"not a checkpoint")
    with pytest.raises(UserError, match="cannot be read as weights"):
        ViT(checkpoint=str(tmp_path / "dino.safetensors")).fingerprint()


class Harmful:
    def __reduce__(self):
        return math.sqrt, (4.0,)


def test_a_file_that_would_run_code_is_refused(tmp_path):
    torch.save({"teacher": Harmful()}, tmp_path / "dino.pth")
    with pytest.raises(UserError, match="cannot be read as weights"):
        ViT(checkpoint=str(tmp_path / "dino.pth")).fingerprint()


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"heads": 3}, "features.heads: 3 must divide the checkpoint's width, 16"),
        ({"layer": 3}, "features.layer: 3 must be 1 to 2"),
        ({"stride": 9}, "features.stride: 9 must be at most 8"),
        ({"layer": 0}, "features.layer: 0 must be at least 1"),
        ({"heads": 0}, "features.heads: 0 must be at least 1"),
        ({"stride": -1}, "features.stride: -1 must be at least 1"),
    ],
)
def test_wrong_options_name_key_value_and_mending(checkpoint, wrong, words):
    with pytest.raises(UserError, match=words):
        ViT(checkpoint=checkpoint, **wrong).extract(image())
