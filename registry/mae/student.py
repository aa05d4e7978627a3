"""A convolutional net distilled from a masked autoencoder: nearly the same features in a fraction of the time.

Three scales, at a half, a quarter and an eighth of the resolution, are combined at a quarter. Strided kernels are even
and centred, so that feature (i, j) lies at pixel (4i + 1.5, 4j + 1.5) at every scale. Images are extended by
reflection. There are no windows: a feature depends only on pixels up to `MARGIN` away, not on its position in the
image.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

STEP = 4  # px between features
COARSEST = 8  # px; sides are padded to multiples, and a shift by a multiple shifts the features
MARGIN = 64  # px, receptive field of a feature to each side


class Convolution(nn.Sequential):
    """Convolution, batch normalisation and, unless `last`, ReLU; the border is padded by reflection."""

    def __init__(self, channels: int, out: int, side: int = 3, stride: int = 1, last: bool = False):
        pad = (side - stride) // 2
        conv = nn.Conv2d(channels, out, side, stride, pad, padding_mode="reflect" if pad else "zeros", bias=False)
        super().__init__(conv, nn.BatchNorm2d(out), nn.Identity() if last else nn.ReLU(inplace=True))


class Residual(nn.Module):
    """(B, width, h, w) -> the same: two convolutions with a skip connection."""

    def __init__(self, width: int):
        super().__init__()
        self.body = nn.Sequential(Convolution(width, width), Convolution(width, width, last=True))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x).add_(x).relu_()  # no third array of this size


class Student(nn.Module):
    """Standardised images (B, H, W), sides multiples of 8 -> features (B, out, H/4, W/4)."""

    def __init__(self, *, width: int = 32, out: int = 192):
        super().__init__()
        self.fine = nn.Sequential(Convolution(1, width, 6, 2), Residual(width))
        self.middle = nn.Sequential(Convolution(width, 2 * width, 4, 2), Residual(2 * width))
        self.coarse = nn.Sequential(Convolution(2 * width, 4 * width, 4, 2), Residual(4 * width), Residual(4 * width))
        self.mix = Convolution(7 * width, 6 * width, 1)
        self.last = nn.Conv2d(6 * width, out, 1)

    def forward(self, images: Tensor) -> Tensor:
        fine = self.fine(images[:, None].contiguous(memory_format=torch.channels_last))
        middle = self.middle(fine)
        return self.combined(F.avg_pool2d(fine, 2), middle, self.coarse(middle))

    def combined(self, fine: Tensor, middle: Tensor, coarse: Tensor) -> Tensor:
        """Features from the three scales (B, channels, h, w): `fine`, averaged, and `middle` at a quarter of the
        resolution, `coarse` at an eighth."""
        near = torch.cat([fine, middle], 1)
        convolution, *after = self.mix
        assert isinstance(convolution, nn.Conv2d)
        of_near, of_coarse = convolution.weight.tensor_split([near.shape[1]], 1)
        # mixing is linear, so the coarse scale is mixed at a quarter of the positions and then upsampled
        coarse = F.interpolate(pointwise(coarse, of_coarse), scale_factor=2, mode="bilinear")
        mixed = pointwise(near, of_near, convolution.bias).add_(coarse)
        for layer in after:
            mixed = layer(mixed)
        return pointwise(mixed, self.last.weight, self.last.bias)


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """1 x 1 convolution, (B, channels, h, w) -> (B, out, h, w), as one product, which uses the same kernel on any
    number of threads, unlike `conv2d`."""
    return F.linear(x.permute(0, 2, 3, 1), weight[:, :, 0, 0], bias).permute(0, 3, 1, 2)


def fused(student: Student) -> Student:
    """The stored form, for evaluation: folds every batch normalisation into its convolution, in place."""
    student.eval()
    for module in student.modules():
        if isinstance(module, Convolution):
            convolution, normalisation = module[0], module[1]
            assert isinstance(convolution, nn.Conv2d) and isinstance(normalisation, nn.BatchNorm2d)
            module[0], module[1] = fuse_conv_bn_eval(convolution, normalisation), nn.Identity()
    return student.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it


def features(student: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
    """Image (H, W) of any size -> features (ceil(H/4), ceil(W/4), out); images (B, H, W) -> (B, ...)."""
    H, W = image.shape[-2:]
    padded = F.pad(image.view(-1, H, W), (0, -W % COARSEST, 0, -H % COARSEST), mode="reflect")
    with torch.inference_mode():
        found = student(padded)[:, :, : -(-H // STEP), : -(-W // STEP)].permute(0, 2, 3, 1)
        return found.view(*image.shape[:-2], *found.shape[1:])
