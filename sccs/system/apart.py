"""Keeps a command's output apart from its input: OUTPUT must not be, contain, or lie inside an INPUT."""

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
    """Raises UserError if `output` is, or contains, one of the `given` files and folders, by whatever name.

    given: description for the user -> paths: files, folders, patterns, paths inside a container. Files and folders are
    compared by inode, so that links, including hard links, are recognised. within: also reject an output inside a given
    folder; inside a Zarr or N5 store it is always rejected. beside: further paths that are written.
    """
    for written in (output, *beside):
        own, above = _identity(os.path.realpath(written)), set(_chain(written))  # new/../a.tif exists once new is made
        for what, paths in given.items():
            for path in paths:
                if _matches(written, path):
                    raise _refusal(output, f"would become part of {what}, {path}")
                for place, is_store in _places(path):
                    number = _identity(place)
                    if number is None:
                        continue
                    if number == own:
                        raise _refusal(output, f"is {what}, {path}")
                    if own is not None and os.path.isdir(os.path.realpath(written)) and own in _chain(place):
                        raise _refusal(output, f"contains {what}, {path}")
                    if number in above and (within or is_store):
                        raise _refusal(output, f"lies in {what}, {path}")


def _refusal(output: object, why: str) -> UserError:
    return UserError(f"{output}: {why}: an input is never overwritten; choose another name")


def _places(path: str | os.PathLike[str]) -> list[tuple[str, bool]]:
    """Files and folders that a path means, and whether each is a Zarr or N5 store (of which the whole counts)."""
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
    """The whole Zarr or N5 store that `path` is or lies in; None if it is neither."""
    whole, inner = None, True
    for folder in (path, *path.parents):
        inner = inner and any((folder / name).is_file() for name in _STORE)
        if inner or (folder.suffix.lower() in (".zarr", ".n5") and folder.is_dir()):
            whole = folder
    return whole


def _matches(output: str | os.PathLike[str], path: str | os.PathLike[str]) -> bool:
    """Whether a file pattern would match `output`."""
    pattern, name = os.path.abspath(path), os.path.abspath(output)
    if not glob.has_magic(pattern) or os.path.exists(pattern):
        return False
    return fnmatch.fnmatch(name, pattern) and ("**" in pattern or name.count(os.sep) == pattern.count(os.sep))


def _identity(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    """Device and inode of a file or folder; None if it does not exist."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _chain(path: str | os.PathLike[str]) -> list[tuple[int, int]]:
    """Identities of the folders above a path, both of the link and of its target."""
    named = os.path.join(os.path.realpath(os.path.dirname(os.path.abspath(path))), os.path.basename(path))
    folders = {*Path(named).parents, *Path(os.path.realpath(path)).parents}
    return [number for folder in folders if (number := _identity(folder)) is not None]
