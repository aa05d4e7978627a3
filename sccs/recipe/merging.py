"""Find recipes, merge them into the recipes that they extend, and apply the changes of ``--set``."""

from __future__ import annotations

import os
from pathlib import Path

import registry
from registry.base import UserError
from registry.registry import canonical, suggestion
from sccs.recipe.located import Node, Place, index_of, parse_yaml, read_yaml, scalar, show
from sccs.system import bounds


def _recipe_folder() -> Path:
    """The folder of the packaged recipes: inside the installed package, or ``recipes/`` of the checkout."""
    here = Path(__file__).resolve().parents[1]
    return here / "recipes" if (here / "recipes").is_dir() else here.parent / "recipes"


def packaged_recipes() -> dict[str, Path]:
    """Name -> file of every recipe that comes with the package."""
    return {path.stem: path for path in sorted(_recipe_folder().glob("*.yaml"))}


def find_recipe(name: str | os.PathLike, base: Path | None = None) -> Path:
    """An existing file (relative to `base`, default the working directory), else the packaged recipe of that name.

    Raises UserError if there is neither.
    """
    path = (base or Path.cwd()) / os.path.expanduser(name)
    if os.path.isfile(path):  # unlike Path.is_file, false for impossible names
        return path
    packaged = packaged_recipes()
    short = str(name).removeprefix("recipes/").removesuffix(".yaml")
    if short in packaged:
        return packaged[short]
    if os.path.lexists(path):
        bounds.check_file(path)  # raises if it exists but is not a file
    raise UserError(
        f"recipe {str(name)!r} not found: neither a file nor a packaged recipe; "
        f"{suggestion(short, packaged)}packaged: {', '.join(packaged)}"
    )


def with_parents(root: Node, path: Path | None, chain: tuple[Path, ...] = ()) -> Node:
    """The recipe `root` of the file `path`, merged into those that it extends; `chain`: the files that led to it.

    Raises UserError if a parent is missing, or if recipes extend one another in a loop.
    """
    parent = root.value.pop("extends", None)
    if parent is None:
        return root
    if not isinstance(parent.value, str):
        raise UserError(f"{parent.place}: extends: must name one parent recipe, not {show(parent.plain())}")
    chain = (*chain, Path(os.path.realpath(path))) if path else chain
    if len(chain) > bounds.PARENTS:
        raise UserError(f"{parent.place}: extends: more than {bounds.PARENTS} recipes extend one another")
    try:
        parent_path = find_recipe(parent.value, parent.place.base)
    except UserError as error:
        raise UserError(f"{parent.place}: extends: {error}") from None
    if Path(os.path.realpath(parent_path)) in chain:
        cycle = " -> ".join(p.name for p in (*chain, parent_path))
        raise UserError(f"{parent.place}: extends: recipes extend one another in a loop: {cycle}")
    return _merge_recipe(with_parents(read_yaml(parent_path), parent_path, chain), root)


def override(root: Node, option: str) -> Node:
    """The recipe with one ``a.b=c`` of ``--set`` applied; raises UserError for an invalid option."""
    dotted, equals, text = option.partition("=")
    place = Place(f"--set {option}", None, Path.cwd())
    keys = dotted.split(".")
    if not equals or not all(keys):
        raise UserError(f"{place}: write --set block.key=value")
    value = parse_yaml(text, lambda line: place)
    if keys[0] == "extends":
        raise UserError(f"{place}: extends cannot be set; name the other recipe instead")

    def changed(node: Node | None, rest: list[str], above: list[str]) -> Node:
        """`node` with `value` at the dotted path `rest`; lists are indexed, missing blocks are created."""
        if not rest:
            return value
        if node is not None and isinstance(node.value, list):
            if (index := index_of(rest[0], len(node.value))) is None:
                raise UserError(f"{place}: {'.'.join(above)} is a list of {len(node.value)} and has no {rest[0]!r}")
            items = list(node.value)
            items[index] = changed(items[index], rest[1:], [*above, rest[0]])
            return Node(items, node.place)
        if node is not None and not isinstance(node.value, dict):
            raise UserError(f"{place}: {'.'.join(above)} is the value {show(node.value)} and has no {rest[0]!r}")
        entries = dict(node.value) if node is not None else {}
        key = next((k for k in entries if str(k) == rest[0]), scalar(rest[0]))
        entries[key] = changed(entries.get(key), rest[1:], [*above, rest[0]])
        return Node(entries, node.place if node is not None else place)

    block = root.child(keys[0])
    if len(keys) == 1 or keys[1:] == ["name"]:  # a new part, or a whole block: follow the rules of inheritance
        old = Node({keys[0]: block}, root.place) if block else Node({}, root.place)
        new = Node({keys[0]: changed(None, keys[1:], keys[:1])}, place)
        return Node({**root.value, **_merge_recipe(old, new).value}, root.place)
    return Node({**root.value, keys[0]: changed(block and named(block), keys[1:], keys[:1])}, root.place)


def _merge_recipe(parent: Node, child: Node) -> Node:
    merged = {key: node for key, node in parent.value.items() if key != "description"}  # it describes the parent
    for key, node in child.value.items():
        if key in ("data", *registry.ROLES):
            old, node = merged.get(key), named(node)
            if old is not None and _same_name(named(old), node):
                node = _merge(named(old), node)
            merged[key] = node
        else:
            merged[key] = _merge(merged[key], node) if key in merged else node
    return Node(merged, child.place)


def _merge(parent: Node, child: Node) -> Node:
    if not (isinstance(parent.value, dict) and isinstance(child.value, dict)):
        return child
    merged = dict(parent.value)
    for key, node in child.value.items():
        merged[key] = _merge(merged[key], node) if key in merged else node
    return Node(merged, child.place)


def named(block: Node) -> Node:
    """`kmeans` -> `{name: kmeans}`."""
    return Node({"name": Node(block.value, block.place)}, block.place) if isinstance(block.value, str) else block


def _same_name(parent: Node, child: Node) -> bool:
    name, old = child.child("name"), parent.child("name")
    return name is None or old is None or canonical(str(name.value)) == canonical(str(old.value))
