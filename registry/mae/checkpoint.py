"""Weight files of an MAE's encoder and of its student: paths, reading, writing, and hashes."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from registry.base import UserError


@dataclass(frozen=True)
class Kind:
    """A kind of weights: name in messages, bundled file, name of the format, and recipe that trains them."""

    name: str
    bundled: Path
    format: str
    recipe: str

    @property
    def how(self) -> str:
        """How to get a file."""
        return f"train one with the recipe {self.recipe}"


_WEIGHTS = Path(__file__).parent / "weights"
ENCODER = Kind("an MAE encoder", _WEIGHTS / "mae_vem.safetensors", "sccs MAE encoder 1", "mae.yaml")
STUDENT = Kind("an MAE's student", _WEIGHTS / "student_vem.safetensors", "sccs MAE student 1", "distil.yaml")
KINDS = (ENCODER, STUDENT)


def encoder_arguments(architecture: dict) -> dict:
    """The entries of an autoencoder's architecture that define its encoder."""
    names = ("patch", "window", "width", "depth", "heads", "mlp_ratio", "position_weight")
    return {name: architecture[name] for name in names}


def checkpoint_path(checkpoint: str, base: Path = Path(), kind: Kind = ENCODER) -> Path:
    """ "bundled" or a file's name (``~`` and ``${VARIABLE}`` allowed, relative to `base`) -> path of the file.

    Raises UserError if there is no such file.
    """
    if checkpoint == "bundled":
        path = kind.bundled
    else:
        path = base / os.path.expanduser(os.path.expandvars(checkpoint))
    if not path.is_file():
        raise UserError(f"checkpoint {checkpoint!r}: no file {path}; {kind.how}, or use checkpoint: bundled")
    return path


def read_checkpoint(
    path: Path, block: str, kind: Kind = ENCODER, **wanted: float
) -> tuple[dict[str, np.ndarray], dict]:
    """The stored weights, and the facts of the training run, including `architecture`.

    `wanted`: entries of the architecture required by the recipe's `block`. Raises UserError if the file is not a
    checkpoint of that kind, is damaged, or was trained with another architecture.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            facts = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        if path.exists() and not os.access(path, os.R_OK):  # safetensors says that it is not there
            raise UserError(f"{path}: {os.strerror(errno.EACCES)}: ask its owner for access (chmod g+r)") from None
        raise UserError(f"{path}: not a readable safetensors file ({error}); {kind.how}") from None
    if facts.get("format") != kind.format:
        raise UserError(f"{path}: not a checkpoint of {kind.name} (its header lacks format: {kind.format}); {kind.how}")
    facts = json.loads(facts["facts"])
    trained = facts["architecture"]
    other = {name: value for name, value in wanted.items() if trained[name] != value}
    if other:
        said = ", ".join(
            f"{block}.{name} is {value} but the checkpoint has {trained[name]}" for name, value in other.items()
        )
        mend = ", ".join(f"{name}: {trained[name]}" for name in other)
        raise UserError(f"{path}: {said}; write {mend}, or give a checkpoint that matches the recipe")
    if weights_hash(weights) != facts["sha256"]:
        raise UserError(f"{path}: the weights are damaged (their sha256 differs from the header's); copy it again")
    return weights, facts


def write_checkpoint(path: Path, weights: dict[str, np.ndarray], facts: dict, kind: Kind = ENCODER) -> None:
    """Write weights and the facts of their training, which must include `architecture` and the weights' `sha256`."""
    from safetensors.numpy import save

    arrays = {name: np.ascontiguousarray(value) for name, value in weights.items()}
    path.write_bytes(save(arrays, {"format": kind.format, "facts": json.dumps(facts, sort_keys=True)}))


def weights_hash(weights: dict[str, np.ndarray]) -> str:
    """SHA-256 over names, types, shapes and values, equal for a file and a model saved in a run."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        value = weights[name]
        digest.update(f"{name} {value.dtype} {value.shape}\n".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()
