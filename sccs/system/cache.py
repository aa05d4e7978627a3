"""A content-addressed disk cache: an entry's name is a hash of everything that it was computed from.

Entries are written to a temporary file and renamed, so that concurrent or killed runs leave only complete entries, and
each has a checksum: damaged entries are computed again. Folder: `SCCS_CACHE`, else ~/.cache/sccs; `SCCS_CACHE=off`
disables the cache, and so does a folder that cannot be written, with one warning. `SCCS_CACHE_SIZE` (default 20 GiB)
limits the total size: beyond it, the least recently used entries are removed. Nothing else in the folder is ever
removed. `report_growth` logs how much was added.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import inspect
import json
import logging
import os
import re
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from registry.base import UserError
from sccs.system.archive import SUMS, damage, seal
from sccs.system.files import disk_fault, move_into_place, unwritable
from sccs.system.tensors import Damaged, read_arrays, write_arrays

if TYPE_CHECKING:
    from sccs.system.log import RunLog

SIZE = "SCCS_CACHE_SIZE"  # environment variable
DEFAULT_SIZE = "20 GiB"
UNITS = {"": 2**30, "b": 1, **{f"{p}b": 1000**i for i, p in enumerate("kmgt", 1)}}
UNITS |= {f"{p}ib": 1024**i for i, p in enumerate("kmgt", 1)}
STALE = 3600.0  # s after which temporary files of killed runs are abandoned
IN_USE = 600.0  # s during which a requested folder is not removed, as its files are about to be mapped
KINDS = ("features", "nodes", "learned")  # kinds of single-file entries

_refused: set[Path] = set()  # folders that could not be written
_added: list[int] = []  # bytes of each entry written since the last report
_room: dict[Path, float] = {}  # bytes that may be added to a folder before its size is checked again


def cache_folder() -> Path | None:
    """The user's cache folder; None if it is off, or there is no home folder."""
    setting = os.environ.get("SCCS_CACHE", "")
    if setting.lower() == "off":
        return None
    try:
        return Path(setting).expanduser() if setting else Path.home() / ".cache" / "sccs"
    except RuntimeError:  # no HOME, and no such user
        return None


def cache_size() -> int:
    """Bytes that the cache may take. Raises UserError for an invalid `SCCS_CACHE_SIZE`."""
    text = os.environ.get(SIZE) or DEFAULT_SIZE
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.strip().lower())
    if match is None or match[2] not in UNITS:
        raise UserError(f"{SIZE}={text}: not a size; write a number of GiB, or a number with its unit, such as 500 MB")
    return int(float(match[1]) * UNITS[match[2]])


def usable_folder() -> Path | None:
    """`cache_folder`, created if missing; None, with one warning, if it cannot be written."""
    folder = cache_folder()
    if folder is None or folder in _refused:
        return None
    cache_size()  # raises before anything is computed
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _refuse(folder, error)
        return None
    if not os.access(folder, os.W_OK):
        _refuse(folder, "no permission to write there")
        return None
    return folder


def _refuse(folder: Path, reason: object) -> None:
    _refused.add(folder)
    logging.getLogger("sccs").warning(
        f"the cache {folder} cannot be written ({reason}): features and graphs are recomputed each time; "
        "set SCCS_CACHE to another folder, or to off"
    )


def fingerprint(*things: Any) -> str:
    """SHA-256 (first 32 hex digits) of arrays, JSON-able values and strings, including types and shapes."""
    digest = hashlib.sha256()
    for thing in things:
        if isinstance(thing, np.ndarray):
            digest.update(f"{thing.dtype}{thing.shape}".encode())
            digest.update(np.ascontiguousarray(thing).data)
        else:
            digest.update(json.dumps(thing, sort_keys=True, default=str).encode())
        digest.update(b"\0")
    return digest.hexdigest()[:32]


SAYS = ("UserError", "info", "warning", "warn")  # calls that only emit text


def code_only(source: str) -> str:
    """The syntax tree of Python source without docstrings and without texts of errors and logs.

    It does not depend on wording.
    """
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            if ast.get_docstring(node, clean=False) is not None:
                node.body = node.body[1:]
        elif isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", None)) in SAYS:
            node.args = []
    return ast.dump(tree)


@lru_cache
def code_version(part: type, *modules: str) -> str | None:
    """Hash of the code of a part.

    It covers the modules of its class and all base classes, the given ones, and the modules of `registry` that these
    import.

    So results of changed code are never confused with old ones. None if the source is unavailable (a class typed in a
    console or notebook, a compiled module): results of such a part must not be cached.
    """
    names = {cls.__module__ for cls in part.__mro__ if cls.__module__.split(".")[0] not in ("builtins", "torch")}
    try:
        return fingerprint(part.__qualname__, code_of(names | set(modules)))
    except (ImportError, OSError, TypeError, SyntaxError, ValueError):
        return None


def code_of(modules: set[str]) -> str:
    """Hash of the modules and of all modules of `registry` that they import, directly or not, without comments and
    docstrings. The table of all parts is excluded: parts that these modules do not import do not affect them."""
    return fingerprint(*(f"{name}\n{_code(name)}" for name in sorted(_with_imports(modules))))


