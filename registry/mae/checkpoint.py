"""Files of weights, of an MAE's encoder and of its student: where they are, reading, writing, and their hash."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from registry.base import UserError


@dataclass(frozen=True)
class Kind:
    """Of weights: their name in messages, the bundled file, the format's name, and the recipe that trains them."""

    name: str
    bundled: Path
    format: str
    recipe: str

    @property
    def how(self) -> str:
        """To come by a file."""
        return f"train one with the recipe {self.recipe}"


_WEIGHTS = Path(__file__).parent / "weights"
ENCODER = Kind("an MAE encoder", _WEIGHTS / "mae_vem.safetensors", "sccs MAE encoder 1", "mae.yaml")
STUDENT = Kind("an MAE's student", _WEIGHTS / "student_vem.safetensors", "sccs MAE student 1", "distil.yaml")
KINDS = (ENCODER, STUDENT)


def encoder_arguments(architecture: dict) -> dict:
    """Those entries of an autoencoder's architecture that its encoder is built from."""
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
    """Weights as they are stored, and the facts of the training run, `architecture` among them.

    `wanted`: entries of the architecture that the recipe's `block` asks for. Raises UserError if the file is no
    checkpoint of that kind, is damaged, or was trained with another architecture.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            facts = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError) as error:
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
        raise UserError(f"{path}: {said}; write {mend}, or give a checkpoint trained as the recipe says")
    if weights_hash(weights) != facts["sha256"]:
        raise UserError(f"{path}: the weights are damaged (their sha256 is not the one in the header); fetch it again")
    return weights, facts


def write_checkpoint(path: Path, weights: dict[str, np.ndarray], facts: dict, kind: Kind = ENCODER) -> None:
    """Write weights and the facts of its training; `architecture` and the weights' `sha256` are needed."""
    from safetensors.numpy import save_file

    save_file(
        {name: np.ascontiguousarray(value) for name, value in weights.items()},
        path,
        metadata={"format": kind.format, "facts": json.dumps(facts, sort_keys=True)},
    )


def weights_hash(weights: dict[str, np.ndarray]) -> str:
    """SHA-256 over names, types, shapes and values: the same for a file and for a model saved with a run."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        value = weights[name]
        digest.update(f"{name} {value.dtype} {value.shape}\n".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()
