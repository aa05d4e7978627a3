"""Arrays in a safetensors file with a checksum, so that damage is detected."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from registry.base import UserError
from sccs.system.bounds import check_readable
from sccs.system.files import remove, write_bytes

CHECKSUM = "checksum"  # in the file's metadata: of all arrays and facts


class Damaged(UserError):
    """A file that differs from what was written."""


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray], facts: Mapping[str, str] = {}) -> int:
    """Write arrays and a few facts to `path` atomically; returns the file's size in bytes."""
    from safetensors.numpy import save

    # unlike ascontiguousarray, require keeps 0-d arrays
    whole = {name: np.require(value, requirements="C") for name, value in arrays.items()}
    if path.is_dir():  # damage, as we chose the name
        remove(path)
    data = save(whole, {**facts, CHECKSUM: _checksum(whole, facts)})  # `save_file` lets only its owner read a file
    write_bytes(path, data)
    return len(data)


def read_arrays(path: Path, unchecked: bool = False) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Writable arrays by name, and the facts. unchecked: accept a file without a checksum, of an earlier version.

    Raises Damaged, a UserError, for a truncated, empty, changed or foreign file; Denied, another, for one that may not
    be read; FileNotFoundError.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            arrays = {name: np.array(file.get_tensor(name)) for name in file.keys()}
            facts = dict(file.metadata() or {})
    except FileNotFoundError:
        check_readable(path)  # of a file that may not be read, safetensors says that it is not there
        raise
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise Damaged(f"{path}: damaged ({' '.join(str(error).split())})") from None
    stated = facts.pop(CHECKSUM, None)
    if stated is None and unchecked:
        return arrays, facts
    if stated != _checksum(arrays, facts):
        raise Damaged(f"{path}: damaged ({'no checksum' if stated is None else 'its checksum does not match'})")
    return arrays, facts


def _checksum(arrays: Mapping[str, np.ndarray], facts: Mapping[str, str]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    digest.update(repr(sorted(facts.items())).encode())
    for name in sorted(arrays):
        value = arrays[name]
        digest.update(f"{name} {value.dtype} {value.shape}\n".encode())
        if not value.dtype.hasobject:  # rejected by safetensors
            digest.update(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
