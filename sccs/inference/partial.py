"""OUTPUT.partial, where work lies until OUTPUT is whole, and whether it may be gone on with."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from registry.base import UserError

PARTIAL = ".partial"
MEND = "give --overwrite to begin anew"


def partial_folder(output: str | os.PathLike) -> Path:
    """OUTPUT.partial, where the work lies until OUTPUT is whole."""
    return Path(output).with_name(Path(output).name + PARTIAL)


def check_partial(output: str | os.PathLike, resume: bool, overwrite: bool) -> None:
    """Raises UserError where an unfinished segmentation lies in the way."""
    folder = partial_folder(output)
    if folder.exists() and not (resume or overwrite):
        raise UserError(
            f"{folder}: an unfinished segmentation; give --resume to go on with it, --overwrite to begin "
            "anew, or another OUTPUT"
        )


def check_same(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raises UserError where a resumed segmentation would mix two kinds of blocks."""
    changed = [key for key in now if before.get(key) != now[key]]
    if changed:
        key = changed[0]
        raise UserError(
            f"--resume: {key} is {now[key]}, but the segmentation began with {before.get(key)}; resume "
            "with its own options, or give --overwrite to begin anew"
        )
