"""A model's folder: model.json and, for each role, what the part learned, as safetensors. No pickle is read."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

import registry
from registry.base import UserError
from sccs.model.parts import Parts
from sccs.system.archive import MODEL, carried
from sccs.system.files import atomic_path, write_json

FORMAT = 1  # of the model folder


def write(folder: Path, parts: Parts, info: Mapping[str, Any]) -> None:
    """`folder`/model.json and one file for each role, whole or not at all."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    for role in registry.ROLES:
        state = {name: np.ascontiguousarray(value) for name, value in getattr(parts, role).get_state().items()}
        with atomic_path(folder / f"{role}.safetensors") as scratch:
            save_file(state, scratch)
    write_json(folder / "model.json", {"format": FORMAT, "recipe": parts.recipe.resolved(), **info})


def read(place: Path, run: str | os.PathLike[str]) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """The folder of the weights, the recipe without its data, and what else the model knows.

    A recipe that was saved extends no other; one that does all the same might bring plug-ins that nobody sees.

    place: folder of a run, its `model` folder, or an export. run: what the user calls it, for errors. Raises UserError
    where there is no model, one of another format, or one with plug-ins that the user does not trust.
    """
    folder = place / "model" if (place / "model").is_dir() else place
    if not (folder / "model.json").is_file():
        raise UserError(f"{run}: no trained model there ({MODEL} is missing); give the folder of a finished `sccs run`")
    about = json.loads((folder / "model.json").read_text())
    if about.get("format") != FORMAT:
        raise UserError(f"{run}: model format {about.get('format')}, this version reads {FORMAT}")
    recipe = {key: value for key, value in about["recipe"].items() if key not in ("data", "extends")}
    recipe["plugins"] = carried(recipe.get("plugins") or [], folder.parent)
    return folder, recipe, {key: value for key, value in about.items() if key not in ("format", "recipe")}


def restore(parts: Parts, folder: Path, run: str | os.PathLike[str]) -> None:
    """Give every part what it had learned. Raises UserError where a file is missing, damaged, or of another version."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    role = ""
    try:
        for role in registry.ROLES:
            getattr(parts, role).set_state(load_file(folder / f"{role}.safetensors"))
    except (FileNotFoundError, SafetensorError) as error:
        raise UserError(f"{run}: the model is incomplete or damaged ({error}); train again") from None
    except (KeyError, ValueError, RuntimeError) as error:  # arrays of other names or shapes than this code keeps
        raise UserError(
            f"{run}: the model's {role} was saved by another version of sccs "
            f"({str(error).splitlines()[0]}); train again"
        ) from None
    for part in (parts.embedder, parts.clusterer):
        if isinstance(part, torch.nn.Module):
            part.to(parts.device).eval()
