"""The only place that writes files, always atomically.

A file (or a folder, such as a Zarr store) is built under a temporary name next to its final one and renamed when
complete, so that neither an exception nor a kill leaves an incomplete file under the final name.
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

# The disk is full. Beyond a limit on file sizes (ulimit -f) it is EFBIG, as Python ignores SIGXFSZ.
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
)  # faults of the user's disk or path, never bugs
# Libraries that write without Python: their text quotes the system's error, or says that a part was not written.
_SAID = re.compile("|".join(map(re.escape, map(os.strerror, FULL))))
_CUT = re.compile(r"\d+ requested and \d+ written|FileStream.Write incomplete")  # NumPy, DGL
PROBE = 1 << 16  # bytes: more than what a full disk has left, as a rule
TEMPORARY = re.compile(r"\.[0-9a-f]{8}([-+])(.+)", re.DOTALL)  # -: being written; +: replaced, about to be removed


def disk_fault(error: BaseException | None) -> str | None:
    """The fault of the user's disk (no space, no permission) behind an exception; None if it has another cause."""
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
    """Raises UserError if `path` is a device, pipe or socket, which must not be replaced; with `folder` False, also if
    it is a folder, as a file would replace it and its content would be lost."""
    if not Path(os.path.realpath(path)).name:
        raise UserError(f"{path}: the root of a disk cannot be OUTPUT: choose a path below it")
    try:
        mode = os.stat(path).st_mode
    except OSError:  # missing or inaccessible: writing will tell
        return
    if os.path.islink(path) and os.readlink(path).startswith("/proc/"):  # /dev/stdout, whatever its target
        mode = stat.S_IFCHR
    if stat.S_ISDIR(mode) and not folder:
        raise UserError(f"{path}: is a folder, which is never replaced by a file: choose another name")
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        raise UserError(f"{path}: is a device, pipe or socket, which is never replaced: choose another name")


def check_text_place(path: str | os.PathLike[str]) -> None:
    """As `check_place` for a file; also raises UserError if `path` is not a text file but, say, an image, which a table
    or page must not replace."""
    check_place(path, folder=False)
    try:
        with open(path, "rb") as file:
            start = file.read(4096)
    except OSError:  # missing, or writing will tell
        return
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start)
    except UnicodeDecodeError:
        start = b"\0"
    if b"\0" in start:
        raise UserError(f"{path}: is not a text file, so it is not replaced by a table or page: choose another name")


def unwritable(path: str | os.PathLike[str], error: BaseException) -> UserError:
    """The error that says that `path` cannot be written, why, and what to do."""
    reason = disk_fault(error) or str(getattr(error, "strerror", None) or error)
    if isinstance(error, FileExistsError):  # a folder is to be created where there is a file
        reason = os.strerror(errno.ENOTDIR)
    mend = "choose another place"
    if reason in map(os.strerror, FULL[:2]):
        mend = f"free some space, or {mend}"
    elif reason == os.strerror(errno.ENAMETOOLONG):
        mend = "choose a shorter name"
    return UserError(f"cannot write {path}: {reason}: {mend}")


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a free name in the same folder; if the block succeeds, the file written there replaces `path`.

    The temporary name has the suffix of `path`, for writers that depend on it. Missing parent folders are
    created. If the block raises, the temporary file is removed and `path` does not change.

    Raises
    UserError: see `check_place`; the folder cannot be written, or the disk is full.
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


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A temporary folder, below TMPDIR if it is set, that is removed when the block ends.

    Raises UserError if none can be created, or if the block failed because its disk is full.
    """
    import tempfile

    try:
        made = tempfile.TemporaryDirectory(prefix="sccs-")
    except OSError as error:
        raise UserError(
            f"cannot create a temporary folder: {error.strerror}; set TMPDIR to a writable folder"
        ) from error
    with made as name:
        try:
            yield Path(name)
        except UserError:
            raise
        except Exception as error:
            if disk_fault(error) in [*map(os.strerror, FULL[:2])] and not _has_room(Path(name)):
                raise full_temporary(error) from error
            raise


def full_temporary(error: BaseException) -> UserError:
    """The error that says that the disk for temporary files is full, and what to do."""
    import tempfile

    return UserError(
        f"{tempfile.gettempdir()}: {disk_fault(error) or error}: free some space there, or set TMPDIR to a folder on "
        "another disk"
    )


def _has_room(folder: Path) -> bool:
    """Whether a file of `PROBE` bytes fits in."""
    probe = folder / "probe"
    try:
        probe.write_bytes(bytes(PROBE))
    except OSError:
        return False
    finally:
        remove(probe)
    return True


def _is_of(error: Exception, path: Path) -> bool:
    """Whether a call failed on `path` or below it, rather than on a file read at the same time."""
    name = getattr(error, "filename", None)
    if name is None:
        return False
    failed = Path(os.path.abspath(os.fsdecode(name)))  # libraries make names absolute
    return Path(os.path.abspath(path)) in (failed, *failed.parents)


def _beside(path: Path, sign: str) -> Path:
    return path.with_name(f".{secrets.token_hex(4)}{sign}{path.name}")


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write `data` to `path` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` to `path` atomically, in UTF-8, with unchanged line ends."""
    write_bytes(path, text.encode())


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON to `path` atomically. NaN and infinities are rejected, as JSON has none."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def move_into_place(temporary: Path, path: Path) -> None:
    """Give a finished file or folder its final name, replacing what was there. Raises UserError if a file would replace
    a folder."""
    check_place(path, folder=temporary.is_dir())
    if not path.is_dir():
        if temporary.is_dir() and os.path.lexists(path):
            path.unlink()  # a folder cannot replace a file by renaming
        os.replace(temporary, path)
        return
    # A folder cannot be replaced in one step: the old one is moved aside, and restored if the move fails.
    aside = _beside(path, "+")
    os.replace(path, aside)
    try:
        os.replace(temporary, path)
    except OSError:
        os.replace(aside, path)
        raise
    remove(aside)


def clear_remains(path: str | os.PathLike[str]) -> None:
    """Remove what killed commands left next to `path`, and inside it down to the second level.

    A folder that a killed command had moved aside is restored. Nothing else may be writing `path`.
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
    """Remove a file, link or folder, if it exists."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        path.unlink(missing_ok=True)
