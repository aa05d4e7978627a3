"""Dense features of a vision transformer trained by DINO (Caron et al. 2021), from a local checkpoint.

Deep Spectral Methods (Melas-Kyriazi et al. 2022) and DeepCut (Aflalo et al. 2023) cluster the keys of the last block.
No weights come with the package, and none are downloaded.

Symbols: p px along a patch's side, h x w patches of an image, N = h w of them, q width of the transformer.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from registry.base import FeatureMap, Features, UserError
from registry.mae.checkpoint import weights_hash
from registry.mae.network import Block
from registry.ranges import Depth, Pixels, Width

HOW = (
    "weights of DINO, a .pth file of github.com/facebookresearch/dino (dino_deitsmall8_pretrain.pth is what DeepCut "
    "takes) or the same from timm as .safetensors"
)
WRAPPERS = ("teacher", "state_dict", "model")  # names of the weights in a training run's file
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's three channels
BLOCK = {
    f"{layer}.{kind}"
    for layer in ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
    for kind in ("weight", "bias")
}  # the tensors of one block
STEM = {"cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias", "norm.weight", "norm.bias"}


class VisionTransformer(nn.Module):
    """A class token and one token per patch through pre-norm blocks (Dosovitskiy et al. 2021), sizes of `weights`.

    weights: tensors under DINO's names, without a prefix.
    """

    def __init__(self, weights: dict[str, Tensor], heads: int):
        super().__init__()
        width, _, self.patch, _ = weights["patch_embed.proj.weight"].shape
        hidden = len(weights["blocks.0.mlp.fc1.weight"])
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(weights["pos_embed"].shape))
        self.embed = nn.Conv2d(3, width, self.patch)
        self.blocks = nn.ModuleList(Block(width, heads, hidden / width) for _ in range(_depth_of(weights)))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.load_state_dict({_own_name(name): value.float() for name, value in weights.items()})

    def positions(self, h: int, w: int) -> Tensor:
        """Position embedding for h x w patches, by bicubic interpolation: (1, 1 + N, q), the class token's first."""
        cls, grid = self.pos_embed[:, :1], self.pos_embed[:, 1:]
        side = round(grid.shape[1] ** 0.5)
        if (h, w) == (side, side):
            return self.pos_embed
        grid = grid.unflatten(1, (side, side)).permute(0, 3, 1, 2)  # (1, q, side, side)
        grid = F.interpolate(grid, size=(h, w), mode="bicubic", align_corners=False)
        return torch.cat([cls, grid.flatten(2).transpose(1, 2)], dim=1)

    def forward(self, image: Tensor, stride: int, facet: str, layer: int | None) -> Tensor:
        """Features of all patches, one every `stride` px: (1, 3, H, W) -> (h, w, q).

        layer: the block to take them from, counted from 1; None: the last one, with tokens after the final LayerNorm.
        """
        x = F.conv2d(image, self.embed.weight, self.embed.bias, stride=stride)  # (1, q, h, w)
        h, w = x.shape[2:]
        x = torch.cat([self.cls_token, x.flatten(2).transpose(1, 2)], dim=1) + self.positions(h, w)  # (1, 1 + N, q)
        last = len(self.blocks) if layer is None else layer
        for block in self.blocks[: last - 1]:
            x = block(x)
        block, width = self.blocks[last - 1], x.shape[2]
        assert isinstance(block, Block)
        if facet == "key":  # heads side by side, as in the weights
            key = slice(width, 2 * width)  # of query, key, value
            x = F.linear(block.norm1(x), block.qkv.weight[key], block.qkv.bias[key])
        else:
            x = block(x)
            x = self.norm(x) if layer is None else x
        return x[0, 1:].unflatten(0, (h, w))


def _depth_of(weights: dict[str, Any]) -> int:
    """Number of blocks."""
    numbers = [int(found[1]) for name in weights if (found := re.match(r"blocks\.(\d+)\.", name))]
    return 1 + max(numbers, default=-1)


