"""The number format that encoders compute in, by device."""

from __future__ import annotations

from typing import Literal

import torch

Precision = Literal["float32", "bfloat16", "auto"]
WithBytes = Literal["float32", "bfloat16", "int8", "auto"]


def uses_bfloat16(precision: Precision | WithBytes, device: str) -> bool:
    """Whether a part with this `precision` computes in bfloat16 on `device`, where it computes in floating point."""
    return precision == "bfloat16" or (precision in ("auto", "int8") and multiplies_bfloat16(device))


def multiplies_bfloat16(device: str) -> bool:
    """Whether the device multiplies bfloat16 matrices natively: supporting GPUs, and CPUs with AMX or AVX512_BF16."""
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    asked = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")  # PyTorch has no public names for them
    return any(bool(getattr(torch.cpu, name, bool)()) for name in asked)
