"""The schema of a recipe's `pretrain` block."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from registry.base import UserError

Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]


class Architecture(BaseModel):
    """Size of the autoencoder (default: the paper's)."""

    model_config = ConfigDict(extra="forbid", strict=True)
    patch: Positive = 5  # px
    window: Positive = 80  # px
    width: Positive = 192
    depth: Positive = 14
    heads: Positive = 1
    mlp_ratio: Annotated[float, Field(gt=0)] = 2
    decoder_width: Positive = 128
    decoder_depth: Positive = 7
    decoder_heads: Positive = 8
    position_weight: Annotated[float, Field(ge=0)] = 0.08

    @model_validator(mode="after")
    def _divisible(self) -> Architecture:
        if self.window % self.patch:
            raise ValueError(f"window {self.window} is not a multiple of patch {self.patch}; paper: 80 and 5")
        for name in ("", "decoder_"):
            width, heads = getattr(self, f"{name}width"), getattr(self, f"{name}heads")
            if width % 4 or width % heads:
                raise ValueError(f"{name}width {width} must be a multiple of 4 and of {name}heads ({heads})")
        return self


class Pretrain(BaseModel):
    """The `pretrain` block of a recipe."""

    model_config = ConfigDict(extra="forbid", strict=True)
    data: Annotated[list[dict[str, Any]], Field(min_length=1)]  # `data` blocks; each gets the same share of the crops
    architecture: Architecture = Architecture()
    checkpoint: str | None = None  # start from this encoder: "bundled" or a .safetensors file; null: from noise
    axes: Literal["all", "xy"] = "all"  # planes that crops are taken from; through z only where voxels are isotropic
    scale: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (0.7, 1.4)  # crop side / window
    jitter: Annotated[float, Field(ge=0)] = 0.1  # sd of random contrast and brightness
    held_out: Annotated[float, Field(ge=0, le=0.5)] = 0.1  # share of each volume, its last columns, that is only scored
    mask: Annotated[float, Field(gt=0, lt=1)] = 0.5
    steps: Positive = 20000
    max_minutes: Annotated[float, Field(gt=0)] | None = None  # the schedule ends at `steps` or here, what comes first
    batch: Positive = 8
    lr: Annotated[float, Field(gt=0)] = 1e-3
    warmup: Annotated[int, Field(ge=0)] = 100  # steps
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    betas: tuple[Share, Share] = (0.9, 0.95)
    clip: Annotated[float, Field(gt=0)] = 1.0  # norm of the gradient
    ema: Share = 0.999  # running mean of the weights, which is what is kept; 0: the last weights
    amp: bool = True  # bfloat16 where it is safe
    threads: Positive | None = None  # CPU threads; null: PyTorch's own choice
    log_every: Positive = 50  # steps
    checkpoint_every: Positive = 500  # steps
    card: dict[str, str] = {}  # title -> text, sections that the model card gets besides the run's facts

    @model_validator(mode="after")
    def _ordered(self) -> Pretrain:
        if self.scale[0] > self.scale[1]:
            raise ValueError(f"scale: {list(self.scale)} is not [smallest, largest]")
        return self


def parse(block: Mapping[str, Any]) -> Pretrain:
    """Check a `pretrain` block; raises UserError with the dotted path of the first mistake."""
    try:
        return Pretrain.model_validate_json(json.dumps(block))
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{'.'.join(map(str, ('pretrain', *first['loc'])))}: {first['msg']}") from None
