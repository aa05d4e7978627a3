"""How to install missing packages, by name and tested range; never the name sccs, which another package uses."""

from __future__ import annotations

import re
from importlib import metadata

DISTRIBUTION = "sccs-em"


def pip_install(*packages: str) -> str:
    """The pip command for packages, with the version range that SCCS requires, if any.

    >>> pip_install("zarr", "dask-jobqueue")
    "pip install 'zarr>=3.0' dask-jobqueue"
    """
    return "pip install " + " ".join(f"'{name}{_range(name)}'" if _range(name) else name for name in packages)


def faiss_install() -> str:
    """The pip commands for FAISS: for the CPU, and for an NVIDIA GPU."""
    return f"{pip_install('faiss-cpu')}, or {pip_install('faiss-gpu-cu12')} for an NVIDIA GPU"


def _range(package: str) -> str:
    try:
        stated = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:  # a checkout that is not installed
        return ""
    for requirement in stated:
        if match := re.match(rf"{re.escape(package)}(?:\[[^\]]*\])?\s*([<>=!~][^;]*)", requirement, re.IGNORECASE):
            return match[1].strip().replace(" ", "")
    return ""
