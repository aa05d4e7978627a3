"""A made-up checkpoint of DINO's layout: real sizes in small, weights that have learned nothing."""

from pathlib import Path

import torch


def made_up_weights(width: int = 16, patch: int = 8, depth: int = 2, grid: int = 4, seed: int = 0) -> dict:
    """Tensors of a ViT under DINO's names, for images of grid x grid patches. Normal, small enough to stay tame."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int, scale: float = 0.2) -> torch.Tensor:
        return scale * torch.randn(*shape, generator=generator)

    def linear(name: str, outputs: int, inputs: int) -> dict:
        return {f"{name}.weight": normal(outputs, inputs), f"{name}.bias": normal(outputs)}

    def norm(name: str) -> dict:
        return {f"{name}.weight": 1 + normal(width), f"{name}.bias": normal(width)}

    weights = {
        "cls_token": normal(1, 1, width),
        "pos_embed": normal(1, 1 + grid**2, width),
        "patch_embed.proj.weight": normal(width, 3, patch, patch, scale=0.05),
        "patch_embed.proj.bias": normal(width),
    }
    for number in range(depth):
        block = f"blocks.{number}"
        weights |= {
            **norm(f"{block}.norm1"),
            **linear(f"{block}.attn.qkv", 3 * width, width),
            **linear(f"{block}.attn.proj", width, width),
            **norm(f"{block}.norm2"),
            **linear(f"{block}.mlp.fc1", 4 * width, width),
            **linear(f"{block}.mlp.fc2", width, 4 * width),
        }
    return weights | norm("norm")


def made_up_dino(path: str | Path, *, wrapped: bool = False, **sizes: int) -> dict:
    """Write made-up weights to a .pth or .safetensors file, and return them.

    wrapped: as a training run saves them, the teacher's beside its projection head, with prefixes, and the options.
    """
    import argparse

    from safetensors.torch import save_file

    weights = made_up_weights(**sizes)
    if Path(path).suffix == ".safetensors":
        save_file(weights, path)
    elif wrapped:
        teacher = {f"module.backbone.{name}": value for name, value in weights.items()}
        torch.save(
            {
                "teacher": {**teacher, "module.head.mlp.0.weight": torch.zeros(4, 16)},
                "epoch": 7,
                "args": argparse.Namespace(arch="vit_small"),
            },
            path,
        )
    else:
        torch.save(weights, path)
    return weights
