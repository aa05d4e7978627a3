"""Results kept on disk by content: an entry's name is a hash of everything that it was computed from.

Entries are written to a temporary file and renamed, so that two runs at once, or a killed one, leave only whole
entries; a file that cannot be read all the same is computed anew. Folder: `SCCS_CACHE`, else ~/.cache/sccs;
`SCCS_CACHE=off` keeps nothing.
"""
from __future__ import annotations

import hashlib
import json
import os
from functools import lru_cache
from pathlib import Path
from typing import Any, Callable

import numpy as np

from sccs.files import atomic_path


def cache_folder() -> Path | None:
    setting = os.environ.get("SCCS_CACHE", "")
    if setting.lower() == "off":
        return None
    return Path(setting).expanduser() if setting else Path.home() / ".cache" / "sccs"


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


@lru_cache
def code_version(*modules: str) -> str:
    """Hash of the source of the named modules: results of changed code are not taken for those of the old."""
    import importlib

    return fingerprint(*(Path(importlib.import_module(name).__file__).read_text() for name in modules))


def cached(kind: str, key: str, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The entry `kind`/`key`, computed by `make` if there is none."""
    folder = cache_folder()
    if folder is None:
        return make()
    from safetensors import SafetensorError
    from safetensors.numpy import load_file, save_file

    path = folder / kind / key[:2] / f"{key}.safetensors"
    try:
        return load_file(path)
    except (FileNotFoundError, SafetensorError):
        pass
    arrays = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as scratch:
        save_file({name: np.ascontiguousarray(value) for name, value in arrays.items()}, scratch)
    return arrays
