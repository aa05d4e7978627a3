"""The schema of a recipe: its top-level keys, and the blocks whose keys are fixed (`train`, `evaluation`)."""

from __future__ import annotations

import re
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator

import registry
from registry.ranges import Batch, Count, NotNegative, Rate, Seed, Steps, Threads
from sccs.system.device import DEVICE

WEIGHTS = {"spe": 1.0, "clu": 1.0, "smo": 0.1}  # paper, section 3.4: 1, gamma_1, gamma_2

MappingName = Literal["train", "hungarian", "greedy", "majority", "oracle"]


class Block(BaseModel):
    """A recipe block with a fixed set of keys."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


Schedule = Literal["constant", "cosine"]
Trained = Literal["embedder", "clusterer"]


class Train(Block):
    """How the trainable parts are trained."""

    iterations: Steps = 6000
    lr: Rate = 0.01
    schedule: Schedule | dict[Trained, Schedule] = "constant"  # for all parts, or for each; cosine: down to lr / 100
    batch: Batch = 1  # graphs per step
    weights: dict[str, NotNegative] = dict(WEIGHTS)  # loss term -> weight
    checkpoint_every: Count = 500  # steps
    log_every: Count = 50  # steps
    threads: Threads | None = None  # CPU threads; null: PyTorch's own choice

    @field_validator("weights")
    @classmethod
    def _complete(cls, given: dict[str, float]) -> dict[str, float]:
        return {**WEIGHTS, **given}


class Evaluation(Block):
    """How clusters become classes, what is reported first, and which pixels are scored and shown.

    fovs: "overlapping" fields of view, stitched as in `sccs segment`; or "separate" ones that do not overlap, the
    paper's protocol. Applies to the scores, the report and the segmentations in the run's folder.
    """

    mappings: Annotated[list[MappingName], Field(min_length=1)] = list(get_args(MappingName))
    headline: MappingName = "train"
    rest: str | None = None  # class left out of the second mean
    fovs: Literal["overlapping", "separate"] = "overlapping"


class General(Block):
    """Top-level keys of a recipe that are not blocks."""

    description: str = ""
    seed: Seed = 0
    device: str = "auto"
    plugins: list[str] = []

    @field_validator("device")
    @classmethod
    def _known(cls, device: str) -> str:
        if not re.fullmatch(DEVICE, device):
            raise ValueError(f"got {device!r}; expected auto, cpu, cuda or cuda:N")
        return device


TOP_LEVEL = ("extends", *General.model_fields, "data", *registry.ROLES, "train", "evaluation", "pretrain")
