"""Recipes: YAML files that say which data, which parts and which training make a run.

A recipe is read with the place of every value, so that each mistake is answered with file, line and dotted path. It is
checked against the signatures of the parts that it names before anything runs, and nothing in it is rewritten.

Grammar: ``extends`` (one parent: a file relative to the recipe, or a packaged recipe's name), ``description``,
``seed``, ``device``, ``plugins``, ``data``, ``features``, ``graph``, ``embedder``, ``clusterer``, ``train``,
``evaluation``, ``pretrain``. Blocks merge into the parent's blocks key by key; a list replaces; a part or data block
with another ``name`` replaces the parent's block. A part without options may be written as a plain name. Scalars follow
the YAML 1.2 core schema: ``1e-3`` is a number, ``no`` is text. Relative paths are relative to the file that wrote them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

import registry
from registry.base import UserError
from registry.registry import canonical, suggestion
from sccs.recipe.located import (
    Node,
    Place,
    branches,
    check,
    from_python,
    parse_yaml,
    plain,
    read_yaml,
    scalar,
    show,
    unknown_key,
)
from sccs.system.device import DEVICE

PATH_KEYS = ("image", "labels", "root")  # keys of `data` and `pretrain` blocks that hold paths
WEIGHTS_FILE = (".safetensors", ".pth")  # a `checkpoint` that ends so is a path as well, any other one a name
WEIGHTS = {"spe": 1.0, "clu": 1.0, "smo": 0.1}  # paper, section 3.4: 1, gamma_1, gamma_2
MAPPINGS = ("train", "hungarian", "greedy", "majority", "oracle")


class Block(BaseModel):
    """A recipe block with a fixed set of keys."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Train(Block):
    """How the trainable parts are trained."""

    iterations: Annotated[int, Field(ge=0)] = 6000
    lr: Annotated[float, Field(gt=0)] = 0.01
    schedule: Literal["constant", "cosine"] = "constant"  # cosine: down to lr / 100 (the later code: .01 to .0001)
    batch: Annotated[int, Field(ge=1)] = 1  # graphs a step
    weights: dict[str, Annotated[float, Field(ge=0)]] = dict(WEIGHTS)  # loss term -> weight
    checkpoint_every: Annotated[int, Field(ge=1)] = 500  # steps
    log_every: Annotated[int, Field(ge=1)] = 50  # steps
    threads: Annotated[int, Field(ge=1)] | None = None  # CPU threads; null: PyTorch's own choice

    @field_validator("weights")
    @classmethod
    def _complete(cls, given: dict[str, float]) -> dict[str, float]:
        return {**WEIGHTS, **given}


class Evaluation(Block):
    """How clusters become classes, and what is reported first."""

    mappings: Annotated[list[Literal[MAPPINGS]], Field(min_length=1)] = list(MAPPINGS)
    headline: Literal[MAPPINGS] = "train"
    rest: str | None = None  # class left out of the second mean


class General(Block):
    """Keys of a recipe that are no block."""

    description: str = ""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    device: str = "auto"
    plugins: list[str] = []

    @field_validator("device")
    @classmethod
    def _known(cls, device: str) -> str:
        if not re.fullmatch(DEVICE, device):
            raise ValueError(f"got {device!r}; expected auto, cpu, cuda or cuda:N")
        return device


@dataclass
class Choice:
    """A part that the recipe names, with all of its arguments, defaults included."""

    role: str
    name: str
    kwargs: dict[str, Any]
    written: Node = field(repr=False)

    def build(self) -> Any:
        """A fresh part. Raises UserError, with the recipe's file and line, for values that the part refuses."""
        try:
            return registry.get(self.role, self.name)(**self.kwargs)
        except UserError as error:
            key = str(error).partition(":")[0].removeprefix(f"{self.role}.")
            raise UserError(f"{(self.written.child(key) or self.written).place}: {error}") from error

    def block(self) -> dict[str, Any]:
        return {"name": self.name, **self.kwargs}


