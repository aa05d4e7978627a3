"""A model's folder: model.json and, for each role, the part's learned state as safetensors. Never reads pickles."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

import registry
from registry.base import UserError
from sccs.model.parts import SMALLEST_SIDE, Parts
from sccs.recipe.stored import About, parse_json
from sccs.system import bounds
from sccs.system.archive import MODEL, carried
from sccs.system.files import write_bytes, write_json

FORMAT = 1  # of the model folder
MEND = "copy it again, or train again"
# raised by parts for foreign arrays: wrong names, shapes, kinds, numbers
MISFITS = (KeyError, ValueError, TypeError, IndexError, AttributeError, AssertionError, ArithmeticError, RuntimeError)


def write(folder: Path, parts: Parts, info: Mapping[str, Any]) -> None:
    """Write `folder`/model.json and one file for each role, atomically."""
    from safetensors.numpy import save

    folder.mkdir(parents=True, exist_ok=True)
    for role in registry.ROLES:
        state = {name: np.ascontiguousarray(value) for name, value in getattr(parts, role).get_state().items()}
        write_bytes(folder / f"{role}.safetensors", save(state))
    write_json(folder / "model.json", {"format": FORMAT, "recipe": parts.recipe.resolved(), **info})


def read_about(folder: Path, run: str | os.PathLike[str]) -> dict[str, Any]:
    """model.json in the folder of the weights. Raises UserError if it is missing, damaged, or of another format."""
    path = folder / "model.json"
    if not path.is_file():
        raise UserError(
            f"{run}: contains no trained model ({MODEL} is missing); give the folder of a finished `sccs run`"
        )
    text, where = bounds.read_text(path, bounds.JSON), f"{run}: {MODEL}"
    if (found := parse_json(text, where, dict[str, Any], MEND).get("format")) != FORMAT:
        raise UserError(f"{run}: model format {found}, but this version reads {FORMAT}")
    return parse_json(text, where, About, MEND).model_dump(exclude_unset=True)


def read(place: Path, run: str | os.PathLike[str]) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """The folder of the weights, the recipe without its data, and the model's other information.

    A saved recipe never extends another; one that does is rejected, as it might hide plug-ins.

    place: folder of a run, its `model` folder, or an export. run: its name in errors. Raises UserError if there is no
    model, if it has another format, or if it has plug-ins that the user does not trust.
    """
    folder = place / "model" if (place / "model").is_dir() else place
    about = read_about(folder, run)
    recipe = {key: value for key, value in about["recipe"].items() if key not in ("data", "extends")}
    recipe["plugins"] = carried(recipe.get("plugins") or [], folder.parent)
    return folder, recipe, {key: value for key, value in about.items() if key not in ("format", "recipe")}


def digest(folder: Path) -> str:
    """Digest of the weights in a model's folder, to which teachers, splits and merges belong."""
    found = hashlib.sha256()
    for role in registry.ROLES:
        found.update(bounds.read_bytes(folder / f"{role}.safetensors", bounds.MODEL))
    return found.hexdigest()


def restore(parts: Parts, folder: Path, run: str | os.PathLike[str]) -> None:
    """Restore every part's learned state, and try it on a small image.

    Raises UserError if a file is missing, damaged, or of another version: if arrays are missing, have another shape or
    kind, contain NaN, or do not fit together.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    role = ""
    try:
        for role in registry.ROLES:
            path = folder / f"{role}.safetensors"
            bounds.check_file(path, bounds.MODEL)
            getattr(parts, role).set_state(_numbers(load_file(path)))
    except bounds.Denied:
        raise
    except (OSError, SafetensorError, UserError) as error:
        raise UserError(f"{run}: the model is incomplete or damaged ({role}.safetensors: {error}); {MEND}") from None
    except MISFITS as error:
        raise UserError(
            f"{run}: the model's {role} was saved by another version of sccs ({_first_line(error)}); train again"
        ) from None
    for part in (parts.embedder, parts.clusterer):
        if isinstance(part, torch.nn.Module):
            part.to(parts.device).eval()
    try:
        _try(parts)
    except (UserError, *MISFITS) as error:
        raise UserError(f"{run}: the model's arrays do not fit together ({_first_line(error)}); {MEND}") from None


@torch.no_grad()
def _try(parts: Parts) -> None:
    """Segment a small image; raises whatever parts raise, and ValueError if they do not return probabilities."""
    ours = type(parts.features).__module__.startswith("registry.")
    side = SMALLEST_SIDE if ours else parts.min_side  # ours pad images smaller than a window, which saves time
    image = np.random.default_rng(0).standard_normal((side, side)).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = parts.graph.build(image, parts.features.extract(image)).to(parts.device)
        P = parts.clusterer.predict(graph, parts.embedder.embed(graph))
    if tuple(P.shape) != (graph.n, parts.k) or not bool(torch.isfinite(P).all()):
        raise ValueError(f"expected probabilities of {parts.k} clusters, got an array {tuple(P.shape)}, or NaN")


def _numbers(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    for name, values in state.items():
        if values.dtype.kind == "f" and np.isnan(values).any():
            raise ValueError(f"{name} holds NaN")
    return state


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
