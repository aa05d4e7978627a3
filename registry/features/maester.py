"""MAESTER's per-pixel features (Xie et al. 2023): the MAE token centred on each pixel, by shifted windows."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from registry.base import FeatureMap, UserError, chunks
from registry.features.mae import MAE, standardised
from registry.mae.precision import Precision
from registry.ranges import Batch, Depth, Pixels, Width


class Maester(MAE):
    """image (H, W) -> FeatureMap of every pixel: values (H, W, q), step 1, offset 0, from a trained MAE encoder.

    For each of the patch^2 shifts of the image against the token grid, windows are encoded whose central `central` x
    `central` tokens lie side by side; the token centred on a pixel is its feature, so that each pixel has context on
    all sides. A 560 x 560 image takes 19,600 windows with the published `central: 4`; 16 uses all tokens of a window
    (1,225 windows), with less context at its edge. The image is extended by reflection.
    MAESTER's released code makes 24,649 passes for such an image and stores each feature 2 px too low and 3 px too far
    left; here the positions are correct.

    checkpoint, window, patch, width, depth, heads, batch, layer, normalize, precision: as in `mae`.
    """

    def __init__(
        self,
        *,
        checkpoint: str = "bundled",
        window: Pixels = 80,
        patch: Pixels = 5,
        width: Width = 192,
        depth: Depth = 14,
        heads: Width = 1,
        central: Pixels = 4,
        batch: Batch = 64,
        layer: Depth | None = None,
        normalize: Literal["none", "token"] = "none",
        precision: Precision = "float32",
    ):
        super().__init__(
            checkpoint=checkpoint,
            window=window,
            patch=patch,
            width=width,
            depth=depth,
            heads=heads,
            stride=window,
            batch=batch,
            layer=layer,
            normalize=normalize,
            precision=precision,
        )
        self.central = central
        if patch % 2 == 0:
            raise UserError(f"features.patch: {patch} must be odd, so that a token has a pixel at its centre")
        if not 1 <= central <= window // patch or (window // patch - central) % 2:
            raise UserError(
                f"features.central: {central} tokens cannot be centred among {window // patch}; "
                "MAESTER uses 4, and 16 is the fastest for windows of 80 px"
            )

    def passes(self, H: int, W: int) -> int:
        """Windows that an image (H, W) takes."""
        return int(np.prod([len(self._corners(length)) for length in (H, W)]))

    def _corners(self, length: int) -> list[int]:
        """Positions of windows along an axis of the padded image: every shift of every block of `central` tokens."""
        block = self.central * self.patch  # px between windows of one shift
        blocks = -(-length // block)
        return [b * block + shift for b in range(blocks) for shift in range(self.patch)]

    def extract(self, image: np.ndarray) -> FeatureMap:
        H, W = image.shape
        p, window, central = self.patch, self.window, self.central
        margin = (window // p - central) // 2  # tokens of a window before its central ones
        before = margin * p + p // 2  # px: the first central token of the window at 0 is centred on pixel 0
        rows, columns = self._corners(H), self._corners(W)
        padded = torch.from_numpy(
            np.pad(
                np.asarray(image, np.float32),
                ((before, rows[-1] + window - before - H), (before, columns[-1] + window - before - W)),
                mode="reflect",
            )
        )
        windows = padded.to(self.device).unfold(0, window, 1).unfold(1, window, 1)  # (., ., window, window), a view
        block = central * p
        found = torch.empty(-(-H // block) * block, -(-W // block) * block, self.width)
        places = [(y, x) for y in rows for x in columns]
        centre = slice(margin, margin + central)
        with torch.inference_mode():
            for chosen in chunks(places, self.batch):
                ys, xs = (torch.tensor(axis) for axis in zip(*chosen))
                tokens = self.encode(windows[ys, xs]).unflatten(1, (window // p, window // p))[:, centre, centre].cpu()
                for (y, x), own in zip(chosen, tokens):  # (central, central, q)
                    if self.normalize == "token":
                        own = torch.from_numpy(standardised(own.numpy()))
                    found[y : y + block : p, x : x + block : p] = own
        values = found[:H, :W].contiguous().numpy()
        return FeatureMap(values=values, step=1.0, offset=0.0, shape=(H, W))
