"""Check a merged recipe: fixed blocks against the schema, parts against their signatures; make paths absolute."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

import registry
from registry.base import UserError
from registry.registry import canonical, suggestion
from sccs.recipe.located import TOLD, Node, branches, check, from_python, raise_first, show, unknown_key
from sccs.recipe.merging import named
from sccs.recipe.recipe import Choice, Recipe
from sccs.recipe.schema import TOP_LEVEL, WEIGHTS, Evaluation, General, Train
from sccs.system.archive import TRUST, of_a_model, trusted

PATH_KEYS = ("image", "labels", "mask", "root")  # keys of `data` and `pretrain` blocks that contain paths
WEIGHTS_KEYS = ("checkpoint", "teacher")  # keys that may contain a path, which ends in one of
WEIGHTS_FILE = (".safetensors", ".pth")  # or else a name


def checked(root: Node, path: Path | None, label: str, import_plugins: bool = True) -> Recipe:
    """Check a merged recipe against all schemas; `path`: its file, None for a dict; `label`: its name in messages.

    import_plugins: if False, import only plug-ins that the user already trusts; parts of others stay as written.
    Raises UserError for the first mistake, with file, line and dotted path, and the number of further ones.
    """
    unknown = [key for key in root.value if key not in TOP_LEVEL]
    problems = [unknown_key(root.value[key], (key,), TOP_LEVEL) for key in unknown[:TOLD]] + [""] * len(unknown[TOLD:])
    general, found = check(General, _part_of(root, General), ())
    raise_first([*problems, *found])  # import plug-ins only if the recipe is valid so far
    assert general is not None  # no mistakes
    plugins = [_load_plugin(node, index, import_plugins) for index, node in enumerate(_items(root.child("plugins")))]
    unread = any(not registry.is_loaded(name) for name in plugins)

    blocks: dict[str, Any] = {}
    for key, model in (("train", Train), ("evaluation", Evaluation)):
        blocks[key], found = check(model, root.child(key) or Node({}, root.place), (key,))
        problems += found
    for key in ("data", "pretrain"):
        if (node := root.child(key)) is not None:
            root.value[key] = _absolute_paths(named(node) if key == "data" else node)
    pretrain = root.child("pretrain")
    only_pretraining = pretrain is not None and not any(root.child(role) for role in registry.ROLES)
    for role in ("data", *registry.ROLES):
        node = root.child(role)
        if node is None:
            blocks[role] = None
            if not only_pretraining and (role != "data" or path):  # in Python, data is passed to `fit`
                problems.append(f"{label}: {role}: missing; a run needs the blocks data, {', '.join(registry.ROLES)}")
            continue
        root.value[role] = node = named(node)
        blocks[role], found = _data(node) if role == "data" else _choice(role, node, unread)
        problems += found
    raise_first(problems)
    if not unread:
        raise_first(_unknown_weights(root, [blocks[role] for role in ("embedder", "clusterer") if blocks[role]]))
    return Recipe(
        source=path,
        written=root,
        pretrain=pretrain.plain() if pretrain else None,
        **{**general.model_dump(), "plugins": plugins},
        **blocks,
    )


def _part_of(root: Node, model: type[BaseModel]) -> Node:
    return Node({key: node for key, node in root.value.items() if key in model.model_fields}, root.place)


def _items(node: Node | None) -> list[Node]:
    return node.value if node is not None else []


def _load_plugin(node: Node, index: int, wanted: bool) -> str:
    """Import one entry of `plugins:`; a ``.py`` file is relative to the recipe. Returns its name.

    If the recipe came with a model, or the import is not `wanted`, it is imported only if the user trusts it.
    """
    name = _absolute(node.value, node.place.base) if node.value.endswith(".py") else node.value
    if not trusted(name):
        if not wanted:
            return name
        if of_a_model(node.place.base):
            raise UserError(
                f"{node.place}: plugins.{index}: the recipe came with a model and would run its own Python code, "
                f"{node.value}; read it, and if you trust it, set the environment variable {TRUST}=1"
            )
    try:
        registry.load_plugin(name)
    except UserError as error:
        raise UserError(f"{node.place}: plugins.{index}: {error}") from error
    return name


def _data(node: Node) -> tuple[dict | None, list[str]]:
    from sccs.data.schema import DATA_MODELS  # not needed just to read a recipe

    name, problems = _block_name(node, "data", DATA_MODELS)
    if problems:
        return None, problems
    if name not in DATA_MODELS:
        message = f"unknown data {name!r}; {suggestion(name, DATA_MODELS)}available: {', '.join(DATA_MODELS)}"
        return None, [f"{node.value['name'].place}: data.name: {message}"]
    model = DATA_MODELS[name]
    for key in ("train", "test"):  # the user's volumes over an inherited data set, without a new `name`
        if key in node.value and key not in model.model_fields:
            return None, [
                f"{node.value[key].place}: data.{key}: the data set is {name!r}, which has no such key; "
                "for your own volumes add `name: volumes`"
            ]
    instance, problems = check(model, node if "name" in model.model_fields else _without_name(node), ("data",))
    return (None if instance is None else {"name": name, **instance.model_dump(warnings=False)}), problems


def _choice(role: str, node: Node, unread: bool, *within: str) -> tuple[Choice | None, list[str]]:
    """`node`: the block of a part; `within`: the steps below `role` to one that another part holds."""
    path = (role, *within)
    name, problems = _block_name(node, ".".join(path), registry.available(role))
    if problems:
        return None, problems
    if unread and canonical(name) not in map(canonical, registry.available(role)):  # of a plug-in not imported
        return Choice(role, name, _without_name(node).plain(), node), []
    try:
        name, model = registry.resolve(role, name), registry.schema(role, name)
    except UserError as error:
        return None, [f"{node.value['name'].place}: {'.'.join(path)}.name: {error}"]
    options = _without_name(node)
    for key, info in model.model_fields.items():
        value = options.child(key)
        if value is not None and (Path in branches(info.annotation) or _is_weights_file(key, value)):
            options.value[key] = Node(_absolute(value.value, value.place.base), value.place)
    instance, problems = check(model, options, path)
    if instance is None:
        return None, problems
    kwargs = {key: getattr(instance, key) for key in model.model_fields}
    if holder := getattr(registry.get(role, name), "holds_parts", None):
        held = options.child(holder) or from_python(kwargs[holder], node.place)
        found = [_choice(role, named(part), unread, *within, holder, str(i)) for i, part in enumerate(_items(held))]
        problems = [problem for _, each in found for problem in each]
        kwargs[holder] = [choice.block() for choice, _ in found if choice]
    return Choice(role, name, kwargs, node), problems


def _block_name(node: Node, block: str, names: Iterable[str]) -> tuple[str, list[str]]:
    listed = f"available: {', '.join(names)}"
    if not isinstance(node.value, dict):
        return "", [f"{node.place}: {block}: got {show(node.plain())}, expected a name or a block; {listed}"]
    name = node.child("name")
    if name is None:
        return "", [f"{node.place}: {block}.name: missing; {listed}"]
    if not isinstance(name.value, str):
        return "", [f"{name.place}: {block}.name: got {show(name.plain())}, expected a name; {listed}"]
    return name.value, []


def _without_name(node: Node) -> Node:
    return Node({key: item for key, item in node.value.items() if key != "name"}, node.place)


def _unknown_weights(root: Node, choices: Sequence[Choice]) -> list[str]:
    """Mistakes for weights of loss terms that neither a chosen part nor the paper has."""
    weights = (root.child("train") or Node({}, root.place)).child("weights") or Node({}, root.place)
    parts: list[Any] = [registry.get(choice.role, choice.name) for choice in choices]
    offered = [term for part in parts for term in part.terms]
    return [
        f"{node.place}: train.weights.{key}: no part of this recipe has such a loss term; "
        f"{suggestion(key, offered)}offered: {', '.join(offered) or 'none, as nothing is trained'}"
        for key, node in weights.value.items()
        if key not in {*offered, *WEIGHTS}
    ]


def _absolute_paths(node: Node, key: object = None) -> Node:
    """The tree with absolute paths, each resolved from the file that wrote it."""
    if isinstance(node.value, dict):
        return Node({k: _absolute_paths(item, k) for k, item in node.value.items()}, node.place)
    if isinstance(node.value, list):
        return Node([_absolute_paths(item, key) for item in node.value], node.place)
    is_path = key in PATH_KEYS or _is_weights_file(key, node)
    return Node(_absolute(node.value, node.place.base), node.place) if is_path else node


def _is_weights_file(key: object, node: Node) -> bool:
    return key in WEIGHTS_KEYS and isinstance(node.value, str) and node.value.endswith(WEIGHTS_FILE)


def _absolute(value: Any, base: Path) -> Any:
    # variables, home folders and URLs are not relative: they are expanded when opened
    if not isinstance(value, str) or value.startswith(("$", "~")) or "://" in value:
        return value
    return os.path.join(base, value)
