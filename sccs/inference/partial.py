"""OUTPUT.partial, the work until OUTPUT is complete, and whether it may be resumed."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from registry.base import UserError

PARTIAL = ".partial"
MEND = "pass --overwrite to start over"


def partial_folder(output: str | os.PathLike) -> Path:
    """OUTPUT.partial, which contains the work until OUTPUT is complete."""
    return Path(output).with_name(Path(output).name + PARTIAL)


def check_partial(output: str | os.PathLike, resume: bool, overwrite: bool, content: Collection[str]) -> None:
    """Raises UserError if there is unfinished work, or something else with its name. content: the names of the files
    that such work leaves."""
    folder = partial_folder(output)
    if os.path.lexists(folder) and not _is_ours(folder, content):
        raise UserError(
            f"{folder}: named like unfinished work, but is something else; move it away, or choose another output"
        )
    if folder.exists() and not (resume or overwrite):
        raise UserError(
            f"{folder}: contains unfinished work; pass --resume to continue it, --overwrite to start "
            "over, or choose another output"
        )


def _is_ours(folder: Path, content: Collection[str]) -> bool:
    """Whether a folder contains only files of such work, and hidden files."""
    return folder.is_dir() and all(name in content or name.startswith(".") for name in os.listdir(folder))


def check_same(before: Mapping[str, Any], now: Mapping[str, Any], within: str | None = None) -> None:
    """Raises UserError if resumed work would mix two kinds of blocks. within: the setting that contains these."""
    for key in now:
        if before.get(key) == now[key]:
            continue
        if isinstance(now[key], Mapping) and isinstance(before.get(key), Mapping):
            check_same(before[key], now[key], "" if within is None else f"{within}{key}.")
        raise UserError(
            f"--resume: {within or ''}{key} is {now[key]}, but the unfinished work was started with "
            f"{before.get(key)}; use the original options, or pass --overwrite to start over"
        )