@dataclass
class Recipe:
    """A checked recipe. The four parts are None only in a recipe that has a `pretrain` block and names no part."""

    source: Path | None  # the file; None for a recipe given as a dict
    description: str
    seed: int
    device: str  # as written: auto, cpu, cuda or cuda:N
    plugins: list[str]
    data: dict[str, Any] | None  # with `name`, every key of its model, and absolute paths
    features: Choice | None
    graph: Choice | None
    embedder: Choice | None
    clusterer: Choice | None
    train: Train
    evaluation: Evaluation
    pretrain: dict[str, Any] | None  # not checked here: `validate("pretrain", Model)`
    written: Node = field(repr=False)  # what the user wrote, merged

    @property
    def name(self) -> str:
        return self.source.stem if self.source else "recipe"

    def where(self, *path: object) -> str:
        """``file:line`` of the value at `path`, or ``default`` when nobody wrote it."""
        node: Node | None = self.written
        for key in path:
            node = node.child(key)
            if node is None:
                return "default"
        return str(node.place)

    def validate(self, block: str, model: type[BaseModel]) -> BaseModel:
        """The block `block` checked against a pydantic model; raises UserError with file, line and dotted path."""
        node = self.written.child(block) or Node({}, self.written.place)
        instance, problems = check(model, node, (block,))
        _raise_first(problems)
        return instance

    def resolved(self) -> dict[str, Any]:
        """The whole recipe as plain data, every default filled in; reading it again gives the same recipe."""
        blocks = {role: getattr(self, role).block() for role in registry.ROLES if getattr(self, role)}
        recipe = {
            "description": self.description,
            "seed": self.seed,
            "device": self.device,
            "plugins": self.plugins,
            "data": self.data,
            **blocks,
            "train": self.train.model_dump(),
            "evaluation": self.evaluation.model_dump(),
            "pretrain": self.pretrain,
        }
        return {key: plain(value) for key, value in recipe.items() if value is not None}


TOP_LEVEL = ("extends", *General.model_fields, "data", *registry.ROLES, "train", "evaluation", "pretrain")


def load_recipe(
    source: str | os.PathLike | Mapping,
    overrides: Sequence[str] = (),
    seed: int | None = None,
    device: str | None = None,
) -> Recipe:
    """Read, merge and check a recipe: a file, a packaged recipe's name, or a dict of the same form.

    `overrides` are ``a.b=c`` strings as given to ``--set``; `seed` and `device` replace the recipe's. Raises UserError.
    """
    if isinstance(source, Mapping):
        path, label = None, "recipe"
        root = from_python(source, Place("recipe", None, Path.cwd()))
    else:
        path = find_recipe(source)
        label, root = str(source), read_yaml(path)
    root = _with_parents(root, path, ())
    for option in overrides:
        root = _override(root, option)
    for key, value in (("seed", seed), ("device", device)):
        if value is not None:
            root.value[key] = Node(value, Place(f"--{key}", None, Path.cwd()))
    return _checked(root, path, label)


def recipe_folder() -> Path:
    """The folder of the packaged recipes: inside the installed package, or ``recipes/`` of the checkout."""
    here = Path(__file__).resolve().parents[1]
    return here / "recipes" if (here / "recipes").is_dir() else here.parent / "recipes"


def packaged_recipes() -> dict[str, Path]:
    return {path.stem: path for path in sorted(recipe_folder().glob("*.yaml"))}


def find_recipe(name: str | os.PathLike, base: Path | None = None) -> Path:
    """An existing file (relative to `base`, default the working directory), else the packaged recipe of that name."""
    path = (base or Path.cwd()) / Path(name).expanduser()
    if path.is_file():
        return path
    packaged = packaged_recipes()
    short = str(name).removeprefix("recipes/").removesuffix(".yaml")
    if short in packaged:
        return packaged[short]
    raise UserError(
        f"recipe {str(name)!r} not found: neither a file nor a packaged recipe; "
        f"{suggestion(short, packaged)}packaged: {', '.join(packaged)}"
    )


# ---- merging ---------------------------------------------------------------------------------------------------------


def _with_parents(root: Node, path: Path | None, chain: tuple[Path, ...]) -> Node:
    parent = root.value.pop("extends", None)
    if parent is None:
        return root
    if not isinstance(parent.value, str):
        raise UserError(f"{parent.place}: extends: names one parent recipe, not {show(parent.plain())}")
    chain = (*chain, path.resolve()) if path else chain
    try:
        parent_path = find_recipe(parent.value, parent.place.base)
    except UserError as error:
        raise UserError(f"{parent.place}: extends: {error}") from None
    if parent_path.resolve() in chain:
        cycle = " -> ".join(p.name for p in (*chain, parent_path))
        raise UserError(f"{parent.place}: extends: recipes extend one another in a circle: {cycle}")
    return _merge_recipe(_with_parents(read_yaml(parent_path), parent_path, chain), root)


def _merge_recipe(parent: Node, child: Node) -> Node:
    merged = {key: node for key, node in parent.value.items() if key != "description"}  # it describes the parent
    for key, node in child.value.items():
        if key in ("data", *registry.ROLES):
            old, node = merged.get(key), _named(node)
            if old is not None and _same_name(_named(old), node):
                node = _merge(_named(old), node)
            merged[key] = node
        else:
            merged[key] = _merge(merged[key], node) if key in merged else node
    return Node(merged, child.place)


