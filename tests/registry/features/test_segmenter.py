"""Segmenter and ViT: class scores of a transformer that was trained on labels."""

import numpy as np
import pytest
import torch

from registry.base import UserError
from registry.features.segmenter import LinearHead, MaskTransformer, Segmenter, _Windows

SMALL = {"checkpoint": None, "depth": 1, "batch": 2, "seed": 0}


def stripes(shape: tuple[int, int] = (90, 100), seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Dark, grey and bright stripes of 30 px or so, with noise, as classes 0, 1, 2; the lowest rows have no label."""
    label = np.broadcast_to(np.arange(shape[1]) // 34, shape).astype(np.int32).copy()
    image = 1.2 * (label - 1) + np.random.default_rng(seed).normal(0, 0.2, shape)
    label[-10:] = -1
    return image.astype(np.float32), label


def predicted(part: Segmenter, image: np.ndarray) -> np.ndarray:
    """Classes on the token grid (h, w)."""
    return part.extract(image).values.argmax(2)


@pytest.fixture(scope="module", params=["linear", "mask_transformer"])
def part(request) -> Segmenter:
    torch.set_num_threads(1)
    part = Segmenter(head=request.param, steps=60, lr=1e-3, **SMALL)
    image, label = stripes()
    part.fit([image], [label])
    return part


def test_it_learns_from_labels(part):
    assert part.losses_[-5:].mean() < 0.5 * part.losses_[:5].mean()
    image, label = stripes(seed=1)
    centres = label[2:80:5, 2::5]
    assert (predicted(part, image)[: len(centres)] == centres).mean() > 0.9


def test_there_is_a_score_for_each_class_and_token(part):
    features = part.extract(stripes((83, 121))[0])
    assert features.values.shape == (17, 25, 3) and (features.step, features.offset) == (5, 2)


def test_a_saved_part_needs_no_checkpoint(part):
    other = Segmenter(**{**SMALL, "checkpoint": "no/such/file"}, head=part.head, steps=60, lr=1e-3)
    other.set_state(part.get_state())
    image = stripes()[0]
    assert np.array_equal(other.extract(image).values, part.extract(image).values)


@pytest.mark.parametrize("head", ["linear", "mask_transformer"])
def test_images_without_a_label_teach_nothing(head):
    image, label = stripes()
    part = Segmenter(head=head, steps=3, **SMALL)
    part.fit([image, stripes(seed=1)[0]], [label, np.full_like(label, -1)])
    alone = Segmenter(head=head, steps=3, **SMALL)
    alone.fit([image], [label])
    assert np.array_equal(part.losses_, alone.losses_)


def test_the_seed_decides_and_the_global_state_does_not():
    image, label = stripes()
    losses = []
    for seed, state in ((0, 1), (0, 2), (3, 1)):
        torch.manual_seed(state)
        np.random.seed(state)
        part = Segmenter(**{**SMALL, "seed": seed}, steps=2)
        before = torch.random.get_rng_state()
        part.fit([image], [label])
        assert torch.equal(torch.random.get_rng_state(), before)
        losses.append(part.losses_)
    assert np.array_equal(losses[0], losses[1]) and not np.array_equal(losses[0], losses[2])


def test_it_starts_from_the_first_blocks_of_the_bundled_encoder():
    from registry.features.mae import MAE

    image, label = stripes()
    part = Segmenter(checkpoint="bundled", depth=2, steps=1, batch=1, lr=1e-12, seed=0)
    part.fit([image], [label])
    window = torch.from_numpy(image[None, :80, :80])
    with torch.no_grad():
        tokens = part._network[0](window, layer=2)
        expected = MAE(layer=2).encode(window)
    np.testing.assert_allclose(tokens.numpy(), expected.numpy(), atol=1e-4)


def test_mask_scores_are_cosines_normalised_over_classes():
    torch.manual_seed(0)
    head = MaskTransformer(width=12, classes=5)
    tokens = torch.randn(2, 9, 12)
    scores = head(tokens)
    assert scores.shape == (2, 9, 5)
    torch.testing.assert_close(scores.mean(2), torch.zeros(2, 9), atol=1e-5, rtol=0)
    head.scale = torch.nn.Identity()
    assert head(tokens).abs().max() <= 1 + 1e-5


def test_heads_treat_all_tokens_alike():
    torch.manual_seed(0)
    tokens, order = torch.randn(1, 9, 12).double(), torch.randperm(9)  # the order of summation is no matter of ours
    for head in (LinearHead(12, 4).double(), MaskTransformer(width=12, classes=4).double()):
        torch.testing.assert_close(head(tokens[:, order]), head(tokens)[:, order])


def test_windows_show_small_classes_and_keep_labels_on_their_pixels():
    label = np.zeros((300, 400), np.int32)
    label[10:14, 390:394] = 1
    image = np.where(label == 1, 5, 0).astype(np.float32)
    windows, labels = _Windows([(image, label)], 80, np.random.default_rng(0))(40)
    assert windows.shape == labels.shape == (40, 80, 80) and windows.dtype == np.float32
    assert (labels == 1).any(axis=(1, 2)).sum() >= 5  # one window in four, in the mean; by chance it is one in fifty
    for window, truth in zip(windows, labels):
        assert np.array_equal(window > window.min() + 1, truth == 1)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"steps": 0}, "features.steps: 0 must be"),
        ({"depth": 0}, "features.depth: 0 must be"),
        ({"batch": 0}, "features.batch: 0 must be"),
        ({"lr": 0.0}, "features.lr: 0.0 must be"),
        ({"stride": 42}, "features.stride: 42 must be"),
        ({"stride": 85}, "features.stride: 85 must be"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(UserError, match=f"^{message}"):
        Segmenter(**arguments)


def test_what_cannot_be_trained_is_refused():
    image, label = stripes()
    with pytest.raises(UserError, match="^data.train: segmenter needs labels, but no training image has any"):
        Segmenter(**SMALL).fit([image], [np.full_like(label, -1)])
    with pytest.raises(UserError, match="^features.depth: 15, but the checkpoint has 14 blocks"):
        Segmenter(depth=15).fit([image], [label])
    with pytest.raises(UserError, match="no file nowhere.safetensors"):
        Segmenter(checkpoint="nowhere.safetensors").fit([image], [label])


def test_asked_before_it_is_fitted_it_says_so():
    with pytest.raises(ValueError, match="not been fitted"):
        Segmenter().extract(stripes()[0])


def test_fields_of_view_smaller_than_what_it_learns_from_are_told():
    with pytest.raises(UserError, match="needs FOVs of at least 80 px, got 50; raise data.fov"):
        _Windows([stripes((50, 90))], 80, np.random.default_rng(0))
