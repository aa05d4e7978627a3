"""The model cards of a pre-trained encoder and of a student."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sccs.training.pretrain_settings import Distil, Pretrain


def encoder_card(facts: Mapping[str, Any], settings: Pretrain) -> str:
    """Markdown: the checkpoint's architecture, data, training, loss and hash."""
    size = facts["architecture"]
    lines = [
        "# Masked autoencoder for volume EM",
        "",
        "Encoder of a masked autoencoder, trained without labels; weights in half precision, safetensors.",
        "The decoder is omitted, as features need only the encoder.",
        "",
        "| fact | value |",
        "|---|---|",
        f"| architecture | {', '.join(f'{name} {value}' for name, value in size.items())} |",
        *_training(facts, settings),
        f"| crops | side {settings.scale[0]} to {settings.scale[1]} windows resized to {size['window']} px, flips, "
        f"rotations by 90 degrees, jitter {settings.jitter}; planes: {settings.axes}, mask ratio {settings.mask} |",
        _optimiser(settings),
        f"| loss on held-out crops | {_loss(facts)} (mean squared error of hidden pixels; 1 is the error of the "
        "mean grey) |",
        f"| sha256 of the weights | `{facts['sha256']}` |",
        "",
    ]
    return "\n".join(lines + _sections(settings))


def student_card(facts: Mapping[str, Any], settings: Distil, teacher: str) -> str:
    """The same for a student; `teacher`: the hash of the teacher's weights."""
    size = facts["architecture"]
    lines = [
        "# Student of a masked autoencoder for volume EM",
        "",
        "A convolutional net that predicts the tokens of a masked autoencoder's encoder, trained without labels;",
        "weights in half precision, batch normalisation folded in, safetensors.",
        "",
        "| fact | value |",
        "|---|---|",
        f"| architecture | {', '.join(f'{name} {value}' for name, value in size.items())} |",
        f"| teacher | sha256 of the weights `{teacher}` |",
        *_training(facts, settings),
        f"| crops | side {settings.scale[0]} to {settings.scale[1]} times {settings.windows} windows of the teacher, "
        f"resized to these, flips, rotations by 90 degrees, jitter {settings.jitter}, noise up to {settings.noise} sd, "
        f"blur up to {settings.blur} px; planes: {settings.axes}; {settings.passes} passes over {settings.crops} at a "
        "time |",
        _optimiser(settings),
        f"| loss on held-out crops | {_loss(facts)} (mean squared error of the teacher's standardised tokens; 1 is the "
        "error of their mean) |",
        f"| sha256 of the weights | `{facts['sha256']}` |",
        "",
    ]
    return "\n".join(lines + _sections(settings))


def _training(facts: Mapping[str, Any], settings: Pretrain | Distil) -> list[str]:
    return [
        f"| trained on (no labels) | {', '.join(facts['data'])} |",
        "| input | grey images, standardised per volume: (x - mean) / sd |",
        f"| training | {facts['steps']} steps of {settings.batch} crops ({facts['crops']:,} crops), "
        f"{facts['minutes']} min, seed {facts['seed']} |",
    ]


def _optimiser(settings: Pretrain | Distil) -> str:
    return (
        f"| optimiser | AdamW, lr {settings.lr}, warm-up {settings.warmup} steps, cosine decay, weight decay "
        f"{settings.weight_decay}, clip {settings.clip}, mean of weights {settings.ema}, "
        f"{'bfloat16 autocast' if settings.amp else 'float32'} |"
    )


def _loss(facts: Mapping[str, Any]) -> str:
    return "none" if facts["held_out_loss"] is None else f"{facts['held_out_loss']:.4f}"


def _sections(settings: Pretrain | Distil) -> list[str]:
    return [line for title, text in settings.card.items() for line in (f"## {title}", "", text.strip(), "")]