def _named(block: Node) -> Node:
    """`kmeans` -> `{name: kmeans}`."""
    return Node({"name": Node(block.value, block.place)}, block.place) if isinstance(block.value, str) else block


def _same_name(parent: Node, child: Node) -> bool:
    name, old = child.child("name"), parent.child("name")
    return name is None or old is None or canonical(str(name.value)) == canonical(str(old.value))


def _merge(parent: Node, child: Node) -> Node:
    if not (isinstance(parent.value, dict) and isinstance(child.value, dict)):
        return child
    merged = dict(parent.value)
    for key, node in child.value.items():
        merged[key] = _merge(merged[key], node) if key in merged else node
    return Node(merged, child.place)


def _override(root: Node, option: str) -> Node:
    dotted, equals, text = option.partition("=")
    place = Place(f"--set {option}", None, Path.cwd())
    keys = dotted.split(".")
    if not equals or not all(keys):
        raise UserError(f"{place}: write --set block.key=value")
    value = parse_yaml(text, lambda line: place)
    if keys[0] == "extends":
        raise UserError(f"{place}: extends cannot be set; name the other recipe instead")

    def changed(node: Node | None, rest: list[str], above: list[str]) -> Node:
        """`node` with `value` at the dotted path `rest`; lists are entered by index, blocks made where missing."""
        if not rest:
            return value
        if node is not None and isinstance(node.value, list):
            if not rest[0].isdecimal() or int(rest[0]) >= len(node.value):
                raise UserError(f"{place}: {'.'.join(above)} is a list of {len(node.value)}, it has no {rest[0]!r}")
            items = list(node.value)
            items[int(rest[0])] = changed(items[int(rest[0])], rest[1:], [*above, rest[0]])
            return Node(items, node.place)
        if node is not None and not isinstance(node.value, dict):
            raise UserError(f"{place}: {'.'.join(above)} is the value {show(node.value)}, it has no {rest[0]!r}")
        entries = dict(node.value) if node is not None else {}
        key = next((k for k in entries if str(k) == rest[0]), scalar(rest[0]))
        entries[key] = changed(entries.get(key), rest[1:], [*above, rest[0]])
        return Node(entries, node.place if node is not None else place)

    block = root.child(keys[0])
    if len(keys) == 1 or keys[1:] == ["name"]:  # another part, or a whole block: the rules of inheritance
        old = Node({keys[0]: block}, root.place) if block else Node({}, root.place)
        new = Node({keys[0]: changed(None, keys[1:], keys[:1])}, place)
        return Node({**root.value, **_merge_recipe(old, new).value}, root.place)
    return Node({**root.value, keys[0]: changed(block and _named(block), keys[1:], keys[:1])}, root.place)


# ---- checking --------------------------------------------------------------------------------------------------------


def _checked(root: Node, path: Path | None, label: str) -> Recipe:
    problems = [unknown_key(node, (key,), TOP_LEVEL) for key, node in root.value.items() if key not in TOP_LEVEL]
    general, found = check(General, _part_of(root, General), ())
    _raise_first([*problems, *found])  # plug-ins are imported only for a recipe that is sound so far
    plugins = [_load_plugin(node, index) for index, node in enumerate(_items(root.child("plugins")))]

    blocks: dict[str, Any] = {}
    for key, model in (("train", Train), ("evaluation", Evaluation)):
        blocks[key], found = check(model, root.child(key) or Node({}, root.place), (key,))
        problems += found
    for key in ("data", "pretrain"):
        if (node := root.child(key)) is not None:
            root.value[key] = _absolute_paths(_named(node) if key == "data" else node)
    pretrain = root.child("pretrain")
    only_pretraining = pretrain is not None and not any(root.child(role) for role in registry.ROLES)
    for role in ("data", *registry.ROLES):
        node = root.child(role)
        if node is None:
            blocks[role] = None
            if not only_pretraining and (role != "data" or path):  # from Python, data comes with `fit`
                problems.append(f"{label}: {role}: missing; a run needs the blocks data, {', '.join(registry.ROLES)}")
            continue
        root.value[role] = node = _named(node)
        blocks[role], found = _data(node) if role == "data" else _choice(role, node)
        problems += found
    _raise_first(problems)
    _raise_first(_unknown_weights(root, [blocks[role] for role in ("embedder", "clusterer") if blocks[role]]))
    return Recipe(
        source=path,
        written=root,
        pretrain=pretrain.plain() if pretrain else None,
        **{**general.model_dump(), "plugins": plugins},
        **blocks,
    )


