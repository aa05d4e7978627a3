"""The student in eight bits: layer by layer what whole numbers give, and independent of what surrounds a pixel."""

import pytest
import torch
import torch.nn.functional as F

from registry.mae.eight_bits import EightBits, _Layer, _steps, noise, reflected
from registry.mae.student import Convolution, Residual, Student, fused


@pytest.fixture
def student():
    torch.manual_seed(0)
    student = Student(width=8, out=12)
    for module in student.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
            torch.nn.init.normal_(module.bias)
    return fused(student)


@pytest.mark.parametrize("pad", [0, 1, 2])
def test_reflection_is_that_of_torch(pad):
    x = torch.randint(0, 256, (2, 5, 7, 6), dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    expected = F.pad(x.float(), (pad,) * 4, mode="reflect")
    assert torch.equal(reflected(x, pad).float(), expected)
    assert reflected(x, pad).is_contiguous(memory_format=torch.channels_last)


def test_a_layer_is_the_convolution_of_whole_numbers(student):
    steps = _steps(student)
    layer = student.middle[0]
    made = _Layer(layer, 0.05, steps)
    x = torch.randint(0, 256, (1, 8, 20, 24), dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    found = made(x).float()
    weight = (layer[0].weight / made.scale[:, None, None, None]).round() * made.scale[:, None, None, None]
    padded = F.pad(x.float() * 0.05, (layer[0].padding[0],) * 4, mode="reflect")
    exact = F.conv2d(padded, weight, layer[0].bias, stride=2).relu() / steps[layer]
    assert (found - exact.round().clamp(max=255)).abs().max() <= 1
    assert ((found - exact.clamp(max=255)).abs() <= 0.5 + 1e-3).all()


def test_features_are_near_those_of_floats(student):
    images = torch.randn(2, 64, 72, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        exact, found = student(images), EightBits(student, torch.float32)(images)
    assert found.shape == exact.shape and found.dtype == torch.float32
    apart = ((found - exact) / exact.std((0, 2, 3), keepdim=True)).square().mean().sqrt()
    assert 0 < apart < 0.1


def test_steps_are_those_of_the_weights_alone_and_cover_the_noise(student):
    steps, again = _steps(student), _steps(student)
    layers = {each for each in student.modules() if isinstance(each, (Convolution, Residual))}
    assert steps == again and set(steps) == layers - {student.mix}
    first = student.fine[0]
    with torch.inference_mode():
        largest = float(first(noise()[:, None]).max())
    assert 1 <= 255 * steps[first] / largest < 2**0.25 + 1e-6
