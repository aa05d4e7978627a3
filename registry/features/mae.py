"""Features of a masked autoencoder (MAE) trained on EM without labels, after MAESTER (Xie et al. 2023).

A window of 80 x 80 px is cut into 16 x 16 patches of 5 x 5 px, one token each. In training half of the tokens are
hidden from the encoder and a small decoder paints their pixels from the rest. For features the encoder sees every token
of every window and its output, one vector of q channels per patch, is the feature map.

Symbols: B windows, N tokens of a window (256), n kept tokens, q width of the encoder, c width of the decoder,
p pixels along a patch's side.

Differences from the published code (reference: He et al. 2022; MAESTER): no class token, since nothing dense reads it;
attention through the fused kernel.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from registry.base import FeatureMap, Features, UserError, chunks

BUNDLED = Path(__file__).parent / "weights" / "mae_vem.safetensors"


def sincos_position_embedding(width: int, grid: int) -> Tensor:
    """Fixed 2-D sine-cosine embedding (He et al. 2022): half of the channels for the row, half for the column.

    Shapes: -> (grid * grid, width) float32, tokens in row-major order.
    """
    if width % 4:
        raise ValueError(f"a 2-D sine-cosine embedding needs a width divisible by 4, got {width}")
    frequency = 1.0 / 10000 ** (torch.arange(width // 4, dtype=torch.float64) / (width // 4))  # (width/4,)
    angle = torch.arange(grid, dtype=torch.float64)[:, None] * frequency  # (grid, width/4)
    line = torch.cat([angle.sin(), angle.cos()], dim=1)  # (grid, width/2)
    row = line[:, None].expand(grid, grid, -1)
    column = line[None, :].expand(grid, grid, -1)
    return torch.cat([row, column], dim=2).reshape(grid * grid, width).float()


def patchify(images: Tensor, patch: int) -> Tensor:
    """Pixels of every patch, patches and the pixels within them in row-major order: (B, H, W) -> (B, N, p*p)."""
    B, H, W = images.shape
    x = images.reshape(B, H // patch, patch, W // patch, patch)
    return x.transpose(2, 3).reshape(B, -1, patch * patch)


def unpatchify(patches: Tensor, patch: int) -> Tensor:
    """Inverse of `patchify` for square windows: (B, N, p*p) -> (B, H, W)."""
    B, N, _ = patches.shape
    grid = round(N**0.5)
    x = patches.reshape(B, grid, grid, patch, patch)
    return x.transpose(2, 3).reshape(B, grid * patch, grid * patch)


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q kᵀ / sqrt(hs)) v. Shapes: (B, nh, N, hs) each -> the same."""
    if q.device.type == "cpu" and q.dtype == torch.bfloat16 and torch.is_grad_enabled():
        # Two plain products: in bfloat16 the fused CPU kernel takes twice as long for a whole training step.
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)  # (B, nh, N, N)
        return scores.softmax(dim=-1).to(v.dtype) @ v
    return F.scaled_dot_product_attention(q, k, v)


