"""An exported model: a folder or a zip, with the SHA-256 of every file in `SHA256SUMS` (readable by `sha256sum -c`).

Hashes are checked whenever such a model is read, so that what loads is what was exported.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import re
import shutil
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import registry
from registry.base import UserError
from sccs.system import bounds
from sccs.system.files import temporary_folder
from sccs.system.text import UNPRINTABLE

SUMS = "SHA256SUMS"
MODEL = "model/model.json"
TRUST = "SCCS_TRUST_PLUGINS"  # environment variable; 1: run the plug-ins of any model
BLOCK = 1 << 20  # bytes read at once
DATE = (1980, 1, 1, 0, 0, 0)  # of every file in a zip, so that the same run gives the same bytes
# raised when reading a damaged zip
UNREADABLE = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, KeyError, ValueError, IndexError,
    NotImplementedError, RuntimeError, OverflowError, OSError,
)  # fmt: skip


# ------------------------------------------------------------------------------------------------------------ reading
@contextmanager
def opened(run: str | os.PathLike[str]) -> Iterator[Path]:
    """The folder of a run or an export (temporary for a zip). An export's hashes are checked.

    Raises UserError if a file is missing or damaged, which the message names, or if `run` is another kind of file.
    """
    if not isinstance(run, (str, os.PathLike)):
        raise UserError(f"a {type(run).__name__} is not a model; give the folder of a run, or an export")
    path = Path(run)
    if path.is_file():
        with temporary_folder() as scratch:
            _unpack(path, scratch)
            yield scratch
        return
    whole = path.parent if path.name == "model" else path
    if is_export(whole) and (found := damage(whole)) is not None:
        raise _damaged(path, *found)
    yield path


def damage(folder: Path) -> tuple[str, str] | None:
    """The first file that does not match `SHA256SUMS`, and what is wrong with it; None if all match."""
    for name, digest in _sums(bounds.read_bytes(folder / SUMS, bounds.SUMS), folder).items():
        try:
            bounds.check_file(folder / name, bounds.MODEL)
            found = _digest(_blocks(open(folder / name, "rb")))  # noqa: SIM115  # closed by it
        except (OSError, UserError) as error:
            return name, getattr(error, "strerror", None) or str(error)
        if found != digest:
            return name, "its SHA-256 does not match"
    return None


def is_export(path: str | os.PathLike[str]) -> bool:
    """Whether `sccs export` wrote this folder or zip; hashes are not checked."""
    path = Path(path)
    if not path.is_file():
        return (path / SUMS).is_file() and (path / MODEL).is_file()
    try:
        return zipfile.is_zipfile(path)
    except UNREADABLE:
        return False


def read_text(run: str | os.PathLike[str], name: str) -> str | None:
    """The text of a file in a run or an export's folder or zip; None if it is missing."""
    path = Path(run)
    if not path.is_file():
        return bounds.read_text(path / name, bounds.YAML) if (path / name).exists() else None
    with opened(path) as folder:
        return read_text(folder, name)


def carried(plugins: Any, folder: Path) -> list[str]:
    """A model's plug-ins for `load_recipe`, if the user trusts them all; relative files are in `folder`.

    Raises UserError for untrusted ones, be they files or modules that Python may find.
    """
    if not (isinstance(plugins, list) and all(isinstance(name, str) for name in plugins)):
        raise UserError(f"{folder}: {MODEL} is damaged: its plug-ins are {str(plugins)[:80]!r}, not a list of names")
    places = [str(folder / name) if name.endswith(".py") else name for name in plugins]
    foreign = [name for name, place in zip(plugins, places) if not trusted(place)]
    if foreign:
        raise UserError(
            f"the model would run its own Python code, {', '.join(foreign)}; read it, and if you trust it, "
            f"set the environment variable {TRUST}=1"
        )
    return places


def trusted(plugin: str) -> bool:
    """Whether the user trusts a foreign plug-in: by environment variable, or as it is already imported."""
    return os.environ.get(TRUST) == "1" or registry.is_loaded(plugin)


def of_a_model(folder: Path) -> bool:
    """Whether a folder is, or lies in, a run or an export, so that its recipes may be someone else's."""
    return any((place / name).is_file() for place in (folder, *folder.parents) for name in (MODEL, "resolved.yaml"))


