"""The one place that writes files: whole or not at all.

A file (or a folder, such as a Zarr store) is built beside its final name and moved there when it is complete, so
that neither an exception nor a kill leaves half of one under the name that others read.
"""

from __future__ import annotations

import codecs
import errno
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from registry.base import UserError

# The disk takes no more, whoever writes. Beyond a limit on files (ulimit -f) it is EFBIG: Python ignores SIGXFSZ.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
DENIED = (
    *FULL,
    errno.EACCES,
    errno.EPERM,
    errno.EIO,
    errno.ESTALE,
    errno.ENOTDIR,
    errno.ENAMETOOLONG,
    errno.ELOOP,
)  # faults of the user's disk or path, never of ours
# Of libraries that write without Python: what the system says is in their text, or that a part was not written.
_SAID = re.compile("|".join(map(re.escape, map(os.strerror, FULL))))
_CUT = re.compile(r"\d+ requested and \d+ written|FileStream.Write incomplete")  # NumPy, DGL
TEMPORARY = re.compile(r"\.[0-9a-f]{8}([-+])(.+)", re.DOTALL)  # -: being written; +: replaced, and about to go


def disk_fault(error: BaseException | None) -> str | None:
    """What the user's disk has against it: no room, no permission. None where the exception tells of something else."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in DENIED:
            return error.strerror or os.strerror(error.errno)
        if not isinstance(error, UserError) and (not isinstance(error, OSError) or error.errno is None):
            if found := _SAID.search(str(error)):
                return found[0]
            if _CUT.search(str(error)):
                return os.strerror(errno.ENOSPC)
        error = error.__cause__
    return None


def check_place(path: str | os.PathLike[str], folder: bool = True) -> None:
    """Raises UserError where `path` is a device, a pipe or a socket, which nothing replaces; with `folder` False, also
    where it is a folder, since a file is to be written, and what the folder holds would be lost."""
    if not Path(os.path.realpath(path)).name:
        raise UserError(f"{path}: the root of a disk cannot be OUTPUT: choose a name below it")
    try:
        mode = os.stat(path).st_mode
    except OSError:  # nothing is there, or nothing that can be looked at: writing tells
        return
    if os.path.islink(path) and os.readlink(path).startswith("/proc/"):  # /dev/stdout, wherever it leads
        mode = stat.S_IFCHR
    if stat.S_ISDIR(mode) and not folder:
        raise UserError(f"{path}: a folder, which no file replaces: choose another name")
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        raise UserError(f"{path}: a device, a pipe or a socket, which is never replaced: choose another name")


def check_text_place(path: str | os.PathLike[str]) -> None:
    """As `check_place` of a file; raises UserError too where `path` holds no text, such as an image: no table or page
    takes its place."""
    check_place(path, folder=False)
    try:
        with open(path, "rb") as file:
            start = file.read(4096)
    except OSError:  # nothing is there, or writing tells
        return
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start)
    except UnicodeDecodeError:
        start = b"\0"
    if b"\0" in start:
        raise UserError(f"{path}: holds no text, so no table or page takes its place: choose another name")


def unwritable(path: str | os.PathLike[str], error: BaseException) -> UserError:
    """The one line that says that `path` cannot be written, why, and what to do."""
    reason = disk_fault(error) or str(getattr(error, "strerror", None) or error)
    if isinstance(error, FileExistsError):  # of a folder that is to be made where a file is
        reason = os.strerror(errno.ENOTDIR)
    mend = "choose another place"
    if reason in map(os.strerror, FULL[:2]):
        mend = f"make room, or {mend}"
    elif reason == os.strerror(errno.ENAMETOOLONG):
        mend = "choose a shorter name"
    return UserError(f"cannot write {path}: {reason}: {mend}")


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a free name in the same folder; when the block ends well, what was written there replaces `path`.

    The temporary name ends like `path`, so that writers which go by the suffix behave. Missing parent folders are
    made. When the block raises, what it wrote is removed and `path` stays as it was.

    Raises
        UserError: see `check_place`; the folder cannot be written to, or the disk is full.
    """
    path = Path(path)
    check_place(path)
    temporary = _beside(path, "-")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        yield temporary
        move_into_place(temporary, path)
    except UserError:
        raise
    except Exception as error:
        reason = disk_fault(error)
        if reason is not None and (reason in map(os.strerror, FULL) or _is_of(error, temporary)):
            raise unwritable(path, error) from error
        raise
    finally:
        remove(temporary)


def _is_of(error: Exception, path: Path) -> bool:
    """Whether a call failed on `path` or on something below it; what is read meanwhile may have faults of its own."""
    name = getattr(error, "filename", None)
    return name is not None and path in (Path(os.fsdecode(name)), *Path(os.fsdecode(name)).parents)


def _beside(path: Path, sign: str) -> Path:
    return path.with_name(f".{secrets.token_hex(4)}{sign}{path.name}")


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
    """Give a finished file or folder its final name; what had it before goes. Raises UserError for a file in the place
    of a folder."""
    check_place(path, folder=temporary.is_dir())
    if not path.is_dir():
        if temporary.is_dir() and os.path.lexists(path):
            path.unlink()  # a folder takes the name of no file
        os.replace(temporary, path)
        return
    # A folder cannot be replaced in one step: the old one steps aside, and comes back if the move fails.
    aside = _beside(path, "+")
    os.replace(path, aside)
    try:
        os.replace(temporary, path)
    except OSError:
        os.replace(aside, path)
        raise
    remove(aside)


def clear_remains(path: str | os.PathLike[str]) -> None:
    """Remove what killed commands left of `path`: beside it, and in it down to the second folder.

    A folder that had stepped aside when its command was killed comes back. Nobody else may be writing `path`.
    """
    path = Path(path)
    inside = [path, *path.glob("*/"), *path.glob("*/*/")] if path.is_dir() else []
    for folder in [path.parent, *(each for each in inside if not each.is_symlink())]:
        with suppress(OSError):
            for name in os.listdir(folder):
                match = TEMPORARY.fullmatch(name)
                if match is None or (folder == path.parent and match[2] != path.name):
                    continue
                if match[1] == "+" and not os.path.lexists(folder / match[2]):
                    os.replace(folder / name, folder / match[2])
                else:
                    remove(folder / name)


def remove(path: Path) -> None:
    """A file, a link or a folder, if it is there."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        path.unlink(missing_ok=True)
