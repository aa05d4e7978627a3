"""A model that travels: a folder or a zip, with the SHA-256 of every file in `SHA256SUMS` (`sha256sum -c` reads it).

Hashes are compared whenever such a model is read, so that what loads is what was exported.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import re
import shutil
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import registry
from registry.base import UserError
from sccs.system import bounds
from sccs.system.text import UNPRINTABLE

SUMS = "SHA256SUMS"
MODEL = "model/model.json"
TRUST = "SCCS_TRUST_PLUGINS"  # environment variable; 1: run the plug-ins of any model
BLOCK = 1 << 20  # bytes read at once
DATE = (1980, 1, 1, 0, 0, 0)  # of every file in a zip, so that the same run gives the same bytes
# what a damaged zip makes its reader raise
UNREADABLE = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, KeyError, ValueError, IndexError,
    NotImplementedError, RuntimeError, OverflowError, OSError,
)  # fmt: skip


# ------------------------------------------------------------------------------------------------------------ reading
@contextmanager
def opened(run: str | os.PathLike[str]) -> Iterator[Path]:
    """The folder of a run or of an export; a zip's is a temporary one. An export's hashes are compared.

    Raises UserError that names the file which is missing or damaged, or for a file that is no such zip.
    """
    path = Path(run)
    if path.is_file():
        with tempfile.TemporaryDirectory(prefix="sccs-") as scratch:
            _unpack(path, Path(scratch))
            yield Path(scratch)
        return
    whole = path.parent if path.name == "model" else path
    if is_export(whole) and (found := damage(whole)) is not None:
        raise _damaged(path, *found)
    yield path


def damage(folder: Path) -> tuple[str, str] | None:
    """The first file that is not as `SHA256SUMS` lists it, and what is wrong with it; None if all are whole."""
    for name, digest in _sums(bounds.read_bytes(folder / SUMS, bounds.SUMS), folder).items():
        try:
            bounds.check_file(folder / name, bounds.MODEL)
            found = _digest(_blocks(open(folder / name, "rb")))  # noqa: SIM115  # which closes it
        except (OSError, UserError) as error:
            return name, getattr(error, "strerror", None) or str(error)
        if found != digest:
            return name, "its SHA-256 is another one"
    return None


def is_export(path: str | os.PathLike[str]) -> bool:
    """Whether `sccs export` wrote this folder or zip; no hash is compared."""
    path = Path(path)
    if not path.is_file():
        return (path / SUMS).is_file() and (path / MODEL).is_file()
    try:
        return zipfile.is_zipfile(path)
    except UNREADABLE:
        return False


def read_text(run: str | os.PathLike[str], name: str) -> str | None:
    """The text of one file of a run, an export's folder or zip; None where it has none of this name."""
    path = Path(run)
    if not path.is_file():
        return bounds.read_text(path / name, bounds.YAML) if (path / name).exists() else None
    with opened(path) as folder:
        return read_text(folder, name)


def carried(plugins: Any, folder: Path) -> list[str]:
    """Plug-ins of a model for `load_recipe`, if the user trusts them all; a relative file is one in `folder`.

    Raises UserError for those that he does not, whatever they are: a file anywhere, or a module that Python may find.
    """
    if not (isinstance(plugins, list) and all(isinstance(name, str) for name in plugins)):
        raise UserError(f"{folder}: {MODEL} is damaged: its plug-ins are {str(plugins)[:80]!r}, not a list of names")
    places = [str(folder / name) if name.endswith(".py") else name for name in plugins]
    foreign = [name for name, place in zip(plugins, places) if not trusted(place)]
    if foreign:
        raise UserError(
            f"the model brings Python code of its own, {', '.join(foreign)}; read it, and if you trust it, "
            f"set the environment variable {TRUST}=1"
        )
    return places


def trusted(plugin: str) -> bool:
    """Whether the user trusts a plug-in that is not his own: he says so, or this process has imported it already."""
    return os.environ.get(TRUST) == "1" or registry.is_loaded(plugin)


def of_a_model(folder: Path) -> bool:
    """Whether a folder is one of a run or an export, or lies in one: its recipes may be another person's."""
    return any((place / name).is_file() for place in (folder, *folder.parents) for name in (MODEL, "resolved.yaml"))


