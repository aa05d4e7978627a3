"""Tokens of a whole image from a transformer that sees one window at a time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from registry.base import chunks

KEPT = 1 << 25  # bytes of tokens and pixels: the borders of six fields of view of 560 px


class Known:
    """A cache of the tokens (N, q) of encoded windows, by their pixels, with least recently used ones dropped first.

    Overlapping images with windows on the same grid share the windows at their borders.
    """

    def __init__(self, limit: int = KEPT):
        self._limit, self._bytes = limit, 0
        self._tokens: OrderedDict[bytes, Tensor] = OrderedDict()

    def get(self, pixels: bytes) -> Tensor | None:
        """The tokens, or None if unknown."""
        if (tokens := self._tokens.get(pixels)) is not None:
            self._tokens.move_to_end(pixels)
        return tokens

    def keep(self, pixels: bytes, tokens: Tensor) -> None:
        """Store a copy of the tokens, as they may be part of a larger array."""
        if pixels not in self._tokens:
            self._tokens[pixels] = tokens.clone()
            self._bytes += len(pixels) + tokens.nbytes
        while self._bytes > self._limit:
            gone, last = self._tokens.popitem(last=False)
            self._bytes -= len(gone) + last.nbytes


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
    known: Known | None = None,
) -> np.ndarray:
    """Tokens (ceil(H/p), ceil(W/p), q) float32 of an image (H, W) by windows, averaged where windows overlap.

    encode: windows (B, window, window) -> (B, N, q), independently of the batch. The image is padded by reflection at
    its right and lower edge until windows cover it. known: windows that need not be encoded; those at the image's
    borders are added.
    """
    H, W = image.shape
    h, w = -(-H // patch), -(-W // patch)
    rows, columns = _starts(h * patch, window, stride), _starts(w * patch, window, stride)
    padding = (0, rows[-1] + window - H), (0, columns[-1] + window - W)
    pixels = np.pad(np.asarray(image, np.float32), padding, mode="reflect")
    padded = torch.from_numpy(pixels).to(device)
    side = window // patch  # tokens along a window's side
    total = torch.zeros(padded.shape[0] // patch, padded.shape[1] // patch, q, device=device)
    count = torch.zeros(*total.shape[:2], 1, device=device)

    def tokens(corners: Sequence[tuple[int, int]]) -> Tensor:
        return encode(torch.stack([padded[y : y + window, x : x + window] for y, x in corners]))  # (B, N, q)

    def shared(y: int, x: int) -> bytes | None:
        if known is None or not (y in (rows[0], rows[-1]) or x in (columns[0], columns[-1])):
            return None
        return pixels[y : y + window, x : x + window].tobytes()

    with torch.inference_mode():
        keys = {(y, x): shared(y, x) for y in rows for x in columns}
        before = {}
        if known is not None:
            before = {at: found for at, key in keys.items() if key and (found := known.get(key)) is not None}
        new = (each for part in chunks([at for at in keys if at not in before], batch) for each in tokens(part))
        for y, x in keys:
            block = before.get((y, x))
            if block is None:
                block = next(new)
                if known is not None and (key := keys[y, x]) is not None:
                    known.keep(key, block)
            here = slice(y // patch, y // patch + side), slice(x // patch, x // patch + side)
            total[here] += block.view(side, side, q)
            count[here] += 1
    return (total / count)[:h, :w].contiguous().cpu().numpy()


def windowed_batch(
    images: Tensor, encode: Callable[[Tensor], Tensor], q: int, *, window: int, patch: int, stride: int, batch: int
) -> Tensor:
    """The same for several images (B, H, W) on a device, without leaving it: (B, ceil(H/p), ceil(W/p), q)."""
    B, H, W = images.shape
    h, w, side = -(-H // patch), -(-W // patch), window // patch
    rows, columns = _starts(h * patch, window, stride), _starts(w * patch, window, stride)
    padded = images.index_select(1, _reflected(H, rows[-1] + window, images.device))
    padded = padded.index_select(2, _reflected(W, columns[-1] + window, images.device))
    total = images.new_zeros(B, padded.shape[1] // patch, padded.shape[2] // patch, q)
    count = images.new_zeros(*total.shape[1:3], 1)
    with torch.inference_mode():
        windows = padded.unfold(1, window, stride).unfold(2, window, stride).reshape(-1, window, window)
        tokens = torch.cat([encode(some) for some in windows.split(batch)])
        tokens = tokens.view(B, len(rows), len(columns), side, side, q)
        for i, y in enumerate(rows):
            for j, x in enumerate(columns):
                here = slice(y // patch, y // patch + side), slice(x // patch, x // patch + side)
                total[:, here[0], here[1]] += tokens[:, i, j]
                count[here] += 1
        return (total / count)[:, :h, :w].contiguous()


def _reflected(length: int, padded: int, device: torch.device) -> Tensor:
    """Pixel indices (padded,) along an axis, reflected beyond its end."""
    return torch.from_numpy(np.pad(np.arange(length), (0, padded - length), mode="reflect")).to(device)


def _starts(length: int, window: int, stride: int) -> list[int]:
    """Corners of the windows along an axis: every `stride` px, until one reaches the end."""
    steps = -(-max(length - window, 0) // stride)
    return [stride * i for i in range(steps + 1)]
