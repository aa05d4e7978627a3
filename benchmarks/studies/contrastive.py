"""A small convolutional net (0.5 M weights) that learns, without labels, to find a place of an image in another view.

Views are rotated, mirrored, scaled, brightened and made noisier; a place is distinguished from the other places of the
batch (InfoNCE, van den Oord et al. 2018). The net is not part of SCCS: it shows whether better features give better
clusters.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional

CROP, BATCH, POINTS = 128, 12, 48  # px; crops a step; places of a crop
SHIFT, TEMPERATURE = 4.0, 0.2  # px that a place moves between views; of InfoNCE
RATE, WARMUP = 2e-3, 50  # of AdamW; steps


def _layer(channels: int, out: int, side: int = 3, stride: int = 1, last: bool = False) -> nn.Sequential:
    parts = [nn.Conv2d(channels, out, side, stride, side // 2, padding_mode="reflect", bias=False), nn.BatchNorm2d(out)]
    return nn.Sequential(*parts, *([] if last else [nn.ReLU(inplace=True)]))


class _Residual(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.body = nn.Sequential(_layer(width, width), _layer(width, width, last=True))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(x + self.body(x))


class Net(nn.Module):
    """Images (B, 1, H, W) to features (B, 128, H/4, W/4) of three scales; `head` maps these to
    the compared vectors (B, 64, ...)."""

    def __init__(self, width: int = 24, out: int = 128, compared: int = 64):
        super().__init__()
        self.fine = nn.Sequential(_layer(1, width, 5, 2), _Residual(width))
        self.middle = nn.Sequential(_layer(width, 2 * width, stride=2), _Residual(2 * width))
        self.coarse = nn.Sequential(_layer(2 * width, 4 * width, stride=2), _Residual(4 * width), _Residual(4 * width))
        self.mix = _layer(7 * width, out, 1)
        self.head = nn.Sequential(_layer(out, out, 1), nn.Conv2d(out, compared, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Features of the images, see the class."""
        fine = self.fine(x)
        middle = self.middle(fine)
        coarse = functional.interpolate(self.coarse(middle), size=middle.shape[2:], mode="bilinear")
        return self.mix(torch.cat([functional.avg_pool2d(fine, 2, ceil_mode=True), middle, coarse], 1))


def pair(image: torch.Tensor, rng: np.random.Generator) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Two views (1, CROP, CROP) of one place of image (1, H, W), and in each the same places (1, POINTS, 2) as (x, y)
    from -1 to 1."""
    H, W = image.shape[1:]
    centre = np.array([rng.uniform(min(0.6 * CROP, n / 2), max(n - 0.6 * CROP, n / 2)) for n in (H, W)])
    angle, radius = rng.uniform(0, 2 * np.pi, POINTS), rng.uniform(0, 0.42 * CROP, POINTS)
    places = radius[:, None] * np.stack([np.sin(angle), np.cos(angle)], 1)  # y, x from the centre, px
    along = np.arange(CROP) + 0.5 - CROP / 2
    found = []
    for shift in (0.0, SHIFT):
        turn, mirror, scale = rng.uniform(0, 2 * np.pi), rng.choice([-1, 1]), np.exp(rng.uniform(-0.25, 0.25))
        M = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ np.diag([mirror, 1]) * scale
        y, x = (np.stack(np.meshgrid(along, along, indexing="ij"), -1) @ M.T + centre).transpose(2, 0, 1)
        grid = torch.from_numpy(np.stack([2 * x / W - 1, 2 * y / H - 1], -1).astype(np.float32))[None]
        view = functional.grid_sample(image[None], grid, padding_mode="reflection", align_corners=False)[0]
        view = view * np.exp(rng.normal(0, 0.15)) + rng.normal(0, 0.15)
        if rng.random() < 0.5:
            view = view + torch.from_numpy(rng.normal(0, rng.uniform(0, 0.3), view.shape))
        if rng.random() < 0.3:
            view = functional.avg_pool2d(view[None], 3, 1, 1)[0]
        moved = (places + rng.normal(0, shift, places.shape)) @ np.linalg.inv(M).T * 2 / CROP
        found.append((view.float(), torch.from_numpy(moved[:, ::-1].astype(np.float32).copy())[None]))
    return found


def contrastive(images: Sequence[torch.Tensor], steps: int, seed: int) -> Net:
    """A net trained on standardised images (1, H, W)."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    net = Net().to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
    adam = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=1e-4)
    rate = torch.optim.lr_scheduler.LambdaLR(
        adam, lambda i: min(1, (i + 1) / WARMUP) * (1 + np.cos(np.pi * i / max(steps, 1))) / 2
    )
    for _ in range(steps):
        pairs = [pair(images[int(rng.integers(len(images)))], rng) for _ in range(BATCH)]
        views, places = (torch.stack([both[i][j] for i in (0, 1) for both in pairs]) for j in (0, 1))
        seen = functional.grid_sample(net.head(net(views)), places, align_corners=False)  # (2 BATCH, 64, 1, POINTS)
        first, second = functional.normalize(seen[:, :, 0].transpose(1, 2), dim=2).flatten(0, 1).chunk(2)
        likeness = first @ second.T / TEMPERATURE
        same = torch.arange(len(first))
        loss = (functional.cross_entropy(likeness, same) + functional.cross_entropy(likeness.T, same)) / 2
        adam.zero_grad()
        loss.backward()
        adam.step()
        rate.step()
    return net.eval()