class Block(nn.Module):
    """Pre-norm transformer block: x + attention(norm(x)), then x + mlp(norm(x)). Shapes: (B, N, width) -> the same."""

    def __init__(self, width: int, heads: int, mlp_ratio: float):
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.fc1 = nn.Linear(width, int(width * mlp_ratio))
        self.fc2 = nn.Linear(int(width * mlp_ratio), width)

    def forward(self, x: Tensor) -> Tensor:
        B, N, width = x.shape
        qkv = self.qkv(self.norm1(x)).view(B, N, 3, self.heads, width // self.heads)  # (B, N, 3, nh, hs)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (B, nh, N, hs) each
        y = attention(q, k, v)  # (B, nh, N, hs)
        x = x + self.proj(y.transpose(1, 2).reshape(B, N, width))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


def _initialise(module: nn.Module) -> None:
    """Xavier-uniform linear layers with zero bias, as in He et al. 2022."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)


class Encoder(nn.Module):
    """Tokens of the visible patches: images (B, window, window) -> (B, n, q).

    `position_weight` damps the position embedding (MAESTER: .08), so that a feature tells what is at a place rather
    than where in the window the place is.
    """

    def __init__(
        self,
        *,
        patch: int = 5,
        window: int = 80,
        width: int = 192,
        depth: int = 14,
        heads: int = 1,
        mlp_ratio: float = 2,
        position_weight: float = 0.08,
    ):
        super().__init__()
        self.patch = patch
        self.embed = nn.Linear(patch * patch, width)
        position = position_weight * sincos_position_embedding(width, window // patch)
        self.register_buffer("position", position, persistent=False)  # (N, q), not learnt, not stored
        self.blocks = nn.ModuleList(Block(width, heads, mlp_ratio) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.apply(_initialise)

    def forward(self, images: Tensor, keep: Tensor | None = None, layer: int | None = None) -> Tensor:
        """`keep` (B, n): indices of the visible tokens (None: all). `layer`: how many blocks run; their plain output is
        returned. None: all of them and the final LayerNorm."""
        x = self.embed(patchify(images, self.patch)) + self.position  # (B, N, q)
        if keep is not None:
            x = x.gather(1, keep[:, :, None].expand(-1, -1, x.shape[2]))  # (B, n, q)
        for block in self.blocks[:layer]:
            x = block(x)
        return self.norm(x) if layer is None else x


class MaskedAutoencoder(nn.Module):
    """MAE with an encoder for the visible tokens and a light decoder for all (He et al. 2022; sizes of MAESTER)."""

    def __init__(
        self,
        *,
        patch: int = 5,
        window: int = 80,
        width: int = 192,
        depth: int = 14,
        heads: int = 1,
        mlp_ratio: float = 2,
        decoder_width: int = 128,
        decoder_depth: int = 7,
        decoder_heads: int = 8,
        position_weight: float = 0.08,
    ):
        super().__init__()
        self.patch, self.tokens = patch, (window // patch) ** 2
        self.encoder = Encoder(
            patch=patch,
            window=window,
            width=width,
            depth=depth,
            heads=heads,
            mlp_ratio=mlp_ratio,
            position_weight=position_weight,
        )
        self.decoder_embed = nn.Linear(width, decoder_width)
        self.mask_token = nn.Parameter(torch.zeros(decoder_width))
        # The decoder must know where the hidden patches are: its embedding has full weight.
        position = sincos_position_embedding(decoder_width, window // patch)
        self.register_buffer("decoder_position", position, persistent=False)  # (N, c)
        self.decoder_blocks = nn.ModuleList(
            Block(decoder_width, decoder_heads, mlp_ratio) for _ in range(decoder_depth)
        )
        self.decoder_norm = nn.LayerNorm(decoder_width, eps=1e-6)
        self.predict = nn.Linear(decoder_width, patch * patch)
        for module in (self.decoder_embed, self.decoder_blocks, self.predict):
            module.apply(_initialise)
        nn.init.normal_(self.mask_token, std=0.02)

    def encode(self, images: Tensor, noise: Tensor, mask_ratio: float = 0.5) -> tuple[Tensor, Tensor, Tensor]:
        """Encode the tokens of least `noise`; the others are hidden.

        Shapes: images (B, window, window), noise (B, N) -> latent (B, n, q), mask (B, N) where 0 is kept and 1 is
        hidden, restore (B, N) indices that bring [kept, hidden] back into the order of the image.
        """
        kept = round(self.tokens * (1 - mask_ratio))
        shuffle = noise.argsort(dim=1)  # (B, N)
        restore = shuffle.argsort(dim=1)
        mask = (restore >= kept).to(images.dtype)  # a token is kept if it came among the first after shuffling
        return self.encoder(images, keep=shuffle[:, :kept]), mask, restore

    def decode(self, latent: Tensor, restore: Tensor) -> Tensor:
        """Paint every patch: latent (B, n, q), restore (B, N) -> (B, N, p*p)."""
        x = self.decoder_embed(latent)  # (B, n, c)
        B, n, c = x.shape
        hidden = self.mask_token.to(x.dtype).expand(B, self.tokens - n, c)
        x = torch.cat([x, hidden], dim=1).gather(1, restore[:, :, None].expand(-1, -1, c))  # (B, N, c)
        x = x + self.decoder_position
        for block in self.decoder_blocks:
            x = block(x)
        return self.predict(self.decoder_norm(x))

    def loss(self, images: Tensor, painted: Tensor, mask: Tensor) -> Tensor:
        """Mean squared error of the standardised pixel values, over hidden patches only (mask 1)."""
        error = (painted.float() - patchify(images, self.patch)).square().mean(dim=2)  # (B, N)
        return (error * mask).sum() / mask.sum()

    def forward(self, images: Tensor, noise: Tensor, mask_ratio: float = 0.5) -> tuple[Tensor, Tensor, Tensor]:
        """-> loss (scalar), painted (B, N, p*p), mask (B, N)."""
        latent, mask, restore = self.encode(images, noise, mask_ratio)
        painted = self.decode(latent, restore)
        return self.loss(images, painted, mask), painted, mask


# -------------------------------------------------------------------------------------------------------- checkpoints
FORMAT = "sccs MAE encoder 1"
HOW = "train one with the recipe mae.yaml"


def encoder_arguments(architecture: dict) -> dict:
    """Those entries of an autoencoder's architecture that its encoder is built from."""
    names = ("patch", "window", "width", "depth", "heads", "mlp_ratio", "position_weight")
    return {name: architecture[name] for name in names}


def checkpoint_path(checkpoint: str, base: Path = Path()) -> Path:
    """ "bundled" or a file's name (``~`` and ``${VARIABLE}`` allowed, relative to `base`) -> path of the file.

    Raises UserError if there is no such file.
    """
    if checkpoint == "bundled":
        path = BUNDLED
    else:
        path = base / os.path.expanduser(os.path.expandvars(checkpoint))
    if not path.is_file():
        raise UserError(f"checkpoint {checkpoint!r}: no file {path}; {HOW}, or use checkpoint: bundled")
    return path


def read_checkpoint(path: Path, block: str, **wanted: float) -> tuple[dict[str, np.ndarray], dict]:
    """Weights as they are stored, and the facts of the training run, `architecture` among them.

    `wanted`: entries of the architecture that the recipe's `block` asks for. Raises UserError if the file is no
    checkpoint of an MAE encoder, is damaged, or was trained with another architecture.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            facts = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({error}); {HOW}") from None
    if facts.get("format") != FORMAT:
        raise UserError(f"{path}: not a checkpoint of an MAE encoder (its header lacks format: {FORMAT}); {HOW}")
    facts = json.loads(facts["facts"])
    trained = facts["architecture"]
    other = {name: value for name, value in wanted.items() if trained[name] != value}
    if other:
        said = ", ".join(
            f"{block}.{name} is {value} but the checkpoint has {trained[name]}" for name, value in other.items()
        )
        mend = ", ".join(f"{name}: {trained[name]}" for name in other)
        raise UserError(f"{path}: {said}; write {mend}, or give a checkpoint trained as the recipe says")
    if weights_hash(weights) != facts["sha256"]:
        raise UserError(f"{path}: the weights are damaged (their sha256 is not the one in the header); fetch it again")
    return weights, facts


def write_checkpoint(path: Path, weights: dict[str, np.ndarray], facts: dict) -> None:
    """`facts` must hold `architecture` and the `sha256` of the weights (`weights_hash`)."""
    from safetensors.numpy import save_file

    save_file(
        {name: np.ascontiguousarray(value) for name, value in weights.items()},
        path,
        metadata={"format": FORMAT, "facts": json.dumps(facts, sort_keys=True)},
    )


def weights_hash(weights: dict[str, np.ndarray]) -> str:
    """SHA-256 over names, types, shapes and values: the same for a file and for a model saved with a run."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        value = weights[name]
        digest.update(f"{name} {value.dtype} {value.shape}\n".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()


# ------------------------------------------------------------------------------------------------------------ part
class MAE(Features):
    """Tokens of a trained MAE encoder, all patches visible: image (H, W) -> FeatureMap (ceil(H/p), ceil(W/p), q).

    checkpoint: "bundled" (see weights/mae_vem.md) or a file written by pre-training.
    window, patch (px), width, depth, heads: must be those of the checkpoint (paper: 80, 5, 192, 14, 1).
    stride: px between windows, a multiple of `patch`; where windows overlap (40) their tokens are averaged.
    normalize: `token` standardises each token over its channels (the group's later code); `none` leaves them.
    precision: `bfloat16` computes in mixed precision: about twice as fast on CPUs that multiply it by themselves, far
        slower on those that must emulate it. `auto`: bfloat16 where `multiplies_bfloat16`, else float32.
    batch: windows at once. layer: take the plain output of this many blocks; null: of all, after the final LayerNorm.

    The image is padded by reflection at its right and lower edge until windows cover it. Token (i, j) is centred on
    pixel (5i + 2, 5j + 2). `device` is where the encoder computes.
    """

    def __init__(
        self,
        *,
        checkpoint: str = "bundled",
        window: int = 80,
        patch: int = 5,
        width: int = 192,
        depth: int = 14,
        heads: int = 1,
        stride: int = 80,
        batch: int = 7,
        layer: int | None = None,
        normalize: Literal["none", "token"] = "none",
        precision: Literal["float32", "bfloat16", "auto"] = "float32",
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
        )
        if self.normalize == "token":
            values = standardised(values)
        return FeatureMap(values=values, step=float(self.patch), offset=(self.patch - 1) / 2, shape=image.shape)

    def encode(self, windows: Tensor) -> Tensor:
        """Windows (B, window, window) -> tokens (B, N, q) float32, on the part's device."""
        with torch.autocast(self.device.partition(":")[0], torch.bfloat16, enabled=self._mixed()):
            return self._load()(windows, layer=self.layer).float()

    def _mixed(self) -> bool:
        return self.precision == "bfloat16" or (self.precision == "auto" and multiplies_bfloat16(self.device))

    def fingerprint(self) -> str:
        """Of the weights; with `auto` also of what it comes to here, as a cache may be shared by several machines."""
        if self._hash is None:
            self._hash = weights_hash(self.get_state())
        return f"{self._hash} bfloat16" if self.precision == "auto" and self._mixed() else self._hash

    def get_state(self) -> dict[str, np.ndarray]:
        """The encoder as it is stored (half precision stays half), so that a saved run needs no checkpoint file."""
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
                    module.to(kind)  # once, where autocast would do it for every batch
            self._encoder.eval()
        return self._encoder.to(self.device)


def multiplies_bfloat16(device: str) -> bool:
    """Whether the device multiplies matrices of bfloat16 by itself: GPUs that do, and CPUs with AMX."""
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    known = getattr(torch.cpu, "_is_amx_tile_supported", None)  # PyTorch has no public name for it
    return known is not None and bool(known())


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


def standardised(values: np.ndarray) -> np.ndarray:
    """Each token over its channels, (h, w, q): the group's later code does so with each pixel."""
    deviation = values.std(axis=2, keepdims=True)
    return (values - values.mean(axis=2, keepdims=True)) / np.maximum(deviation, 1e-6)


def _starts(length: int, window: int, stride: int) -> list[int]:
    """Corners of the windows along an axis: every `stride` px, until one reaches the end or passes it."""
    steps = -(-max(length - window, 0) // stride)
    return [stride * i for i in range(steps + 1)]
