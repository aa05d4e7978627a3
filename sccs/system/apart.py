"""What a command writes is nothing that it reads: OUTPUT is no INPUT, lies in none, and holds none."""

from __future__ import annotations

import fnmatch
import glob
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from registry.base import UserError

_INSIDE = re.compile(r"(.*?\.(?:h5|hdf5|hdf|he5|zarr|n5)):", re.IGNORECASE)  # a.h5:/em/raw
_STORE = ("zarr.json", ".zgroup", ".zarray", ".zattrs", "attributes.json")  # files of a Zarr or N5 folder


def check_apart(
    output: str | os.PathLike[str],
    given: Mapping[str, Iterable[str | os.PathLike[str]]],
    *,
    within: bool = True,
    beside: Iterable[str | os.PathLike[str]] = (),
) -> None:
    """Raises UserError where `output` is one of the files and folders that are `given`, by whatever name, or holds one.

    given: what it is for the user -> its paths: files, folders, patterns, places in a container. A file or folder is
    known by its number on its disk, so that links, hard ones too, hide nothing. within: refuse an output that lies in a
    given folder, too; in a Zarr or N5 store it is refused in any case. beside: more that is written.
    """
    for written in (output, *beside):
        own, above = _identity(os.path.realpath(written)), set(_chain(written))  # new/../a.tif is, once new is made
        for what, paths in given.items():
            for path in paths:
                if _matches(written, path):
                    raise _refusal(output, f"would be taken for a part of {what}, {path}")
                for place, is_store in _places(path):
                    number = _identity(place)
                    if number is None:
                        continue
                    if number == own:
                        raise _refusal(output, f"is {what}, {path}")
                    if own is not None and os.path.isdir(os.path.realpath(written)) and own in _chain(place):
                        raise _refusal(output, f"holds {what}, {path}")
                    if number in above and (within or is_store):
                        raise _refusal(output, f"lies in {what}, {path}")


def _refusal(output: object, why: str) -> UserError:
    return UserError(f"{output}: {why}: an input is never overwritten; choose another name")


def _places(path: str | os.PathLike[str]) -> list[tuple[str, bool]]:
    """Files and folders that a path means, and whether each is a Zarr or N5 store: of a place in one, the whole."""
    text = os.fspath(path)
    if not os.path.exists(text) and (inside := _INSIDE.match(text)):
        text = inside[1]
    if not os.path.exists(text) and glob.has_magic(text):
        return [(each, False) for each in glob.glob(text, recursive=True)]
    if not os.path.exists(text):
        return []
    whole = _store(Path(os.path.abspath(text)))
    return [(text, False)] if whole is None else [(text, False), (str(whole), True)]


def _store(path: Path) -> Path | None:
    """The whole Zarr or N5 store that `path` is, or is a place in; None where it is none."""
    whole, inner = None, True
    for folder in (path, *path.parents):
        inner = inner and any((folder / name).is_file() for name in _STORE)
        if inner or (folder.suffix.lower() in (".zarr", ".n5") and folder.is_dir()):
            whole = folder
    return whole


def _matches(output: str | os.PathLike[str], path: str | os.PathLike[str]) -> bool:
    """Whether a pattern of files would take `output` for one of them."""
    pattern, name = os.path.abspath(path), os.path.abspath(output)
    if not glob.has_magic(pattern) or os.path.exists(pattern):
        return False
    return fnmatch.fnmatch(name, pattern) and ("**" in pattern or name.count(os.sep) == pattern.count(os.sep))


def _identity(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    """Number of a file or folder on its disk; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _chain(path: str | os.PathLike[str]) -> list[tuple[int, int]]:
    """Identities of the folders above a path, both where its name stands and where a link leads."""
    named = os.path.join(os.path.realpath(os.path.dirname(os.path.abspath(path))), os.path.basename(path))
    folders = {*Path(named).parents, *Path(os.path.realpath(path)).parents}
    return [number for folder in folders if (number := _identity(folder)) is not None]
