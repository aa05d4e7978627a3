"""Results kept on disk by content: an entry's name is a hash of everything that it was computed from.

Entries are written to a temporary file and renamed, so that two runs at once, or a killed one, leave only whole
entries; a file that cannot be read all the same is computed anew. Folder: `SCCS_CACHE`, else ~/.cache/sccs;
`SCCS_CACHE=off` keeps nothing, and neither does a folder that cannot be written, which is warned of once. Nothing is
ever deleted: `report_growth` tells how much was added.
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
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from registry.base import UserError
from sccs.system.files import atomic_path

if TYPE_CHECKING:
    from sccs.system.log import RunLog

_refused: set[Path] = set()  # folders that could not be written
_added: list[int] = []  # bytes of each entry written since the last report


def cache_folder() -> Path | None:
    """Where the user wants entries to be; None for nowhere."""
    setting = os.environ.get("SCCS_CACHE", "")
    if setting.lower() == "off":
        return None
    return Path(setting).expanduser() if setting else Path.home() / ".cache" / "sccs"


def usable_folder() -> Path | None:
    """`cache_folder`, made if it was not there; None, with one warning, where it cannot be written."""
    folder = cache_folder()
    if folder is None or folder in _refused:
        return None
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
        f"the cache {folder} cannot be written ({reason}): features and graphs are computed each time; "
        "set SCCS_CACHE to another folder, or to off"
    )


def fingerprint(*things: Any) -> str:
    """SHA-256 (first 32 hex digits) of arrays, JSON-able values and strings, types and shapes included."""
    digest = hashlib.sha256()
    for thing in things:
        if isinstance(thing, np.ndarray):
            digest.update(f"{thing.dtype}{thing.shape}".encode())
            digest.update(np.ascontiguousarray(thing).data)
        else:
            digest.update(json.dumps(thing, sort_keys=True, default=str).encode())
        digest.update(b"\0")
    return digest.hexdigest()[:32]


SAYS = ("UserError", "info", "warning", "warn")  # calls that only say something


def code_only(source: str) -> str:
    """Python source as its syntax tree without docstrings and without what errors and logs say.

    A change of words alone leaves it as it is.
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

    It covers the modules of its class and of all base classes, those named besides, and the modules of `registry` that
    these import.

    Results of changed code are not taken for those of the old. None where a source cannot be had (a class typed in a
    console or a notebook, a compiled module): nothing is known of such a part, so that nothing of it may be kept.
    """
    names = {cls.__module__ for cls in part.__mro__ if cls.__module__.split(".")[0] not in ("builtins", "torch")}
    try:
        return fingerprint(part.__qualname__, code_of(names | set(modules)))
    except (ImportError, OSError, TypeError, SyntaxError, ValueError):
        return None


def code_of(modules: set[str]) -> str:
    """Hash of the modules and of all modules of `registry` that they import, directly or not; comments and docstrings
    do not count. The page of all parts is left out: a part that these do not import changes nothing for them."""
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
    """Without importing it, where that is possible: a part may import DGL, say, only when it needs it."""
    spec = None if module == "__main__" else importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return inspect.getsource(importlib.import_module(module))
    return Path(spec.origin).read_text(encoding="utf-8")


@lru_cache
def _code(module: str) -> str:
    return code_only(_source(module))


def cached(kind: str, key: str | None, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The entry `kind`/`key`, computed by `make` if there is none. Without a key it is computed and not kept."""
    folder = usable_folder()
    if folder is None or key is None:
        return make()
    from safetensors import SafetensorError
    from safetensors.numpy import load_file, save_file

    path = folder / kind / key[:2] / f"{key}.safetensors"
    try:
        return load_file(path)
    except (OSError, SafetensorError):
        pass
    arrays = make()
    try:
        with atomic_path(path) as scratch:
            save_file({name: np.ascontiguousarray(value) for name, value in arrays.items()}, scratch)
        _added.append(path.stat().st_size)
    except (OSError, SafetensorError, UserError) as error:  # no longer writable, or the disk is full
        _refuse(folder, error)
    return arrays


def report_growth(log: RunLog) -> None:
    """Tell the log how many entries were added since the last report, if any."""
    if _added:
        log.info(f"cache {cache_folder()}: {len(_added)} files added, {sum(_added) / 1e6:.1f} MB")
        _added.clear()
