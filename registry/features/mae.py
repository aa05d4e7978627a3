"""Features of a masked autoencoder (MAE) trained on EM without labels, after MAESTER (Xie et al. 2023)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from registry.base import FeatureMap, Features, TensorMap, UserError
from registry.mae.checkpoint import checkpoint_path, read_checkpoint, weights_hash
from registry.mae.network import Encoder
from registry.mae.precision import Precision, uses_bfloat16
from registry.mae.windows import Known, windowed, windowed_batch
from registry.ranges import Batch, Depth, Pixels, Width

AT_ONCE = 98  # minimal number of windows in a batch of images: two fields of view of 560 px


class MAE(Features):
    """Tokens of a trained MAE encoder, all patches visible: image (H, W) -> FeatureMap (ceil(H/p), ceil(W/p), q).

    Source: the paper's features, after MAESTER; its sizes are the defaults.

    checkpoint: "bundled" (see registry/mae/weights/mae_vem.md) or a file written by pre-training.
    window, patch (px), width, depth, heads: must be those of the checkpoint (paper: 80, 5, 192, 14, 1).
    stride: px between windows, a multiple of `patch`; if windows overlap (40), their tokens are averaged.
    normalize: `token` standardises each token over its channels (the group's later code); `none` does not.
    precision: `bfloat16` computes in mixed precision: about twice as fast on CPUs with native support, far slower on
    those that must emulate it. `auto`: bfloat16 if `registry.mae.precision.multiplies_bfloat16`, else float32.
    batch: windows at once. layer: use the plain output of this many blocks; null: of all, after the final LayerNorm.

    The image is padded by reflection at its right and lower edge until windows cover it. Token (i, j) is centred on
    pixel (5i + 2, 5j + 2). `device`: of the encoder.
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
        stride: Pixels = 80,
        batch: Batch = 7,
        layer: Depth | None = None,
        normalize: Literal["none", "token"] = "none",
        precision: Precision = "float32",
    ):
        self.checkpoint = checkpoint
        self.window = window
        self.patch = patch
        self.width = width
        self.depth = depth
        self.heads = heads
        self.stride = stride
        self.batch = batch
        self.layer = layer
        self.normalize = normalize
        self.precision = precision
        self.device = "cpu"
        self._weights: dict[str, np.ndarray] | None = None
        self._encoder: Encoder | None = None
        self._kind: torch.dtype | None = None  # of the encoder's products
        self._hash: str | None = None
        self._known: Known | None = None  # windows, while images overlap
        if patch < 1 or window < patch or window % patch:
            raise UserError(f"features.window: {window} must be a multiple of features.patch ({patch}; paper: 80, 5)")
        if not patch <= stride <= window or stride % patch:
            raise UserError(
                f"features.stride: {stride} must be a multiple of the patch ({patch}) and at most the "
                f"window ({window}); {window} or {window // 2 // patch * patch} are usual"
            )
        if batch < 1:
            raise UserError(f"features.batch: {batch} must be at least 1")
        if layer is not None and not 1 <= layer <= depth:
            raise UserError(f"features.layer: {layer} must be 1 to {depth} (features.depth), or null for the last")

    def extract(self, image: np.ndarray) -> FeatureMap:
        values = windowed(
            image,
            self.encode,
            self.width,
            window=self.window,
            patch=self.patch,
            stride=self.stride,
            batch=self.batch,
            device=self.device,
            known=self._known,
        )
        if self.normalize == "token":
            values = standardised(values)
        return FeatureMap(values=values, step=float(self.patch), offset=(self.patch - 1) / 2, shape=image.shape)

    def extract_batch(self, images: Tensor) -> list[TensorMap]:
        sizes = {"window": self.window, "patch": self.patch, "stride": self.stride}
        values = windowed_batch(images, self.encode, self.width, **sizes, batch=max(self.batch, AT_ONCE))
        if self.normalize == "token":
            deviation = values.std(3, keepdim=True, unbiased=False)
            values = (values - values.mean(3, keepdim=True)) / deviation.clamp(min=1e-6)
        return [TensorMap(values, float(self.patch), (self.patch - 1) / 2)]

    @contextmanager
    def sharing(self) -> Iterator[None]:
        self._known = Known()
        try:
            yield
        finally:
            self._known = None

    def encode(self, windows: Tensor) -> Tensor:
        """Windows (B, window, window) -> tokens (B, N, q) float32, on the part's device."""
        with torch.autocast(self.device.partition(":")[0], torch.bfloat16, enabled=self._mixed()):
            return self._load()(windows, layer=self.layer).float()

    def _mixed(self) -> bool:
        return uses_bfloat16(self.precision, self.device)

    def fingerprint(self) -> str:
        """Hash of the weights; with `auto` also the chosen precision, as several machines may share a cache."""
        if self._hash is None:
            self._hash = weights_hash(self.get_state())
        return f"{self._hash} bfloat16" if self.precision == "auto" and self._mixed() else self._hash

    def get_state(self) -> dict[str, np.ndarray]:
        """The stored encoder (half precision stays half), so that a saved run needs no checkpoint file."""
        if self._weights is None:
            weights, facts = read_checkpoint(
                checkpoint_path(self.checkpoint),
                "features",
                patch=self.patch,
                window=self.window,
                width=self.width,
                depth=self.depth,
                heads=self.heads,
            )
            scale = {name: np.float32(facts["architecture"][name]) for name in ("mlp_ratio", "position_weight")}
            self._weights = {**weights, **{name: np.array([value]) for name, value in scale.items()}}
        return dict(self._weights)

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        self._weights, self._encoder, self._hash = dict(state), None, None

    def _load(self) -> Encoder:
        kind = torch.bfloat16 if self._mixed() else torch.float32
        if self._encoder is None or self._kind not in (None, kind):
            self._kind = kind
            weights = self.get_state()
            mlp_ratio, position_weight = float(weights.pop("mlp_ratio")[0]), float(weights.pop("position_weight")[0])
            self._encoder = Encoder(
                patch=self.patch,
                window=self.window,
                width=self.width,
                depth=self.depth,
                heads=self.heads,
                mlp_ratio=mlp_ratio,
                position_weight=position_weight,
            )
            self._encoder.load_state_dict({name: torch.from_numpy(value).float() for name, value in weights.items()})
            for module in self._encoder.modules():
                if isinstance(module, nn.Linear):
                    module.to(kind)  # once, instead of for every batch by autocast
            self._encoder.eval()
        return self._encoder.to(self.device)


def standardised(values: np.ndarray) -> np.ndarray:
    """Standardise each token over its channels, (h, w, q); the group's later code does this for each pixel."""
    deviation = values.std(axis=2, keepdims=True)
    return (values - values.mean(axis=2, keepdims=True)) / np.maximum(deviation, 1e-6)
