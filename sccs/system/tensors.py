"""Arrays in a safetensors file, with a checksum: what is read is what was written, or it is said to be damaged."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from registry.base import UserError
from sccs.system.files import atomic_path, remove

CHECKSUM = "checksum"  # in the file's metadata: of all arrays and facts


class Damaged(UserError):
    """A file that is not as it was written."""


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray], facts: Mapping[str, str] = {}) -> int:
    """Arrays and a few facts to `path`, whole or not at all; returns the bytes of the file."""
    from safetensors.numpy import save_file

    # unlike ascontiguousarray, require leaves an array without axes as it is
    whole = {name: np.require(value, requirements="C") for name, value in arrays.items()}
    if path.is_dir():  # damage: names of such files are our own
        remove(path)
    with atomic_path(path) as scratch:
        save_file(whole, scratch, {**facts, CHECKSUM: _checksum(whole, facts)})
        return scratch.stat().st_size


def read_arrays(path: Path, unchecked: bool = False) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Writable arrays by name, and the facts. unchecked: take a file without a checksum, of an earlier version.

    Raises Damaged, a UserError, for a file that is cut, empty, changed, or something else; FileNotFoundError.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            arrays = {name: np.array(file.get_tensor(name)) for name in file.keys()}
            facts = dict(file.metadata() or {})
    except FileNotFoundError:
        raise
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise Damaged(f"{path}: damaged ({' '.join(str(error).split())})") from None
    stated = facts.pop(CHECKSUM, None)
    if stated is None and unchecked:
        return arrays, facts
    if stated != _checksum(arrays, facts):
        raise Damaged(f"{path}: damaged ({'no checksum' if stated is None else 'its checksum is another one'})")
    return arrays, facts


def _checksum(arrays: Mapping[str, np.ndarray], facts: Mapping[str, str]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    digest.update(repr(sorted(facts.items())).encode())
    for name in sorted(arrays):
        value = arrays[name]
        digest.update(f"{name} {value.dtype} {value.shape}\n".encode())
        if not value.dtype.hasobject:  # which safetensors refuses
            digest.update(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
