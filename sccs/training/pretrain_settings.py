"""The schemas of a recipe's `pretrain` block: for a masked autoencoder, and for a student."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from typing_extensions import Self

from registry.base import UserError
from registry.ranges import Batch, Count, Depth, NotNegative, Pixels, Positive, Rate, Share, Steps, Threads, Width

Stretch = Annotated[float, Field(gt=0, le=100)]  # of a crop


class Architecture(BaseModel):
    """Size of the autoencoder (default: the paper's)."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    patch: Pixels = 5  # px
    window: Pixels = 80  # px
    width: Width = 192
    depth: Depth = 14
    heads: Width = 1
    mlp_ratio: Annotated[float, Field(gt=0, le=100)] = 2
    decoder_width: Width = 128
    decoder_depth: Depth = 7
    decoder_heads: Width = 8
    position_weight: NotNegative = 0.08

    @model_validator(mode="after")
    def _divisible(self) -> Architecture:
        if self.window % self.patch:
            raise ValueError(f"window {self.window} is not a multiple of patch {self.patch}; paper: 80 and 5")
        for name in ("", "decoder_"):
            width, heads = getattr(self, f"{name}width"), getattr(self, f"{name}heads")
            if width % 4 or width % heads:
                raise ValueError(f"{name}width {width} must be a multiple of 4 and of {name}heads ({heads})")
        return self


class Training(BaseModel):
    """Settings common to both."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    data: Annotated[list[dict[str, Any]], Field(min_length=1)]  # `data` blocks; each gets the same share of the crops
    axes: Literal["all", "xy"] = "all"  # orientation of the crops; through z only if voxels are isotropic
    scale: tuple[Stretch, Stretch] = (0.7, 1.4)  # crop side / window
    jitter: NotNegative = 0.1  # sd of random contrast and brightness
    held_out: Annotated[float, Field(ge=0, le=0.5)] = (
        0.1  # share of each volume (its last columns) used only for scoring
    )
    steps: Count = 20000
    max_minutes: Positive | None = None  # the schedule ends at `steps` or here, whichever comes first
    batch: Batch = 8
    lr: Rate = 1e-3
    warmup: Steps = 100  # steps
    weight_decay: NotNegative = 0.05
    betas: tuple[Share, Share] = (0.9, 0.95)
    clip: Positive = 1.0  # norm of the gradient
    ema: Share = 0.999  # running mean of the weights, which is saved; 0: the last weights
    amp: bool = True  # bfloat16 where it is safe
    threads: Threads | None = None  # CPU threads; null: PyTorch's own choice
    log_every: Count = 50  # steps
    checkpoint_every: Count = 500  # steps
    card: dict[str, str] = {}  # title -> text, additional sections of the model card

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.scale[0] > self.scale[1]:
            raise ValueError(f"scale: {list(self.scale)} is not [smallest, largest]")
        return self


class Pretrain(Training):
    """The `pretrain` block of a masked autoencoder."""

    architecture: Architecture = Architecture()
    checkpoint: str | None = None  # start from this encoder: "bundled" or a .safetensors file; null: from noise
    mask: Annotated[float, Field(gt=0, lt=1)] = 0.5


class StudentSize(BaseModel):
    """Size of the student; `out` is the teacher's width."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    width: Width = 32


class Distil(Training):
    """The `pretrain` block of a student, which names a `teacher`."""

    teacher: str  # "bundled" or an MAE's .safetensors file
    architecture: StudentSize = StudentSize()
    windows: Annotated[int, Field(ge=1, le=16)] = 2  # of the teacher, along a crop's side
    noise: NotNegative = 0.3  # maximal sd of the noise added to a crop
    blur: NotNegative = 1.0  # px, maximal sd of the blur of a crop
    crops: Annotated[int, Field(ge=1, le=4096)] = 512  # for which the teacher computes tokens at a time; .4 MB each
    passes: Count = 6  # over these crops, before the next ones

    @model_validator(mode="after")
    def _whole_batches(self) -> Self:
        if self.crops % self.batch:
            raise ValueError(f"crops {self.crops} is not a multiple of batch {self.batch}")
        return self


def settings_of(block: Mapping[str, Any]) -> type[Pretrain] | type[Distil]:
    """The schema of a `pretrain` block; the schema itself rejects anything else."""
    return Distil if isinstance(block, Mapping) and "teacher" in block else Pretrain


def parse(block: Mapping[str, Any]) -> Pretrain | Distil:
    """Check a `pretrain` block; raises UserError with the dotted path of the first mistake."""
    try:
        return settings_of(block).model_validate_json(json.dumps(block))
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{'.'.join(map(str, ('pretrain', *first['loc'])))}: {first['msg']}") from None