def _unpack(path: Path, folder: Path) -> None:
    """Unpack a zip's listed files into `folder`, checking each hash; the zip may have them in a subfolder."""
    try:
        bounds.check_zip(path)
        archive = zipfile.ZipFile(path)
        listings = [name for name in archive.namelist() if re.fullmatch(rf"([^/]+/)?{SUMS}", name)]
        listing = archive.open(listings[0]).read(bounds.SUMS) if len(listings) == 1 else b""
    except UNREADABLE as error:
        raise UserError(f"{path}: not a readable zip ({error}); give a run's folder or an export") from None
    if not listing:
        raise UserError(f"{path}: not written by `sccs export`: it has no {SUMS}")
    top = listings[0].removesuffix(SUMS)
    with archive:
        for name, digest in _sums(listing, path).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            with open(folder / name, "wb") as target:
                found = _digest(_member(archive, top + name, name, path), target)
            if found != digest:
                raise _damaged(path, name, "its SHA-256 does not match")


def _member(archive: zipfile.ZipFile, inside: str, name: str, path: Path) -> Iterator[bytes]:
    """Content of a file in a zip. Errors while reading mean damage; errors while writing (a full disk) do not."""
    try:
        yield from _blocks(archive.open(inside))
    except UNREADABLE as error:
        raise _damaged(path, name, error) from None


def _sums(listing: bytes, path: Path) -> dict[str, str]:
    """File -> SHA-256 from a listing in the format of sha256sum."""
    sums: dict[str, str] = {}
    for line in listing.decode("utf-8", "replace").splitlines():
        match = re.fullmatch(r"([0-9a-f]{64}) [ *](.+)", line)
        if not match or not _is_name(match[2]) or len(sums) == bounds.MEMBERS:
            raise _damaged(path, SUMS, f"line {line[:80]!r}")
        sums[match[2]] = match[1]
    folders = {
        "/".join(parts[:depth]) for name in sums for parts in [name.split("/")] for depth in range(1, len(parts))
    }
    if both := folders & sums.keys():
        raise _damaged(path, SUMS, f"{min(both)!r} is both a file and a folder")
    return sums


def _is_name(name: str) -> bool:
    """Whether a file of this name stays inside the folder that it is unpacked to, on any system."""
    parts = name.split("/")
    plain = all(0 < len(part.encode()) <= 255 and part not in (".", "..") for part in parts)
    return plain and len(name) <= 1000 and not UNPRINTABLE.search(name) and not set(":\\") & set(name)


def _blocks(stream: IO[bytes]) -> Iterator[bytes]:
    with stream:
        while block := stream.read(BLOCK):
            yield block


def _digest(blocks: Iterable[bytes], target: IO[bytes] | None = None) -> str:
    """SHA-256 of a file in blocks, which are also copied to `target`, if given."""
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block)
        if target is not None:
            target.write(block)
    return digest.hexdigest()


def _damaged(path: Path, name: str, why: object) -> UserError:
    return UserError(f"{path}: {name} is missing or damaged ({why}); copy it again, or export it again")


# ------------------------------------------------------------------------------------------------------------ writing
def check_output(out: Path, overwrite: bool) -> None:
    """Raises UserError if `out` exists; with `overwrite`, only if it is not an export."""
    if out.suffix.lower() in (".onnx", ".safetensors", ".tar", ".gz", ".tgz", ".tif"):
        raise UserError(f"{out}: an export is a folder or a zip: name it without {out.suffix}, or with .zip")
    if not os.path.lexists(out):
        return
    if not overwrite:
        raise UserError(f"{out}: already exists; choose another name, or pass --overwrite")
    if out.is_dir():
        if out.is_symlink() or not is_export(out):
            raise UserError(f"{out}: a folder that is not an export is never overwritten: choose another name")
        known = {SUMS, *_sums(bounds.read_bytes(out / SUMS, bounds.SUMS), out)}
        for path in out.rglob("*"):
            if path.is_file() and path.relative_to(out).as_posix() not in known:
                raise UserError(
                    f"{out}: contains {path.name}, which no export wrote and which would be lost: choose another name"
                )
    elif out.suffix.lower() != ".zip":
        raise UserError(f"{out}: a file that is not a zip is never overwritten: choose another name")


def seal(folder: Path) -> None:
    """Write `SHA256SUMS` for every file of the folder."""
    lines = []
    for name in files(folder):
        lines.append(f"{_digest(_blocks(open(folder / name, 'rb')))}  {name}\n")  # noqa: SIM115
    (folder / SUMS).write_bytes("".join(lines).encode())


def pack(folder: Path, path: Path) -> None:
    """Pack every file of the folder into the zip `path`; the same files give the same bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in files(folder):
            entry = zipfile.ZipInfo(name, DATE)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            with open(folder / name, "rb") as source, archive.open(entry, "w", force_zip64=True) as target:
                shutil.copyfileobj(source, target, BLOCK)


def files(folder: Path) -> list[str]:
    """Every file below `folder`, as sorted relative paths."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