def _unknown_weights(root: Node, choices: Sequence[Choice]) -> list[str]:
    """Weights of loss terms that neither a chosen part offers nor the paper has."""
    weights = (root.child("train") or Node({}, root.place)).child("weights") or Node({}, root.place)
    offered = [term for choice in choices for term in registry.get(choice.role, choice.name).terms]
    return [
        f"{node.place}: train.weights.{key}: no part of this recipe has such a loss term; "
        f"{suggestion(key, offered)}offered: {', '.join(offered) or 'none, as nothing is trained'}"
        for key, node in weights.value.items()
        if key not in {*offered, *WEIGHTS}
    ]


def _part_of(root: Node, model: type[BaseModel]) -> Node:
    return Node({key: node for key, node in root.value.items() if key in model.model_fields}, root.place)


def _items(node: Node | None) -> list[Node]:
    return node.value if node is not None else []


def _load_plugin(node: Node, index: int) -> str:
    """Import one entry of `plugins:`; a ``.py`` file is relative to the recipe."""
    name = _absolute(node.value, node.place.base) if node.value.endswith(".py") else node.value
    try:
        registry.load_plugin(name)
    except UserError as error:
        raise UserError(f"{node.place}: plugins.{index}: {error}") from error
    return name


def _data(node: Node) -> tuple[dict | None, list[str]]:
    from sccs.data.schema import DATA_MODELS  # not needed to read a recipe's text

    name, problems = _block_name(node, "data", DATA_MODELS)
    if problems:
        return None, problems
    if name not in DATA_MODELS:
        message = f"unknown data {name!r}; {suggestion(name, DATA_MODELS)}available: {', '.join(DATA_MODELS)}"
        return None, [f"{node.child('name').place}: data.name: {message}"]
    model = DATA_MODELS[name]
    for key in ("train", "test"):  # own volumes, written over an inherited data set without saying so
        if key in node.value and key not in model.model_fields:
            return None, [
                f"{node.child(key).place}: data.{key}: the data set is {name!r}, which has no such key; "
                "for volumes of your own write also `name: volumes`"
            ]
    instance, problems = check(model, node if "name" in model.model_fields else _without_name(node), ("data",))
    return (None if instance is None else {"name": name, **instance.model_dump(warnings=False)}), problems


def _choice(role: str, node: Node) -> tuple[Choice | None, list[str]]:
    name, problems = _block_name(node, role, registry.available(role))
    if problems:
        return None, problems
    try:
        name, model = registry.resolve(role, name), registry.schema(role, name)
    except UserError as error:
        return None, [f"{node.child('name').place}: {role}.name: {error}"]
    options = _without_name(node)
    for key, info in model.model_fields.items():
        value = options.child(key)
        if value is not None and (Path in branches(info.annotation) or _is_weights_file(key, value)):
            options.value[key] = Node(_absolute(value.value, value.place.base), value.place)
        for part in value.value if value is not None and isinstance(value.value, list) else ():  # `of` of `concat`
            for option, inner in part.value.items() if isinstance(part.value, dict) else ():
                if _is_weights_file(option, inner):
                    part.value[option] = Node(_absolute(inner.value, inner.place.base), inner.place)
    instance, problems = check(model, options, (role,))
    kwargs = None if instance is None else {key: getattr(instance, key) for key in model.model_fields}
    return (None if kwargs is None else Choice(role, name, kwargs, node)), problems


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


def _absolute_paths(node: Node, key: object = None) -> Node:
    """The tree with its paths made absolute, each from the file that wrote it."""
    if isinstance(node.value, dict):
        return Node({k: _absolute_paths(item, k) for k, item in node.value.items()}, node.place)
    if isinstance(node.value, list):
        return Node([_absolute_paths(item, key) for item in node.value], node.place)
    is_path = key in PATH_KEYS or _is_weights_file(key, node)
    return Node(_absolute(node.value, node.place.base), node.place) if is_path else node


def _is_weights_file(key: object, node: Node) -> bool:
    return key == "checkpoint" and isinstance(node.value, str) and node.value.endswith(WEIGHTS_FILE)


def _absolute(value: Any, base: Path) -> Any:
    # a variable, a home folder and a URL are no relative paths: whoever opens them expands them
    if not isinstance(value, str) or value.startswith(("$", "~")) or "://" in value:
        return value
    return os.path.join(base, value)


def _raise_first(problems: list[str]) -> None:
    if problems:
        more = {1: "", 2: " (and 1 more mistake)"}.get(len(problems), f" (and {len(problems) - 1} more mistakes)")
        raise UserError(problems[0] + more)
