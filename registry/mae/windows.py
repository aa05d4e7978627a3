"""Tokens of a whole image, from a transformer that sees one window at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from registry.base import chunks


def windowed(
    image: np.ndarray,
    encode: Callable[[Tensor], Tensor],
    q: int,
    *,
    window: int,
    patch: int,
    stride: int,
    batch: int,
    device: str,
) -> np.ndarray:
    """Tokens (ceil(H/p), ceil(W/p), q) float32 of an image (H, W) by windows, averaged where windows overlap.

    encode: windows (B, window, window) -> (B, N, q). The image is padded by reflection at its right and lower edge
    until windows cover it.
    """
    H, W = image.shape
    h, w = -(-H // patch), -(-W // patch)
    rows, columns = _starts(h * patch, window, stride), _starts(w * patch, window, stride)
    padding = (0, rows[-1] + window - H), (0, columns[-1] + window - W)
    padded = torch.from_numpy(np.pad(np.asarray(image, np.float32), padding, mode="reflect")).to(device)
    side = window // patch  # tokens along a window's side
    shape = padded.shape[0] // patch, padded.shape[1] // patch
    total = torch.zeros(*shape, q, device=device)
    count = torch.zeros(*shape, 1, device=device)
    with torch.inference_mode():
        for corners in chunks([(y, x) for y in rows for x in columns], batch):
            windows = torch.stack([padded[y : y + window, x : x + window] for y, x in corners])
            tokens = encode(windows)  # (B, N, q)
            for (y, x), block in zip(corners, tokens.view(-1, side, side, q)):
                here = slice(y // patch, y // patch + side), slice(x // patch, x // patch + side)
                total[here] += block
                count[here] += 1
    return (total / count)[:h, :w].contiguous().cpu().numpy()


def _starts(length: int, window: int, stride: int) -> list[int]:
    """Corners of the windows along an axis: every `stride` px, until one reaches the end or passes it."""
    steps = -(-max(length - window, 0) // stride)
    return [stride * i for i in range(steps + 1)]
