"""One command at a time per OUTPUT: the writer holds an operating-system lock on OUTPUT.lock next to it.

OUTPUT is a file, a store or a run's folder. The lock is released when its process ends, however that happens; the lock
file and partial output of a killed command do not matter, and the next command removes them. Machines see each other's
locks if the file system supports it, as NFS does under Linux, and Lustre if mounted with `flock`. If the disk does not
support locks, a warning says so and nothing is locked. A command's workers have no lock of their own.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import lock_descriptor

from registry.base import UserError
from sccs.system.files import check_place, clear_remains, unwritable
from sccs.system.log import say_error

SUFFIX = ".lock"
SIGNS = ("by", "pid", "host", "since")  # keys of the JSON in a lock's file
MOST = 4096  # bytes of it
TORN = 256  # bytes of one that is damaged
UNKNOWN = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # errors of disks without locks
BRIEFLY = 60.0  # s that short work, such as naming a cluster, waits for its turn


def lock_file(output: str | os.PathLike[str]) -> Path:
    """The file next to `output` that is locked while it is written, and says by whom. Links to `output` share it."""
    path = Path(os.path.realpath(output))
    return path.with_name(path.name + SUFFIX)


@contextmanager
def held(output: str | os.PathLike[str], by: str = "sccs", wait: float = 0.0) -> Iterator[None]:
    """Hold the lock on `output`. Missing parent folders are created.

    by: the name of the writer, shown to others. wait: seconds to wait for another writer.

    Raises UserError if it is being written (and by whom), if it cannot be written at all, or if OUTPUT.lock is
    something else.
    """
    check_place(output)
    path = lock_file(output)
    made = [folder for folder in path.parents if not os.path.exists(folder)]  # deepest first
    try:
        file = _take(path, output, by, wait)
        try:
            clear_remains(path.with_name(path.name.removesuffix(SUFFIX)))
            yield
        finally:
            if file is not None:
                _give_back(path, file)
    finally:
        for folder in made:  # remove those still empty
            try:
                folder.rmdir()
            except OSError:
                break


def _take(path: Path, output: str | os.PathLike[str], by: str, wait: float) -> int | None:
    """Descriptor of the locked file, which names this process; None if no file can be created next to a folder."""
    end = time.monotonic() + wait
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file, writable = _opened(path)
        except OSError as error:
            if isinstance(error, PermissionError) and os.path.isdir(output) and os.access(output, os.W_OK):
                say_error(f"cannot create a lock next to {output}: make sure that no other command writes it")
                return None
            raise unwritable(output, error) from error
        try:
            if not _locked(file, output):
                if time.monotonic() >= end:
                    raise UserError(
                        f"{output}: is being written by {_owner(file)}; wait until it is done, or choose another OUTPUT"
                    )
                time.sleep(0.05)
            elif not writable:
                path.unlink()  # left by another user
            elif _names(path, file):
                with suppress(OSError):  # a full disk cannot store the name, but still locks
                    _sign(file, by)
                return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)  # locked by another, or removed between open and lock by its last owner


def _opened(path: Path) -> tuple[int, bool]:
    """Descriptor, and whether it can be written, which it cannot if another user owns it.

    Raises UserError if it is not our lock, such as a poetry.lock, which must not be overwritten.
    """
    if _is_other(path):
        raise UserError(f"{path}: named like a lock file of sccs, but is not one: move it, or choose another OUTPUT")
    link = getattr(os, "O_NOFOLLOW", 0)  # Windows has none
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | link, 0o666), True
    except PermissionError:
        if not path.exists():
            raise
        return os.open(path, os.O_RDONLY | link), False


def _is_other(path: Path) -> bool:
    """Whether something that is no lock file has its name. One look tells: its last owner may remove it meanwhile."""
    try:
        mode = os.lstat(path).st_mode
    except OSError:  # missing or inaccessible: opening it will tell
        return False
    return not (stat.S_ISREG(mode) and _is_ours(path))


def _is_ours(path: Path) -> bool:
    """Whether a lock file contains what `_sign` writes, or so little that a full disk or a crash may have left it."""
    try:
        with open(path, "rb") as file:
            text = file.read(MOST + 1).strip(b"\0\n")
    except OSError:  # removed meanwhile, another user's, or locked on Windows: opening it will tell
        return True
    about: Any = None
    with suppress(ValueError, RecursionError):
        about = json.loads(text)
    return set(about) <= set(SIGNS) if isinstance(about, dict) else len(text) <= TORN


def _locked(file: int, output: str | os.PathLike[str]) -> bool:
    try:
        return lock_descriptor(file, blocking=False)
    except OSError as error:
        if error.errno not in UNKNOWN:
            raise
        say_error(f"this file system does not support locks: make sure that no other command writes {output}")
        return True


def _names(path: Path, file: int) -> bool:
    """Whether `path` still refers to the open file."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(file))
    except FileNotFoundError:
        return False


def _sign(file: int, by: str) -> None:
    values = (by, os.getpid(), socket.gethostname(), time.strftime("%Y-%m-%d %H:%M:%S"))
    about = dict(zip(SIGNS, values))
    os.ftruncate(file, 0)
    os.lseek(file, 0, os.SEEK_SET)
    os.write(file, b"\n" + json.dumps(about).encode())  # on Windows the locked first byte is unreadable
    os.fsync(file)  # for readers on other machines


def _owner(file: int) -> str:
    """Who signed the file; retries briefly, as its owner may not have signed it yet."""
    about: dict[str, object] = {}
    for _ in range(20):
        os.lseek(file, 1, os.SEEK_SET)
        with suppress(ValueError, TypeError, RecursionError):
            about = dict(json.loads(os.read(file, MOST)))
            break
        time.sleep(0.05)
    by, process, host, since = (about.get(key, "?") for key in SIGNS)
    return f"another {'sccs' if by == '?' else by} (process {process} on {host}, since {since})"


def _give_back(path: Path, file: int) -> None:
    """Remove the file while it is locked, so that nobody mistakes it for the lock; then unlock it."""
    with suppress(OSError):  # Windows cannot remove open files
        if _names(path, file):
            path.unlink()
    os.close(file)
    if os.name == "nt":
        with suppress(OSError):  # open elsewhere: the next owner removes it
            path.unlink()