def _unpack(path: Path, folder: Path) -> None:
    """Listed files of a zip into `folder`, each compared with its hash; the zip may hold them in a folder."""
    try:
        bounds.check_zip(path)
        archive = zipfile.ZipFile(path)
        listings = [name for name in archive.namelist() if re.fullmatch(rf"([^/]+/)?{SUMS}", name)]
        listing = archive.open(listings[0]).read(bounds.SUMS) if len(listings) == 1 else b""
    except UNREADABLE as error:
        raise UserError(f"{path}: not a readable zip ({error}); give a run, or what `sccs export` wrote") from None
    if not listing:
        raise UserError(f"{path}: not a model that `sccs export` wrote: it has no {SUMS}")
    top = listings[0].removesuffix(SUMS)
    with archive:
        for name, digest in _sums(listing, path).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            with open(folder / name, "wb") as target:
                found = _digest(_member(archive, top + name, name, path), target)
            if found != digest:
                raise _damaged(path, name, "its SHA-256 is another one")


def _member(archive: zipfile.ZipFile, inside: str, name: str, path: Path) -> Iterator[bytes]:
    """What a file of a zip holds. What goes wrong with reading is damage; with writing, a full disk, it is not."""
    try:
        yield from _blocks(archive.open(inside))
    except UNREADABLE as error:
        raise _damaged(path, name, error) from None


def _sums(listing: bytes, path: Path) -> dict[str, str]:
    """File -> SHA-256 of a listing as sha256sum writes it."""
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
        raise _damaged(path, SUMS, f"{min(both)!r} is a file and a folder")
    return sums


def _is_name(name: str) -> bool:
    """Whether a file of this name lies in the folder that it is unpacked to, on any disk."""
    parts = name.split("/")
    plain = all(0 < len(part.encode()) <= 255 and part not in (".", "..") for part in parts)
    return plain and len(name) <= 1000 and not UNPRINTABLE.search(name) and not set(":\\") & set(name)


def _blocks(stream: IO[bytes]) -> Iterator[bytes]:
    with stream:
        while block := stream.read(BLOCK):
            yield block


def _digest(blocks: Iterable[bytes], target: IO[bytes] | None = None) -> str:
    """SHA-256 of a file in blocks, which are copied to `target`, if there is one, on the way."""
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block)
        if target is not None:
            target.write(block)
    return digest.hexdigest()


def _damaged(path: Path, name: str, why: object) -> UserError:
    return UserError(f"{path}: {name} is missing or damaged ({why}); copy it anew, or export it again")


# ------------------------------------------------------------------------------------------------------------ writing
def check_output(out: Path, overwrite: bool) -> None:
    """Raises UserError where `out` exists; with `overwrite`, only where it is something else than an export."""
    if out.suffix.lower() in (".onnx", ".safetensors", ".tar", ".gz", ".tgz", ".tif"):
        raise UserError(f"{out}: an export is a folder or a zip: name it without {out.suffix}, or *.zip")
    if not os.path.lexists(out):
        return
    if not overwrite:
        raise UserError(f"{out}: already exists: choose another name, or pass --overwrite")
    if out.is_dir():
        if out.is_symlink() or not is_export(out):
            raise UserError(f"{out}: a folder that is not an export is never overwritten: choose another name")
        known = {SUMS, *_sums(bounds.read_bytes(out / SUMS, bounds.SUMS), out)}
        for path in out.rglob("*"):
            if path.is_file() and path.relative_to(out).as_posix() not in known:
                raise UserError(
                    f"{out}: has a file that no export wrote, {path.name}, and would lose it: choose another name"
                )
    elif out.suffix.lower() != ".zip":
        raise UserError(f"{out}: a file that is not a zip is never overwritten: choose another name")


def seal(folder: Path) -> None:
    """Write `SHA256SUMS` over every file of the folder."""
    lines = []
    for name in files(folder):
        lines.append(f"{_digest(_blocks(open(folder / name, 'rb')))}  {name}\n")  # noqa: SIM115
    (folder / SUMS).write_bytes("".join(lines).encode())


def pack(folder: Path, path: Path) -> None:
    """Every file of the folder into the zip `path`; the same files give the same bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in files(folder):
            entry = zipfile.ZipInfo(name, DATE)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            with open(folder / name, "rb") as source, archive.open(entry, "w", force_zip64=True) as target:
                shutil.copyfileobj(source, target, BLOCK)


def files(folder: Path) -> list[str]:
    """Every file below `folder`, by its path from there, sorted."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
