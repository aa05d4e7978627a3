"""A masked autoencoder (MAE) for EM, after MAESTER (Xie et al. 2023).

A window of 80 x 80 px is cut into 16 x 16 patches of 5 x 5 px, one token each. In training half of the tokens are
hidden from the encoder, and a small decoder predicts their pixels from the rest. For features the encoder sees every
token of every window, and its output, one vector of q channels per patch, is the feature map.

Symbols: B windows, N tokens of a window (256), n kept tokens, q width of the encoder, c width of the decoder,
p pixels along a patch's side.

Differences from the published code (reference: He et al. 2022; MAESTER): no class token, as dense features do not use
it; attention through the fused kernel.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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
    """Pixels of every patch, with patches and their pixels in row-major order: (B, H, W) -> (B, N, p*p)."""
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

    `position_weight` damps the position embedding (MAESTER: .08), so that a feature describes the content of a place
    rather than its position in the window.
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
        self.position: Tensor
        self.register_buffer("position", position, persistent=False)  # (N, q), not learnt, not stored
        self.blocks = nn.ModuleList(Block(width, heads, mlp_ratio) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.apply(_initialise)

    def forward(self, images: Tensor, keep: Tensor | None = None, layer: int | None = None) -> Tensor:
        """`keep` (B, n): indices of the visible tokens (None: all). `layer`: number of blocks to run, whose plain
        output is returned; None: all of them and the final LayerNorm."""
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
        # The decoder must know where the hidden patches are, so its embedding has full weight.
        position = sincos_position_embedding(decoder_width, window // patch)
        self.decoder_position: Tensor
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
        """Encode the tokens with the smallest `noise`; the others are hidden.

        Shapes: images (B, window, window), noise (B, N) -> latent (B, n, q), mask (B, N) where 0 is kept and 1 is
        hidden, restore (B, N) indices that bring [kept, hidden] back into the order of the image.
        """
        kept = round(self.tokens * (1 - mask_ratio))
        shuffle = noise.argsort(dim=1)  # (B, N)
        restore = shuffle.argsort(dim=1)
        mask = (restore >= kept).to(images.dtype)  # a token is kept if it is among the first after shuffling
        return self.encoder(images, keep=shuffle[:, :kept]), mask, restore

    def decode(self, latent: Tensor, restore: Tensor) -> Tensor:
        """Predict every patch: latent (B, n, q), restore (B, N) -> (B, N, p*p)."""
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
