"""One command at a time on one OUTPUT: who writes it holds a lock of the operating system on OUTPUT.lock beside it.

OUTPUT is a file, a store or a run's folder, whatever the command. The lock ends with its process, however that ends; a
file that a killed command left is no obstacle, and goes with the next command, as all does that a killed command left
half written. Machines see each other's locks where their disk passes them on, as NFS does under Linux, and Lustre that
is mounted with `flock`. Where a disk knows no locks, a warning says so and nothing is locked. Workers of a command have
no lock of their own.
"""

from __future__ import annotations

import errno
import json
import os
import socket
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
UNKNOWN = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # what disks without locks answer
BRIEFLY = 60.0  # s that short work, such as naming a cluster, waits for its turn


def lock_file(output: str | os.PathLike[str]) -> Path:
    """The file beside `output` that is locked while it is written, and says by whom. Links to `output` share it."""
    path = Path(os.path.realpath(output))
    return path.with_name(path.name + SUFFIX)


@contextmanager
def held(output: str | os.PathLike[str], by: str = "sccs", wait: float = 0.0) -> Iterator[None]:
    """Nobody else who asks for it writes `output` meanwhile. Missing folders above it are made.

    by: what the others are told is at work. wait: seconds that another may take to finish.

    Raises UserError, which says by whom, where it is being written, and where it cannot be written at all, or where
    OUTPUT.lock is something else.
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
        for folder in made:  # that nothing was written to
            try:
                folder.rmdir()
            except OSError:
                break


def _take(path: Path, output: str | os.PathLike[str], by: str, wait: float) -> int | None:
    """Descriptor of the locked file, which names this process; None where no file can be made beside a folder."""
    end = time.monotonic() + wait
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file, writable = _opened(path)
        except OSError as error:
            if isinstance(error, PermissionError) and os.path.isdir(output) and os.access(output, os.W_OK):
                say_error(f"no lock can be made beside {output}: see that no other command writes it")
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
                path.unlink()  # left by another person
            elif _names(path, file):
                with suppress(OSError):  # a full disk takes no name, but still locks
                    _sign(file, by)
                return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)  # locked by another, or removed between open and lock by its last owner


def _opened(path: Path) -> tuple[int, bool]:
    """Descriptor, and whether it can be written: not where the file is another person's.

    Raises UserError for what is no lock of ours, such as a poetry.lock, which would be written over.
    """
    if os.path.lexists(path) and not (path.is_file() and not path.is_symlink() and _is_ours(path)):
        raise UserError(f"{path}: is not a lock of sccs, although named like one: move it, or choose another OUTPUT")
    link = getattr(os, "O_NOFOLLOW", 0)  # Windows has none
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | link, 0o666), True
    except PermissionError:
        if not path.exists():
            raise
        return os.open(path, os.O_RDONLY | link), False


def _is_ours(path: Path) -> bool:
    """Whether a lock's file holds what `_sign` writes, or so little that a full disk or a machine that died may have
    left it."""
    try:
        with open(path, "rb") as file:
            text = file.read(MOST + 1).strip(b"\0\n")
    except OSError:  # removed by its owner meanwhile, another person's, or locked on Windows: opening it tells
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
        say_error(f"this disk knows no locks: see that no other command writes {output}")
        return True


def _names(path: Path, file: int) -> bool:
    """Whether others who open `path` meet the file that is open here."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(file))
    except FileNotFoundError:
        return False


def _sign(file: int, by: str) -> None:
    values = (by, os.getpid(), socket.gethostname(), time.strftime("%Y-%m-%d %H:%M:%S"))
    about = dict(zip(SIGNS, values))
    os.ftruncate(file, 0)
    os.lseek(file, 0, os.SEEK_SET)
    os.write(file, b"\n" + json.dumps(about).encode())  # Windows lets nobody read the first byte, which is locked
    os.fsync(file)  # for readers on other machines


def _owner(file: int) -> str:
    """Who signed the file; asks again for a moment, since its owner may not have come to that."""
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
    """Remove the file while it is locked, so that nobody who opened it takes it for the lock; then unlock it."""
    with suppress(OSError):  # Windows removes no open file
        if _names(path, file):
            path.unlink()
    os.close(file)
    if os.name == "nt":
        with suppress(OSError):  # open elsewhere: the next owner removes it
            path.unlink()
