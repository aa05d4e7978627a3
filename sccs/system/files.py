"""The one place that writes files: whole or not at all.

A file (or a folder, such as a Zarr store) is built beside its final name and moved there when it is complete, so
that neither an exception nor a kill leaves half of one under the name that others read.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from registry.base import UserError

_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM}


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a free name in the same folder; when the block ends well, what was written there replaces `path`.

    The temporary name ends like `path`, so that writers which go by the suffix behave. Missing parent folders are
    made. When the block raises, what it wrote is removed and `path` stays as it was.

    Raises
        UserError: the folder cannot be written to, or the disk is full.
    """
    path = Path(path)
    temporary = path.with_name(f".{secrets.token_hex(4)}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        yield temporary
        move_into_place(temporary, path)
    except OSError as error:
        target = error.filename is not None and Path(os.fsdecode(error.filename)) == temporary
        if error.errno in _DISK or (error.errno in _FORBIDDEN and target):
            raise _unwritable(path, error) from error
        raise
    finally:
        remove(temporary)


def _unwritable(path: Path, error: OSError) -> UserError:
    return UserError(f"cannot write {path}: {error.strerror or error}: choose another place")


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write `data` to `path` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` to `path` atomically, UTF-8, line ends as they are."""
    write_bytes(path, text.encode())


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON to `path` atomically. NaN and infinities are refused: JSON has none."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def move_into_place(temporary: Path, path: Path) -> None:
    """Give a finished file or folder its final name; what had it before goes."""
    if not path.is_dir():
        os.replace(temporary, path)
        return
    # A folder cannot be replaced in one step: the old one steps aside, and comes back if the move fails.
    aside = path.with_name(f".{secrets.token_hex(4)}-old-{path.name}")
    os.replace(path, aside)
    try:
        os.replace(temporary, path)
    except OSError:
        os.replace(aside, path)
        raise
    remove(aside)


def remove(path: Path) -> None:
    """A file, a link or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
