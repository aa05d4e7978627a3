"""`sccs init FOLDER_OR_VOLUME`: inspect images without labels, write a recipe for them, and estimate its cost.

Costs are measured, not guessed: one field of view goes through the recipe's parts on this machine.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from registry.base import UserError
from registry.numeric.memory import free_memory
from sccs.data.loading import stem
from sccs.data.readers import expand
from sccs.data.survey import Found, survey
from sccs.data.writers import write_labels
from sccs.init import recipe
from sccs.init.background import MOST_PIXELS, find_tissue
from sccs.init.cost import measure, most_graphs, say_cost, time_training
from sccs.init.plan import Plan, make_plan
from sccs.system.apart import check_apart
from sccs.system.files import check_place, write_text
from sccs.system.lock import held
from sccs.system.log import clock, say

LEAST = 0.1  # share of the time that is planned for all but the learning of features, however long this takes


def init(
    given: str,
    out: str | None = None,
    *,
    overwrite: bool = False,
    axes: str | None = None,
    voxel_size: Sequence[float] | None = None,
    level: int | None = None,
    minutes: float = 30,
    device: str = "auto",
    mask: bool = True,
    extends: str | None = None,
) -> Path:
    """Inspect the image or folder `given`, and write a recipe to `out` (default: its name with .yaml).

    Prints what it found and what a run will cost. Returns the recipe's path.

    minutes: about how long the run may take. axes, voxel_size, level: as in a recipe's `data.train`; voxel_size
    (z, y, x) nm describes the finest level. mask: find empty background, and write masks that exclude it. extends: the
    packaged recipe that the new one extends (`sccs_plus`, ...). Raises UserError if the data cannot be used or `out`
    exists.
    """
    from sccs.pipeline import Pipeline

    if not 0 < minutes < float("inf"):
        raise UserError(f"--minutes {minutes:g}: give a positive number")
    volumes, notes = survey(given, axes=axes, voxel_size=voxel_size, level=level)
    path = Path(out or f"{stem(os.path.abspath(given))}.yaml")
    if path.suffix not in (".yaml", ".yml"):
        raise UserError(f"--out {path}: a recipe must be a .yaml file")
    if os.path.lexists(path) and not overwrite:
        raise UserError(f"{path}: already exists; choose another name with --out, or pass --overwrite")
    check_place(path, folder=False)
    check_apart(path, {"INPUT": [expand(given)]}, within=False)
    for found in volumes:
        say("\n".join(recipe.describe(found, axes)))
    for note in notes:
        say(note)
    say("measuring one field of view ...")
    parent = extends or recipe.PARENT
    pipeline = Pipeline.from_recipe(parent, device=device)
    large = [found for found in volumes if min(found.source.shape[1:]) >= pipeline.min_side]
    for found in volumes if large else ():
        if found not in large:
            notes.append(f"{found.path}: left out, as its slices are smaller than {pipeline.min_side} px")
            say(notes[-1])
    volumes = large or volumes  # measuring refuses a first one that is too small
    cost, graph = measure(pipeline, volumes[0])
    free = free_memory()
    rest = max(LEAST * minutes, minutes - cost.learning / 60)  # what learning leaves to everything else
    if cost.learning > (1 - LEAST) * 60 * minutes:
        say(
            f"{parent}: learning features takes about {clock(cost.learning)} of --minutes {minutes:g}; "
            "allow more, or extend a recipe that learns none, such as sccs_plus_fine"
        )
    plan = make_plan(volumes, most_graphs(pipeline, cost, free, rest), cost, rest)
    cost.fit = time_training(pipeline, graph, plan.fovs("train"))
    said = say_cost(plan, cost, volumes, free, pipeline.device, path.parent)
    masks = _masks(plan, path) if mask else []
    with held(path, "sccs init"):
        for each in (path, *(file for file, _, _ in masks)):
            if os.path.lexists(each) and not overwrite:
                raise UserError(f"{each}: already exists; choose another name with --out, or pass --overwrite")
            check_place(each, folder=False)
            check_apart(each, {"INPUT": [expand(given)]}, within=False)
        new = [file for file, _, _ in masks if not os.path.lexists(file)]
        try:
            told = [_write_mask(*each) for each in masks]
            text = recipe.recipe_text(plan, volumes, notes, said, path.parent, axes, minutes, parent, pipeline.k)
            write_text(path, text)
        except BaseException:
            for file in new:
                file.unlink(missing_ok=True)
            raise
    for line in told:
        say(line)
    say("\n".join([*said, f"recipe: {path}", f"next: sccs run {path}"]))
    return path


def _masks(plan: Plan, path: Path) -> list[tuple[Path, Found, np.ndarray]]:
    """The masks that the plan's volumes need, as files beside the recipe; the plan's entries name them."""
    volumes = list({id(entry.found): entry.found for entry in plan.train + plan.test}.values())
    masks: list[tuple[Path, Found, np.ndarray]] = []
    for found in volumes:
        tissue = find_tissue(found.source.array, MOST_PIXELS // len(volumes))
        if tissue is not None:
            number = f"_{len(masks) + 1}" if len(volumes) > 1 else ""
            masks.append((path.with_name(f"{path.stem}_mask{number}.tif"), found, tissue))
    for entry in plan.train + plan.test:
        entry.mask = next((str(file) for file, found, _ in masks if found is entry.found), None)
    return masks


def _write_mask(file: Path, found: Found, tissue: np.ndarray) -> str:
    """Write a mask; returns what to tell of it."""
    step = -(-found.source.shape[0] // len(tissue))
    size = None if found.voxel_size is None else (step * found.voxel_size[0], *found.voxel_size[1:])
    write_labels(file, tissue, tissue.shape, size, names={0: "background", 1: "tissue"}, overwrite=True)
    return (
        f"{found.path}: {1 - tissue.mean():.0%} looks like empty background, which would use up clusters; "
        f"{file} masks it (check or edit this file, or pass --no-mask)"
    )
