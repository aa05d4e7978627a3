"""The student with convolutions of eight bits, for processors that multiply bytes natively.

Activations are whole multiples of a step, one for each layer; weights, of one for each output channel. The step of a
layer follows from its largest activation on synthetic noise, thus from the weights alone: features depend neither on
the field of view nor on the training images. What exceeds the range is cut off. The first layer and the mixing of
scales are computed in floating point. Time and exactness: benchmarks/speed/student.py.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from registry.mae.student import Convolution, Residual, Student
from registry.numeric.processor import multiplies_int8

SIDE, GRAINS = 256, (1, 2, 4, 8)  # of the noise, px


def available(device: str) -> bool:
    """Whether the CPU has quick products of bytes, and this build of torch convolutions that use them."""
    return device == "cpu" and multiplies_int8() and hasattr(torch.ops.onednn, "qconv2d_pointwise")


def noise() -> Tensor:
    """Standardised images (8, SIDE, SIDE) of noise of different grain, smooth and of two values."""
    generator, images = torch.Generator().manual_seed(0), []
    for grain in GRAINS:
        small = torch.randn(1, 1, SIDE // grain, SIDE // grain, generator=generator)
        image = F.interpolate(small, scale_factor=grain, mode="bilinear")[0, 0] if grain > 1 else small[0, 0]
        images += [(image - image.mean()) / image.std(), 1.5 * image.sign()]
    return torch.stack(images)


class EightBits:
    """Called like the student that it is made from (fused, in float32). kind: number format of the mixing of scales."""

    def __init__(self, student: Student, kind: torch.dtype):
        steps = _steps(student)
        self.first, *others = student.fine
        self.kind, self.step, self.mixing = kind, steps[self.first], copy.deepcopy(student).to(kind)
        self.scales: list[tuple[list[_Layer | _Sum], float]] = []  # layers of each scale, and the step that they end in
        step = self.step
        for layers in (others, student.middle, student.coarse):
            made: list[_Layer | _Sum] = []
            for layer in layers:
                made.append(_Sum(layer, step, steps) if isinstance(layer, Residual) else _Layer(layer, step, steps))
                step = steps[layer]
            self.scales.append((made, step))

    def __call__(self, images: Tensor) -> Tensor:
        """Standardised images (B, H, W) float32, sides multiples of 8 -> features (B, out, H/4, W/4) of `kind`."""
        x = self.first(images[:, None].contiguous(memory_format=torch.channels_last))
        x = x.div_(self.step).round_().clamp_(max=255).to(torch.uint8)
        found = []
        for layers, step in self.scales:
            for layer in layers:
                x = layer(x)
            found.append(x.to(self.kind).mul_(step))
        fine, middle, coarse = found
        return self.mixing.combined(F.avg_pool2d(fine, 2), middle, coarse)


class _Layer:
    """A convolution with its ReLU: (B, C, H, W) uint8 -> the same. step: of the input; steps: of the outputs."""

    def __init__(self, layer: nn.Module, step: float, steps: Mapping[nn.Module, float], out: nn.Module | None = None):
        convolution = next(layer.children())
        assert isinstance(convolution, nn.Conv2d)
        weight = convolution.weight.detach()
        self.step, self.out, self.pad = step, steps[out or layer], int(convolution.padding[0])
        self.bias = None if convolution.bias is None else convolution.bias.detach()
        self.scale, self.zero = weight.abs().amax((1, 2, 3)).clamp(min=1e-8) / 127, torch.zeros(len(weight)).int()
        rounded = (weight / self.scale[:, None, None, None]).round().to(torch.int8)
        self.how = list(convolution.stride), [0, 0], [1, 1], 1
        self.weight = torch.ops.onednn.qconv_prepack(rounded, self.scale, step, 0, *self.how, None)

    def __call__(self, x: Tensor, add: Tensor | None = None, at: float = 0.0) -> Tensor:
        """add: is added before the ReLU, and overwritten with the result; at: its step."""
        given = reflected(x, self.pad), self.step, 0, self.weight, self.scale, self.zero
        to = *self.how, self.out, 0, torch.uint8
        if add is None:
            return torch.ops.onednn.qconv2d_pointwise(*given, self.bias, *to, "relu", [], "")
        summed = torch.ops.onednn.qconv2d_pointwise.binary
        return summed(*given, add, self.bias, *to, at, 0, "sum", 1.0, "relu", [], "")


class _Sum:
    """Two convolutions with a skip connection."""

    def __init__(self, layer: Residual, step: float, steps: Mapping[nn.Module, float]):
        first, second = layer.body
        self.step, self.first, self.second = (
            step,
            _Layer(first, step, steps),
            _Layer(second, steps[first], steps, layer),
        )

    def __call__(self, x: Tensor) -> Tensor:
        return self.second(self.first(x), x, self.step)


def _steps(student: Student) -> dict[nn.Module, float]:
    """The step of each layer's output: a power of the fourth root of two, so that rounding does not change it."""
    largest: dict[nn.Module, float] = {}

    def keep(layer: nn.Module, _: Any, output: Tensor) -> None:
        largest[layer] = float(output.abs().max())

    layers = [each for each in student.modules() if isinstance(each, (Convolution, Residual))]
    hooks = [layer.register_forward_hook(keep) for layer in layers]
    try:
        with torch.inference_mode():
            student(noise())
    finally:
        for hook in hooks:
            hook.remove()
    return {layer: 2 ** (math.ceil(4 * math.log2(max(value, 1e-6) / 255)) / 4) for layer, value in largest.items()}


def reflected(x: Tensor, pad: int) -> Tensor:
    """Images (B, C, H, W) uint8, channels last, extended by reflection, which torch does not do for bytes."""
    if not pad:
        return x
    (B, C, H, W), inner = x.shape, slice(pad, -pad)
    size = B, C, H + 2 * pad, W + 2 * pad
    out = torch.empty(size, dtype=x.dtype, memory_format=torch.channels_last)
    out[:, :, inner, inner] = x
    for k in range(1, pad + 1):
        out[:, :, pad - k, inner], out[:, :, pad + H - 1 + k, inner] = x[:, :, k], x[:, :, -1 - k]
    for k in range(1, pad + 1):
        out[:, :, :, pad - k], out[:, :, :, pad + W - 1 + k] = out[:, :, :, pad + k], out[:, :, :, pad + W - 1 - k]
    return out
