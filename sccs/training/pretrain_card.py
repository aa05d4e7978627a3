"""The model card of a pre-trained encoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sccs.training.pretrain_settings import Pretrain


def model_card(facts: Mapping[str, Any], settings: Pretrain) -> str:
    """Markdown: what the checkpoint is, what it was trained on and how, how well, its hash."""
    loss = "none" if facts["held_out_loss"] is None else f"{facts['held_out_loss']:.4f}"
    size = facts["architecture"]
    lines = [
        "# Masked autoencoder for volume EM",
        "",
        "Encoder of a masked autoencoder, trained without labels; weights in half precision, safetensors.",
        "The decoder is left out: features need the encoder only, and both together would pass 10 MB.",
        "",
        "| fact | value |",
        "|---|---|",
        f"| architecture | {', '.join(f'{name} {value}' for name, value in size.items())} |",
        f"| trained on (no labels) | {', '.join(facts['data'])} |",
        "| input | grey images, standardised per volume: (x - mean) / sd |",
        f"| training | {facts['steps']} steps of {settings.batch} crops ({facts['crops']:,} crops), "
        f"{facts['minutes']} min, seed {facts['seed']} |",
        f"| crops | side {settings.scale[0]} to {settings.scale[1]} windows resized to {size['window']} px, flips, "
        f"rotations by 90 degrees, jitter {settings.jitter}; planes: {settings.axes}, mask ratio {settings.mask} |",
        f"| optimiser | AdamW, lr {settings.lr}, warm-up {settings.warmup} steps, cosine decay, weight decay "
        f"{settings.weight_decay}, clip {settings.clip}, mean of weights {settings.ema}, "
        f"{'bfloat16 autocast' if settings.amp else 'float32'} |",
        f"| loss on held-out crops | {loss} (mean squared error of hidden pixels; 1 is the error of the mean grey) |",
        f"| sha256 of the weights | `{facts['sha256']}` |",
        "",
    ]
    for title, text in settings.card.items():
        lines += [f"## {title}", "", text.strip(), ""]
    return "\n".join(lines)
