"""The context of reported numbers: versions, processor, cores, device."""

from __future__ import annotations

import os
import platform
import sys
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import sccs

PACKAGES = ("torch", "dgl", "numpy", "scipy", "scikit-image", "scikit-learn", "faiss-cpu", "faiss-gpu-cu12")


def environment(device: str) -> dict[str, Any]:
    """Versions, machine, `device` (cpu or cuda:N), command and time, as JSON values."""
    import torch

    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "sccs": sccs.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": device,
        "gpu": torch.cuda.get_device_name(device) if device != "cpu" else None,
        "command": " ".join(sys.argv),
        "time": datetime.now().isoformat(timespec="seconds"),
        "packages": versions,
    }


def processor() -> str:
    """The processor's name, as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"