def _own_name(name: str) -> str:
    return name.replace("patch_embed.proj.", "embed.").replace(".attn.", ".").replace(".mlp.", ".")


# -------------------------------------------------------------------------------------------------------- checkpoints
def _read_dino(path: Path) -> dict[str, Tensor]:
    """The tensors of a ViT under DINO's names, without heads for training.

    Accepts a plain table of tensors, or a training run's file: a table under `teacher`, with the prefixes
    `module.` and `backbone.`. Raises UserError for anything else.
    """
    table = _load(path)
    for name in WRAPPERS:
        if isinstance(table, dict) and isinstance(table.get(name), dict):
            table = table[name]
            break
    table = table if isinstance(table, dict) else {}
    table = {
        re.sub(r"^(module\.|backbone\.)*", "", str(name)): value
        for name, value in table.items()
        if isinstance(value, Tensor)
    }
    weights = {name: value for name, value in table.items() if name in STEM or name.startswith("blocks.")}
    wanted = STEM | {f"blocks.{number}.{name}" for number in range(max(_depth_of(weights), 1)) for name in BLOCK}
    others = [name for name in table if name.startswith(("reg_token", "register_token"))]
    for what, names in (("lacks", wanted - weights.keys()), ("has", {*(weights.keys() - wanted), *others})):
        if names:
            raise UserError(
                f"features.checkpoint: {path} is not a ViT of DINO's layout: it {what} {min(names)}"
                f"{f' and {len(names) - 1} more' if len(names) > 1 else ''}; use {HOW}"
            )
    projection, position = weights["patch_embed.proj.weight"], weights["pos_embed"]
    grid = position.shape[1] - 1 if position.ndim == 3 else 0
    if projection.ndim != 4 or projection.shape[1] != 3 or projection.shape[2] != projection.shape[3]:
        raise UserError(
            f"features.checkpoint: {path}: patches of shape {tuple(projection.shape[1:])}; a ViT of DINO's "
            f"layout has square patches of 3 colours; use {HOW}"
        )
    if grid < 1 or round(grid**0.5) ** 2 != grid:
        raise UserError(
            f"features.checkpoint: {path}: {grid} positions are not a square grid with a class token; use {HOW}"
        )
    return weights


def _load(path: Path) -> Any:
    import argparse

    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # A DINO training run also stores its command line in the file, which executes nothing when read.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the reader raises anything for other files
        reason = (str(error).splitlines() or [""])[0][:160]
        raise UserError(f"features.checkpoint: {path} cannot be read as weights ({reason}); use {HOW}") from None


