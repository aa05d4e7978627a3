"""Recipes: YAML files that define the data, parts and training of a run.

Every value keeps its place in the file, so that errors give file, line and dotted path. A recipe is checked against
the signatures of the parts that it names before anything runs, and nothing in it is rewritten.

Grammar: ``extends`` (one parent: a file relative to the recipe, or a packaged recipe's name), ``description``,
``seed``, ``device``, ``plugins``, ``data``, ``features``, ``graph``, ``embedder``, ``clusterer``, ``train``,
``evaluation``, ``pretrain``. Blocks merge into the parent's blocks key by key; a list replaces; a part or data block
with another ``name`` replaces the parent's block. A part without options may be written as a plain name. Scalars follow
the YAML 1.2 core schema: ``1e-3`` is a number, ``no`` is text. Paths are relative to the file that wrote them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from registry.base import UserError
from sccs.recipe.checking import checked
from sccs.recipe.located import Node, Place, from_python, read_yaml
from sccs.recipe.merging import find_recipe, override, with_parents
from sccs.recipe.recipe import Recipe


def load_recipe(
    source: str | os.PathLike | Mapping,
    overrides: Sequence[str] = (),
    seed: int | None = None,
    device: str | None = None,
    import_plugins: bool = True,
) -> Recipe:
    """Read, merge and check a recipe: a file, a packaged recipe's name, or a dict of the same form.

    `overrides` are ``a.b=c`` strings as given to ``--set``; `seed` and `device` replace the recipe's.
    import_plugins: as for `checked`. Raises UserError.
    """
    if isinstance(source, Mapping):
        path, label = None, "recipe"
        root = from_python(source, Place("recipe", None, Path.cwd()))
    elif not isinstance(source, (str, os.PathLike)):
        raise UserError(f"a {type(source).__name__} is not a recipe; give a packaged recipe's name, a file or a dict")
    else:
        path = find_recipe(source)
        label, root = str(source), read_yaml(path)
    root = with_parents(root, path)
    if isinstance(overrides, str) or not all(isinstance(option, str) for option in overrides):
        raise UserError(f'changes to a recipe are a list, such as ["graph.kappa=3"], not {overrides!r}')
    for option in overrides:
        root = override(root, option)
    for key, value in (("seed", seed), ("device", device)):
        if value is not None:
            root.value[key] = Node(value, Place(f"--{key}", None, Path.cwd()))
    return checked(root, path, label, import_plugins)
