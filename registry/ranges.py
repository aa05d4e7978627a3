"""Ranges of numeric arguments of parts, as types: ``lr: Rate = 1e-3``.

A recipe is checked against them before anything runs (`registry.registry.signature_model`). NaN and infinity are
always rejected, unless a type allows them, ``Annotated[float, Field(allow_inf_nan=True)]``. Upper bounds lie far beyond
any sensible use, so that a typo cannot request all memory or run for a year.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

Positive = Annotated[float, Field(gt=0, le=1e9)]
NotNegative = Annotated[float, Field(ge=0, le=1e9)]
AboveOne = Annotated[float, Field(gt=1, le=1e9)]
Share = Annotated[float, Field(ge=0, lt=1)]  # of something, never all of it
Closed = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0, le=1e3)]  # of learning
Scale = Annotated[float, Field(gt=0, le=1e3)]  # px, of what is smoothed

Count = Annotated[int, Field(ge=1, le=10**9)]
Pair = Annotated[int, Field(ge=2, le=10**9)]  # a count that makes sense from two on
Steps = Annotated[int, Field(ge=0, le=10**9)]
Width = Annotated[int, Field(ge=1, le=8192)]  # of a layer, or coordinates
Widths = Annotated[list[Width], Field(max_length=16)]  # of the hidden layers, in order
Depth = Annotated[int, Field(ge=1, le=1000)]  # of a network, in blocks
Batch = Annotated[int, Field(ge=1, le=100_000)]
Pixels = Annotated[int, Field(ge=1, le=100_000)]  # along a side
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Threads = Annotated[int, Field(ge=1, le=1024)]  # more than any processor has; starting thousands would fail