# --------------------------------------------------------------------------------------------------------------- part
class ViT(Features):
    """image (H, W) -> FeatureMap (ceil(H/stride), ceil(W/stride), q) of a vision transformer trained by DINO.

    The whole image goes through the transformer at once, as a colour image of three equal channels: a standardised grey
    value g becomes clip(g / 6 + .5, 0, 1), covering +-3 deviations, followed by ImageNet's normalisation. The position
    embedding is interpolated to the image's grid of patches (bicubic).

    checkpoint: file of the weights, ``~`` and ``${VARIABLE}`` allowed; none comes with the package. Names as in DINO
    and timm (``blocks.0.attn.qkv.weight``); .safetensors, or .pth as published by DINO or saved by its training.
    Width q, patch p and depth are read from it (ViT-S/8: 384, 8 px, 12).
    facet: `key`, the keys of all heads side by side (DSM, DeepCut), or `token`, the output of the block.
    layer: block to take them from, counted from 1; null: the last, with tokens after the final LayerNorm.
    heads: of the attention; null: one per 64 channels, as in all DINO models.
    stride: px between patches, at most p; null: p, side by side. Half of p gives 4 times as many tokens and 16 times
    the attention.

    The image is extended by reflection until patches cover it. Token (i, j) is centred on pixel (offset + stride * i,
    offset + stride * j), with offset (p - 1) / 2 if patches lie side by side; if they overlap, they start
    (p - stride) // 2 px before the image. `device`: of the transformer.
    """

    def __init__(
        self,
        *,
        checkpoint: str = "",
        facet: Literal["key", "token"] = "key",
        layer: Depth | None = None,
        heads: Width | None = None,
        stride: Pixels | None = None,
    ):
        self.checkpoint = checkpoint
        self.facet = facet
        self.layer = layer
        self.heads = heads
        self.stride = stride
        self.device = "cpu"
        self._weights: dict[str, np.ndarray] | None = None
        self._network: VisionTransformer | None = None
        self._hash: str | None = None
        for name, value in (("layer", layer), ("heads", heads), ("stride", stride)):
            if value is not None and value < 1:
                raise UserError(f"features.{name}: {value} must be at least 1, or null")

    def extract(self, image: np.ndarray) -> FeatureMap:
        network = self._load()
        p = network.patch
        stride = self.stride or p
        before = (p - stride) // 2
        padding = [(before, stride * (-(-side // stride) - 1) + p - before - side) for side in image.shape]
        grey = np.pad(np.asarray(image, np.float32), padding, mode="reflect")
        x = torch.from_numpy(grey).to(self.device)
        x = (x / 6 + 0.5).clamp(0, 1).expand(1, 3, -1, -1)
        mean, std = (torch.tensor(values, device=x.device)[:, None, None] for values in (MEAN, STD))
        with torch.inference_mode():
            values = network((x - mean) / std, stride, self.facet, self.layer).contiguous().cpu().numpy()
        return FeatureMap(values=values, step=float(stride), offset=(p - 1) / 2 - before, shape=image.shape)

    def fingerprint(self) -> str:
        if self._hash is None:
            self._hash = weights_hash(self.get_state())
        return self._hash

    def get_state(self) -> dict[str, np.ndarray]:
        """The stored weights, so that a saved run needs no checkpoint file."""
        if self._weights is None:
            weights = _read_dino(self._path())
            self._weights = {
                name: (value.float() if value.dtype == torch.bfloat16 else value).contiguous().numpy()
                for name, value in weights.items()
            }
        return dict(self._weights)

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        self._weights, self._network, self._hash = dict(state), None, None

    def _path(self) -> Path:
        """Path of the checkpoint. Raises UserError if there is none."""
        if not self.checkpoint:
            raise UserError(f"features.checkpoint: none given; use {HOW}")
        expanded = os.path.expanduser(os.path.expandvars(self.checkpoint))
        if (variable := re.search(r"\$\{?(\w+)", expanded)) is not None:
            raise UserError(
                f"features.checkpoint: the environment variable {variable[1]} is not set: export it as the "
                f"path of {HOW}"
            )
        if not Path(expanded).is_file():
            raise UserError(f"features.checkpoint: no file {expanded}; use {HOW}")
        return Path(expanded)

    def _load(self) -> VisionTransformer:
        if self._network is None:
            weights = {name: torch.from_numpy(value) for name, value in self.get_state().items()}
            width, _, p, _ = weights["patch_embed.proj.weight"].shape
            heads, depth = self.heads or max(width // 64, 1), _depth_of(weights)
            if width % heads:
                raise UserError(f"features.heads: {heads} must divide the checkpoint's width, {width}")
            if (self.layer or 1) > depth:
                raise UserError(f"features.layer: {self.layer} must be 1 to {depth}, the checkpoint's depth, or null")
            if (self.stride or 1) > p:
                raise UserError(f"features.stride: {self.stride} must be at most {p}, the checkpoint's patch, or null")
            try:
                self._network = VisionTransformer(weights, heads).eval()
            except RuntimeError as error:  # tensors whose shapes do not fit together
                raise UserError(
                    f"features.checkpoint: {self.checkpoint}: not a ViT of DINO's layout "
                    f"({str(error).splitlines()[-1].strip()}); use {HOW}"
                ) from None
        return self._network.to(self.device)
