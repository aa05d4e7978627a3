"""Checks, before anything is allocated, that an all-pairs computation fits into memory."""

from __future__ import annotations

import os
from pathlib import Path

from registry.base import UserError

GIB = 2**30


def free_memory(device: str = "cpu") -> int:
    """Free memory in bytes: of the machine, of the control group if that has less, or of a GPU."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024
    except OSError:  # not Linux
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
    except OSError:
        return free
    return free if limit == "max" else min(free, max(int(limit) - used, 0))


def check_pairs(what: str, nodes: int, bytes_per_pair: int, mend: str, device: str = "cpu") -> None:
    """Raise UserError if `bytes_per_pair` for every pair of `nodes` exceed the free memory of `device`. what: the
    option, as named in a recipe. mend: what to write instead."""
    needed, free = bytes_per_pair * nodes**2, free_memory(device)
    if needed > free:
        raise UserError(
            f"{what} compares every pair of nodes: {nodes} nodes in one image need {needed / GIB:.1f} GiB of memory, "
            f"but only {free / GIB:.1f} GiB are free; {mend}"
        )
