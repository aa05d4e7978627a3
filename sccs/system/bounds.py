"""Bounds on how much of a file is read before it is trusted; docs/reliability_bounds.md gives the reasons.

A damaged or malicious file causes a one-line error instead of a full disk, exhausted memory or an endless wait.
"""

from __future__ import annotations

import errno
import os
import stat
import zipfile

from registry.base import UserError

YAML = 1 << 20  # bytes of a recipe, of classes.yaml, of resolved.yaml
DEPTH = 64  # nesting of YAML blocks
VALUES = 50_000  # in a YAML file, with aliases expanded
PARENTS = 32  # recipes that extend one another
JSON = 8 << 20  # bytes of a JSON file
LOG = 16 << 20  # bytes of a log, of metrics.jsonl
SUMS = 1 << 20  # bytes of SHA256SUMS
MODEL = 1 << 30  # bytes of a model's weights, and of an unpacked zip
MEMBERS = 1000  # files in a zip

KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}
DIRECTORY_ENTRY = b"PK\x01\x02"  # start of each entry in a zip's table of contents


class Denied(UserError):
    """A file that this user may not read."""


def check_readable(path: str | os.PathLike[str]) -> None:
    """Raises Denied for a file that is there, but that this user may not read."""
    if os.path.exists(path) and not os.access(path, os.R_OK):
        raise Denied(f"{path}: {os.strerror(errno.EACCES)}: ask its owner for access (chmod g+r)")


def check_file(path: str | os.PathLike[str], most: int | None = None) -> None:
    """Raises UserError for anything but a file (a folder, pipe, device, looping link), for a file above `most` bytes,
    and for one that this user may not read."""
    try:
        found = os.stat(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if not stat.S_ISREG(found.st_mode):
        raise UserError(f"{path}: expected a file, but found {KINDS.get(stat.S_IFMT(found.st_mode), 'something else')}")
    check_readable(path)
    if most is not None and found.st_size > most:
        raise _too_large(path, most)


def read_bytes(path: str | os.PathLike[str], most: int) -> bytes:
    """All bytes of a file. Raises UserError if it cannot be read, is not a file, or has more than `most` bytes."""
    check_file(path, most)
    try:
        with open(path, "rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    if len(data) > most:  # system files may be longer than they claim
        raise _too_large(path, most)
    return data


def read_text(path: str | os.PathLike[str], most: int, errors: str = "strict") -> str:
    """UTF-8 text of a file; errors: as for `bytes.decode`. Raises UserError as `read_bytes`, and if not UTF-8."""
    data = read_bytes(path, most)
    try:
        return data.decode(errors=errors)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}: cannot be read: not UTF-8 text (line {line}, byte {data[error.start]:#x})") from None


def check_zip(path: str | os.PathLike[str], most: int = MODEL) -> None:
    """Raises UserError for a zip of more than `MEMBERS` files, or that unpacks to more than `most` bytes; raises as
    `zipfile` does for invalid zips.

    A zip reader never returns more of a file than the table of contents states. The table's entries are counted before
    it is parsed, as each takes far more memory than its 46 bytes.
    """
    check_file(path, 2 * most)
    entries, before = 0, b""
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            entries += (before + block).count(DIRECTORY_ENTRY)
            before = block[-len(DIRECTORY_ENTRY) + 1 :]
            if entries > MEMBERS:
                raise UserError(f"{path}: a zip of more than {MEMBERS} files, which no model has")
    with zipfile.ZipFile(path) as archive:
        if sum(member.file_size for member in archive.infolist()) > most:
            raise UserError(f"{path}: a zip that unpacks to more than {most >> 20} MiB, which no model has")


def _too_large(path: str | os.PathLike[str], most: int) -> UserError:
    size = f"{most >> 20} MiB" if most >= 1 << 20 else f"{most} bytes"
    return UserError(f"{path}: larger than {size}, the limit for such a file")
