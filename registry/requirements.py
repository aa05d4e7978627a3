"""How to install what is missing: packages by their own names and tested ranges, never ours (others use that name)."""

from __future__ import annotations

import re
from importlib import metadata

DISTRIBUTION = "sccs-em"


def pip_install(*packages: str) -> str:
    """``pip install 'zarr>=3.0'``, with the range that SCCS states for each package; the plain name without one."""
    return "pip install " + " ".join(f"'{name}{_range(name)}'" if _range(name) else name for name in packages)


def faiss_install() -> str:
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
