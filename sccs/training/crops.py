"""Random crops of volumes in batches, the training data of the masked autoencoder.

Every random choice of a step depends only on seed and step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from registry.numeric.smoothing import gaussian
from sccs.data.planes import ISOTROPIC
from sccs.data.volumes import Volume

IN_MEMORY = 2**30  # bytes; larger volumes are read crop by crop
FINEST = 0.3  # px; smaller blurs change nothing
SCORED_CROPS = 64  # held-out crops for the logged loss

Box = tuple[tuple[int, int, int], tuple[int, int, int]]  # corner and size (z, y, x)
Place = tuple[slice, slice, slice]  # (z, y, x), of size 1 across the crop's plane


class Crops:
    """Random square crops of one volume, from its training part or its held-out part.

    The last columns (x) are held out, at least one window wide; volumes narrower than four windows are only for
    training. Arguments: see `Pretrain`; `window` in px.
    """

    def __init__(self, volume: Volume, window: int, scale: tuple[float, float], axes: str, held_out: float):
        self.name, self.window = volume.name, window
        self.mean, self.std = np.float32(volume.mean), np.float32(volume.std)
        self._image, self._origin = volume.image, volume.origin
        Z, Y, X = volume.shape
        if Z * Y * X * np.dtype(volume.image.dtype).itemsize <= IN_MEMORY:
            (z, y, x), self._origin = volume.origin, (0, 0, 0)
            self._image = np.asarray(volume.image[z : z + Z, y : y + Y, x : x + X])
        strip = max(window, round(held_out * X)) if held_out and 4 * window <= X else 0
        self.train_box: Box = (0, 0, 0), (Z, Y, X - strip)
        self.held_box: Box | None = ((0, 0, X - strip), (Z, Y, strip)) if strip else None
        size = self.train_box[1]
        size_nm = volume.voxel_size
        through_z = axes == "all" and (size_nm is None or max(size_nm) <= ISOTROPIC * min(size_nm))
        planes = [(1, 2), (0, 2), (0, 1)] if through_z else [(1, 2)]  # axes of a crop's rows and columns
        self.planes = [plane for plane in planes if min(size[axis] for axis in plane) >= window]
        largest = max(min(size[axis] for axis in plane) for plane in self.planes)
        self.sides = min(round(scale[0] * window), largest), min(round(scale[1] * window), largest)

    def draw(self, rng: np.random.Generator) -> Draw:
        """Draw a crop of random plane, scale, position and orientation, without reading pixels."""
        rows, columns = self.planes[rng.integers(len(self.planes))]
        low, high = self.sides
        side = round(math.exp(rng.uniform(math.log(low), math.log(high))))
        side = min(side, self.train_box[1][rows], self.train_box[1][columns])
        place = self._place(rng, self.train_box, rows, columns, side)
        return Draw(place, side, int(rng.integers(4)), bool(rng.integers(2)))

    def train(self, draw: Draw) -> np.ndarray:
        """A drawn crop as (window, window) float32, standardised."""
        crop = np.rot90(resize(self._cut(draw.place, draw.side), self.window), draw.turns)
        return np.ascontiguousarray(crop[:, ::-1] if draw.mirrored else crop)

    def held(self, rng: np.random.Generator) -> np.ndarray:
        """One held-out crop, unaugmented, as (window, window) float32, standardised; only if there is a `held_box`."""
        assert self.held_box is not None
        return self._cut(self._place(rng, self.held_box, 1, 2, self.window), self.window)

    def _place(self, rng: np.random.Generator, box: Box, rows: int, columns: int, side: int) -> Place:
        extent = [1, 1, 1]
        extent[rows] = extent[columns] = side
        firsts = [
            int(rng.integers(box[1][axis] - extent[axis] + 1)) + box[0][axis] + self._origin[axis] for axis in range(3)
        ]
        z, y, x = (slice(first, first + size) for first, size in zip(firsts, extent))
        return z, y, x

    def _cut(self, place: Place, side: int) -> np.ndarray:
        pixels = np.asarray(self._image[place]).reshape(side, side)
        return (pixels.astype(np.float32) - self.mean) / self.std


@dataclass(frozen=True)
class Draw:
    """Position of a crop in the file (z, y, x), its side (px) before resizing, quarter turns, then mirroring."""

    place: Place
    side: int
    turns: int
    mirrored: bool


def resize(crop: np.ndarray, side: int) -> np.ndarray:
    """Bilinear, anti-aliased: (s, s) float32 -> (side, side)."""
    if crop.shape[0] == side:
        return crop
    image = torch.from_numpy(crop)[None, None]  # (1, 1, s, s)
    return F.interpolate(image, size=(side, side), mode="bilinear", antialias=True, align_corners=False)[0, 0].numpy()


def worse(crop: np.ndarray, blur: float, noise: float, rng: np.random.Generator) -> np.ndarray:
    """(s, s) float32, blurred by a Gaussian of `blur` px, then with added white noise."""
    if blur > FINEST:
        crop = gaussian(crop, blur)
    return crop + rng.standard_normal(crop.shape, np.float32) * np.float32(noise)


@dataclass
class Sampler:
    """Batches of crops; `groups` are the volumes of each data block, and blocks share the crops equally.

    noise (standard deviations) and blur (px): the maximum for a crop.
    """

    groups: Sequence[Sequence[Crops]]
    tokens: int  # N of a window
    batch: int
    jitter: float
    seed: int
    noise: float = 0.0
    blur: float = 0.0

    def step(self, step: int, share: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """Images (B, window, window), and noise (B, N) that decides which patches are hidden; depends only on `step`.

        With a `share` of the batch, only the pixels of those crops are read; they equal those in the whole batch.
        """
        rng = np.random.default_rng([self.seed, step])
        drawn = []
        for _ in range(self.batch):
            group = self.groups[int(rng.integers(len(self.groups)))]
            volume = group[int(rng.integers(len(group)))]
            drawn.append((volume, volume.draw(rng), math.exp(rng.normal(0, self.jitter)), rng.normal(0, self.jitter)))
        noise = self._noise(rng, self.batch)[share]
        crops = [
            volume.train(draw) * np.float32(contrast) + np.float32(brightness)
            for volume, draw, contrast, brightness in drawn[share]
        ]
        if self.noise or self.blur:
            strength = rng.random((self.batch, 2))
            crops = [
                worse(crop, self.blur * blur, self.noise * grain, np.random.default_rng([self.seed, step, i]))
                for i, (crop, (blur, grain)) in enumerate(zip(crops, strength[share]), share.indices(self.batch)[0])
            ]
        return torch.from_numpy(np.stack(crops)), noise

    def held_out(self) -> tuple[Tensor, Tensor] | None:
        """The crops to score, equally many of each data block, and the same in every run on the same data."""
        groups = [[crops for crops in group if crops.held_box] for group in self.groups]
        groups = [group for group in groups if group]
        if not groups:
            return None
        rng = np.random.default_rng(0)
        crops = []
        for i in range(SCORED_CROPS):
            group = groups[i % len(groups)]
            crops.append(group[i // len(groups) % len(group)].held(rng))
        return torch.from_numpy(np.stack(crops)), self._noise(rng, SCORED_CROPS)

    def _noise(self, rng: np.random.Generator, count: int) -> Tensor:
        return torch.from_numpy(rng.random((count, self.tokens), dtype=np.float32))
