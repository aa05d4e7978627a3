"""The student's geometry: where its features lie, what they depend on, and that folding changes nothing."""

import pytest
import torch

from registry.mae.student import COARSEST, MARGIN, STEP, Student, features, fused


@pytest.fixture
def student():
    """With statistics of its own, as after training."""
    torch.manual_seed(0)
    net = Student(width=4, out=6)
    for _ in range(3):
        net(torch.randn(2, 64, 64))
    return net.eval()


def noise(H, W):
    return torch.randn(H, W, generator=torch.Generator().manual_seed(1))


def test_folding_the_normalisation_in_changes_nothing(student):
    image = noise(64, 80)
    before = features(student, image)
    names = set(fused(student).state_dict())
    torch.testing.assert_close(features(student, image), before, atol=1e-5, rtol=1e-4)
    assert not any("running" in name for name in names)


def test_a_feature_depends_on_its_surroundings_only(student):
    fused(student)
    image, far = noise(264, 264), 8 * COARSEST
    whole, part = features(student, image), features(student, image[far:, far:])
    inside = MARGIN // STEP
    torch.testing.assert_close(whole[far // STEP :, far // STEP :][inside:, inside:], part[inside:, inside:])
    assert not torch.allclose(whole[far // STEP :, far // STEP :][:2, :2], part[:2, :2], atol=1e-3)


def test_scales_are_mixed_as_they_were_taught(student):
    """As one convolution of all three, side by side at a quarter of the pixels."""
    image = noise(64, 80)[None]
    fine = student.fine(image[:, None])
    middle = student.middle(fine)
    coarse = torch.nn.functional.interpolate(student.coarse(middle), scale_factor=2, mode="bilinear")
    mixed = student.mix(torch.cat([torch.nn.functional.avg_pool2d(fine, 2), middle, coarse], 1))
    torch.testing.assert_close(student(image), student.last(mixed), atol=1e-5, rtol=1e-4)


def test_features_lie_where_they_say(student):
    """A mirrored image has mirrored features if kernels are symmetric: no offset at any scale."""
    fused(student)
    for module in student.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.weight.data = (module.weight.data + module.weight.data.flip(2, 3)) / 2
    image = noise(128, 96)
    turned = features(student, image.flip(0, 1)).flip(0, 1)
    torch.testing.assert_close(turned, features(student, image), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("shape", [(16, 16), (83, 97), (64, 70), (17, 90)])
def test_any_size_is_covered(student, shape):
    found = features(fused(student), noise(*shape))
    assert found.shape == (-(-shape[0] // 4), -(-shape[1] // 4), 6) and torch.isfinite(found).all()
