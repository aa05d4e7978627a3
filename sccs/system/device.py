"""Choice of the device."""

from __future__ import annotations

import re

from registry.base import UserError

DEVICE = r"auto|cpu|cuda(:\d+)?"


def resolve_device(device: str) -> str:
    """``auto`` -> the first GPU if there is one, else the CPU; ``cpu`` and ``cuda[:N]`` -> themselves.

    Raises UserError for other values, and for a missing GPU: a run never falls back to the CPU.
    """
    import torch

    if not re.fullmatch(DEVICE, device):
        raise UserError(f"device {device!r} is unknown; use auto, cpu, cuda or cuda:N")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto":
        return "cuda:0" if count else "cpu"
    if device == "cpu":
        return device
    index = int(device.partition(":")[2] or 0)
    if index >= count:
        found = f"{count} found, cuda:0 to cuda:{count - 1}" if count else "no usable GPU found"
        raise UserError(f"device {device!r} is not available ({found}); use --device auto or --device cpu")
    return f"cuda:{index}"
