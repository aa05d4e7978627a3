"""One command at a time on one OUTPUT: while it is written, OUTPUT.lock beside it says who writes.

The lock goes with the command that took it. One that was left by a killed command is taken over: at once where the
process can be looked for (the same machine since it was started, the same process namespace), else when nobody has
touched it for a while, as its owner does every few seconds. Workers of a command have no lock of their own.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from registry.base import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

SUFFIX = ".lock"
BEAT = 10.0  # seconds between two touches by the owner
SILENCE = 60.0  # seconds without one, after which the owner counts as gone


def lock_file(output: str | os.PathLike) -> Path:
    return Path(output).with_name(Path(output).name + SUFFIX)


@contextmanager
def held(output: str | os.PathLike) -> Iterator[None]:
    """Nobody else who asks for it writes `output` meanwhile. Missing folders above it are made.

    Raises UserError, which says by whom, where it is being written.
    """
    path = lock_file(output)
    made = [folder for folder in path.parents if not folder.exists()]  # deepest first
    path.parent.mkdir(parents=True, exist_ok=True)
    mine = {
        **_here(),
        "pid": os.getpid(),
        "started": _started(os.getpid()),
        "token": secrets.token_hex(8),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }
    text = json.dumps(mine)
    ended = threading.Event()
    try:
        _take(path, text, output)
        threading.Thread(target=_beat, args=(path, ended), daemon=True).start()
        try:
            yield
        finally:
            ended.set()
            if _read(path)[0] == text:
                path.unlink(missing_ok=True)
    finally:
        for folder in made:  # that nothing was written to
            try:
                folder.rmdir()
            except OSError:
                break


def _take(path: Path, text: str, output: str | os.PathLike) -> None:
    while True:
        try:
            file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            found, touched = _read(path)
            if found is None:
                continue
            if _lives(path, found, touched):
                raise UserError(
                    f"{output}: is being written by {_owner(found)}; wait until it is done, or choose another OUTPUT"
                ) from None
            _remove_stale(path, found)
            continue
        with os.fdopen(file, "w") as stream:
            stream.write(text)
        return


def _read(path: Path) -> tuple[str | None, float]:
    """What is in the lock, and when it was touched last; None where it is gone."""
    try:
        with open(path) as file:  # opened anew: network file systems keep what they know of a closed file
            return file.read(), os.fstat(file.fileno()).st_mtime
    except FileNotFoundError:
        return None, 0.0


def _lives(path: Path, found: str, touched: float) -> bool:
    """Whether the owner of the lock is at work; watches for its touch where the process cannot be looked for."""
    about = _parsed(found)
    if os.name == "posix" and all(about.get(key) == value for key, value in _here().items()):
        started = _started(about.get("pid", 0))
        return started is not None and started == about.get("started")
    print(
        f"sccs: {path} is of {_owner(found)}; looking for up to {SILENCE:.0f} s whether it is still at work",
        file=sys.stderr,
    )
    end = time.monotonic() + SILENCE
    while time.monotonic() < end:
        time.sleep(min(1.0, SILENCE / 10))
        now = _read(path)
        if now != (found, touched):
            return now[0] is not None
    return False


def _remove_stale(path: Path, found: str) -> None:
    """Out of the way, unless another command was faster and the lock is its own already."""
    try:
        with open(path) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX)  # of those who found it stale, one after the other
            except (AttributeError, OSError):  # a system, or a file system, without
                pass
            if file.read() == found and os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                path.unlink()
    except FileNotFoundError:
        pass


def _beat(path: Path, ended: threading.Event) -> None:
    while not ended.wait(BEAT):
        try:
            os.utime(path)
        except OSError:  # a disk that is away for a moment
            pass


def _parsed(text: str) -> dict:
    try:
        about = json.loads(text)
    except ValueError:  # not written yet, or cut off
        return {}
    return about if isinstance(about, dict) else {}


def _owner(text: str) -> str:
    about = _parsed(text)
    return (
        f"another sccs segment (process {about.get('pid', '?')} on {about.get('host', '?')}, since "
        f"{about.get('since', '?')})"
    )


def _here() -> dict[str, str]:
    """Where process numbers mean what they mean here."""

    def known(read) -> str:
        try:
            return read()
        except OSError:
            return ""

    return {
        "host": socket.gethostname(),
        "boot": known(lambda: Path("/proc/sys/kernel/random/boot_id").read_text().strip()),
        "namespace": known(lambda: os.readlink("/proc/self/ns/pid")),
    }


def _started(pid: int) -> str | None:
    """When a process of this machine was started, which tells it from a later one of that number; "" where the system
    does not say; None: it is gone."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if state in "ZX" else rest[18]  # dead, but not yet buried
    except (OSError, ValueError):
        if os.path.isdir("/proc/self"):
            return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return ""
