"""`sccs init FOLDER_OR_VOLUME`: inspect images without labels, write a recipe for them, and estimate its cost.

Costs are measured, not guessed: one field of view goes through the recipe's parts on this machine.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from registry.base import UserError
from registry.numeric.memory import free_memory
from sccs.data.loading import stem
from sccs.data.readers import expand
from sccs.data.survey import survey
from sccs.init import recipe
from sccs.init.cost import measure, most_graphs, say_cost, time_training
from sccs.init.plan import make_plan
from sccs.system.apart import check_apart
from sccs.system.files import check_place, write_text
from sccs.system.lock import held
from sccs.system.log import say


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
) -> Path:
    """Inspect the image or folder `given`, write a recipe to `out` (default: its name with .yaml), and print both.

    minutes: about how long the run may take. axes, voxel_size, level: as in a recipe's `data.train`; voxel_size
    (z, y, x) nm describes the finest level. Raises UserError if the data cannot be used or `out` exists.
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
    pipeline = Pipeline.from_recipe(recipe.PARENT, device=device)
    cost, graph = measure(pipeline, volumes[0])
    free = free_memory()
    plan = make_plan(volumes, most_graphs(pipeline, cost, free, minutes), cost, minutes)
    cost.fit = time_training(pipeline, graph, plan.fovs("train"))
    said = say_cost(plan, cost, volumes, free, pipeline.device, path.parent)
    with held(path, "sccs init"):
        if os.path.lexists(path) and not overwrite:  # meanwhile
            raise UserError(f"{path}: already exists; choose another name with --out, or pass --overwrite")
        write_text(path, recipe.recipe_text(plan, volumes, notes, said, path.parent, axes, minutes))
    say("\n".join([*said, f"recipe: {path}", f"next: sccs run {path}"]))
    return path