def _with_imports(modules: set[str]) -> set[str]:
    found, todo = set(), set(modules)
    while todo:
        name = todo.pop()
        found.add(name)
        for node in ast.walk(ast.parse(_source(name))):
            names = (
                [node.module]
                if isinstance(node, ast.ImportFrom) and node.module
                else [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else []
            )
            todo |= {n for n in names if n.startswith("registry.") and n != "registry.registry"} - found
    return found


@lru_cache
def _source(module: str) -> str:
    """Source of a module, if possible without importing it, as it may import DGL, for example."""
    spec = None if module == "__main__" else importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return inspect.getsource(importlib.import_module(module))
    return Path(spec.origin).read_text(encoding="utf-8")


@lru_cache
def _code(module: str) -> str:
    return code_only(_source(module))


def cached(kind: str, key: str | None, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The entry `kind`/`key`, computed by `make` if missing or damaged. Without a key it is not cached."""
    folder = usable_folder()
    if folder is None or key is None:
        return make()
    from safetensors import SafetensorError

    path = folder / kind / key[:2] / f"{key}.safetensors"
    try:
        arrays, _ = read_arrays(path)
    except (OSError, Damaged):
        pass
    else:
        with suppress(OSError):  # owned by another user
            os.utime(path)
        return arrays
    arrays = make()
    try:
        size = write_arrays(path, arrays)  # another run may remove it at once
        _added.append(size)
        _make_room(folder, size)
    except (OSError, SafetensorError, UserError) as error:  # no longer writable, or the disk is full
        _refuse(folder, error)
    return arrays


def kept_folder(folder: Path, make: Callable[[Path], None]) -> Path:
    """`folder` with the files that `make(scratch)` writes; made again if incomplete or damaged.

    It gets its name only when complete, so that a killed run leaves nothing half done and concurrent runs do not
    interfere. Raises UserError if the disk is full.
    """
    if _is_whole(folder):
        with suppress(OSError):
            os.utime(folder)
        return folder
    temporary = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        make(temporary)
        seal(temporary)
        try:
            move_into_place(temporary, folder)
        except OSError:
            if not _is_whole(folder):  # otherwise another run was faster, with the same content
                raise
        if folder.parent == cache_folder():
            with suppress(OSError):  # removed by another run
                _make_room(folder.parent, sum(path.stat().st_size for path in folder.iterdir()))
    except Exception as error:
        if isinstance(error, UserError) or disk_fault(error) is None:
            raise
        raise unwritable(f"{folder}, in the cache", error) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _is_whole(folder: Path) -> bool:
    try:
        return (folder / SUMS).is_file() and damage(folder) is None
    except (OSError, UserError):
        return False


# --------------------------------------------------------------------------------------------------------------- size
@dataclass(frozen=True)
class Entry:
    """A file or folder of the cache, with its bytes and the time of its last use."""

    kind: str
    path: Path
    size: int
    used: float

    def remove(self) -> None:
        """Remove the entry, unless another run was faster or another user owns it."""
        with suppress(OSError):
            if self.path.is_dir():
                shutil.rmtree(self.path)
            else:
                self.path.unlink()


def entries(folder: Path) -> list[Entry]:
    """All entries written by SCCS, including temporary files of killed runs; other files are ignored."""
    found = []
    for kind, path in _paths(folder):
        with suppress(OSError):  # removed meanwhile
            files = [path, *path.rglob("*")] if path.is_dir() else [path]
            size = sum(file.stat().st_size for file in files if file.is_file())
            found.append(Entry(kind, path, size, path.stat().st_mtime))
    return found


def _paths(folder: Path) -> Iterator[tuple[str, Path]]:
    with suppress(OSError):
        for path in sorted(folder.iterdir()):
            if re.fullmatch(r"phantom-[0-9a-f]{16}", path.name):
                yield "phantom", path
            elif re.fullmatch(r"\.([0-9a-f]{8}\+)?phantom-.*", path.name):
                yield "unfinished", path
            elif path.name in KINDS:
                for file in path.glob("[0-9a-f][0-9a-f]/*.safetensors"):
                    yield ("unfinished" if file.name.startswith(".") else path.name), file


def clear(folder: Path) -> list[Entry]:
    """Remove every entry; returns them."""
    removed = entries(folder)
    for entry in removed:
        entry.remove()
    _room.pop(folder, None)
    return removed


def _make_room(folder: Path, added: int) -> None:
    """Called after `added` bytes were written: beyond the cache's size, remove the least recently used entries.

    The folder is scanned again after every sixteenth of the size, as others also write there.
    """
    left = _room.get(folder, 0) - added
    if left <= 0:
        limit, now = cache_size(), time.time()
        there = sorted(entries(folder), key=lambda entry: entry.used)
        total = sum(entry.size for entry in there)
        too_large = total > limit
        for entry in there:
            stale = entry.kind == "unfinished" and now - entry.used > STALE
            taken = entry.kind in ("unfinished", "phantom") and now - entry.used < IN_USE
            if stale or (too_large and total > 0.9 * limit and not taken):
                entry.remove()
                total -= entry.size
        left = min(limit - total, limit / 16)
    _room[folder] = left


def tell(clearing: bool = False) -> str:
    """The cache's content, as printed by `sccs cache`; with `clearing`, what was removed."""
    folder = cache_folder()
    if folder is None:
        return (
            "the cache is off (SCCS_CACHE)" if os.environ.get("SCCS_CACHE") else "no cache, as there is no home folder"
        )
    found = clear(folder) if clearing else entries(folder)
    kinds = Counter(entry.kind for entry in found)
    rows = [
        f"  {kind:<10}  {count} {'entry' if count == 1 else 'entries'}, "
        f"{_shown(sum(entry.size for entry in found if entry.kind == kind))}"
        for kind, count in sorted(kinds.items())
    ]
    total = _shown(sum(entry.size for entry in found))
    end = f"{total} removed" if clearing else f"{total} of {_shown(cache_size())} ({SIZE})"
    return "\n".join([str(folder), *rows, end])


def _shown(size: int) -> str:
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size} bytes"


def report_growth(log: RunLog) -> None:
    """Log how many entries were added since the last report, if any."""
    if _added:
        log.info(f"cache {cache_folder()}: {len(_added)} files added, {sum(_added) / 1e6:.1f} MB")
        _added.clear()
