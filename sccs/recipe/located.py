"""YAML with places: values that know where they were written, and mistakes told by file, line and dotted path."""

from __future__ import annotations

import json
import os
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from registry.base import UserError
from registry.registry import suggestion

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Place:
    """Where a value was written: a file and line, or a ``--set`` option; relative paths start at `base`."""

    label: str
    line: int | None
    base: Path

    def __str__(self) -> str:
        return self.label if self.line is None else f"{self.label}:{self.line}"


@dataclass
class Node:
    """A value of a recipe (scalar, dict of key -> Node, list of Node) and its place (a dict entry's is its key's)."""

    value: Any
    place: Place

    def plain(self) -> Any:
        """The value without places."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        return [node.plain() for node in self.value] if isinstance(self.value, list) else self.value

    def child(self, key: object) -> Node | None:
        """The entry of a dict, or the item of a list, None where there is none; keys are compared as text."""
        if isinstance(self.value, dict):
            return next((node for k, node in self.value.items() if str(k) == str(key)), None)
        if isinstance(self.value, list) and str(key).isdecimal() and int(str(key)) < len(self.value):
            return self.value[int(str(key))]
        return None


# ---- reading ---------------------------------------------------------------------------------------------------------


def read_yaml(path: Path) -> Node:
    """The mapping in a YAML file, with places. Raises UserError for unreadable files, YAML mistakes, duplicate keys."""
    label = _label(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{label}: cannot be read: {error}") from error
    root = parse_yaml(text, lambda line: Place(label, line, path.resolve().parent))
    if not isinstance(root.value, dict):
        raise UserError(
            f"{root.place}: a recipe is a mapping of blocks (data:, features:, ...), not {show(root.plain())}"
        )
    return root


def parse_yaml(text: str, place: Callable[[int], Place]) -> Node:
    """YAML as a Node; `place` turns a line, from 1, into a Place. Raises UserError for what a recipe cannot hold."""
    # BaseLoader leaves every plain scalar a string, so that the core schema below decides alone what is a number
    try:
        root = yaml.compose(text, Loader=yaml.BaseLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        assert mark is not None  # MarkedYAMLError has one of them
        raise UserError(f"{place(mark.line + 1)}: not valid YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{place(1)}: not valid YAML: {' '.join(str(error).split())}") from error
    return Node(None, place(1)) if root is None else _convert(root, place, root.start_mark.line + 1, ())


def _convert(node: yaml.Node, place: Callable[[int], Place], line: int, above: tuple[yaml.Node, ...]) -> Node:
    here = place(line)
    if not node.tag.startswith("tag:yaml.org,2002:") or node.tag.startswith("tag:yaml.org,2002:python"):
        raise UserError(f"{here}: YAML tags such as {node.tag!r} have no meaning in a recipe")
    if node in above:
        raise UserError(f"{here}: a YAML alias contains itself")
    if isinstance(node, yaml.ScalarNode):
        return Node(node.value if node.style else scalar(node.value), here)
    if isinstance(node, yaml.SequenceNode):
        return Node([_convert(item, place, item.start_mark.line + 1, (*above, node)) for item in node.value], here)
    entries: dict[Any, Node] = {}
    for key_node, value_node in node.value:
        key_line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise UserError(f"{place(key_line)}: a key must be a plain word or number")
        key = key_node.value if key_node.style else scalar(key_node.value)
        if key in entries:
            first = entries[key].place.line
            raise UserError(f"{place(key_line)}: duplicate key {key!r}, first written on line {first}")
        entries[key] = _convert(value_node, place, key_line, (*above, node))
    return Node(entries, here)


def scalar(text: str) -> Any:
    """A plain scalar by the YAML 1.2 core schema."""
    if text in ("", "~", "null", "Null", "NULL"):
        return None
    if text in ("true", "True", "TRUE", "false", "False", "FALSE"):
        return text.lower() == "true"
    if re.fullmatch(r"[-+]?[0-9]+", text):
        return int(text)
    if re.fullmatch(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", text):
        return float(text)
    if re.fullmatch(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", text):
        return float(text.replace(".", ""))
    return text


def from_python(value: Any, place: Place) -> Node:
    """A recipe given as a dict, all of it at one place."""
    if isinstance(value, Mapping):
        return Node({key: from_python(item, place) for key, item in value.items()}, place)
    if isinstance(value, (list, tuple)):
        return Node([from_python(item, place) for item in value], place)
    return Node(_scalar_of(value), place)


# ---- checking --------------------------------------------------------------------------------------------------------


def check(model: type[M], node: Node, path: tuple) -> tuple[M | None, list[str]]:
    """`node` against `model`: the instance, or None and one line for each mistake."""
    value = node.plain()
    try:
        text = json.dumps(value)
    except TypeError:  # arrays, in a recipe given as a dict
        text = None
    try:
        if text is None:
            return model.model_validate(value), []
        # JSON mode: strict about scalars, yet a list may fill a tuple and a string a Path, as YAML can say no other
        return model.model_validate_json(text, strict=True), []
    except ValidationError as error:
        return None, _lines(error, model, node, path)


def _lines(error: ValidationError, model: type[BaseModel], root: Node, path: tuple) -> list[str]:
    """One line a faulty value: the branches of a union complain one by one, and are put together again."""
    at: dict[tuple, tuple[Node, list]] = {}
    for detail in error.errors(include_url=False):
        node, real = root, list[Any]()
        for key in detail["loc"]:  # what is no key of the data is pydantic's name for a branch
            if (child := node.child(key)) is None:
                break
            node, real = child, [*real, key]
        if detail["type"] == "missing":
            real.append(detail["loc"][-1])
        at.setdefault(tuple(real), (node, []))[1].append(detail)
    # a mistyped key is the reason why another one is missing, so it comes first
    at = dict(sorted(at.items(), key=lambda item: item[1][1][0]["type"] == "missing"))
    return [_line(node, (*path, *real), details, _keys_at(model, real[:-1])) for real, (node, details) in at.items()]


def _line(node: Node, path: tuple, details: list, allowed: list[str]) -> str:
    first = details[0]
    if first["type"] == "extra_forbidden":
        return unknown_key(node, path, allowed)
    dotted = ".".join(map(str, path))
    where = f"{node.place}: {dotted}: " if dotted else f"{node.place}: "
    if first["type"] == "missing":
        return f"{where}missing, and it has no default"
    if first["type"] in ("value_error", "assertion_error"):
        return f"{where}{first['ctx']['error']}"
    if about_key := [detail for detail in details if "[key]" in detail["loc"]]:
        return f"{where}the key must be {_expected(about_key)}"
    expected = _expected(details)
    words = [word for detail in details for word in re.findall(r"'([^']*)'", detail.get("ctx", {}).get("expected", ""))]
    hint = suggestion(node.value, words) if isinstance(node.value, str) else ""
    return f"{where}got {show(node.plain())}; {hint}expected {expected}"


def _expected(details: list) -> str:
    phrases = dict.fromkeys(detail["msg"].removeprefix("Input should be ") for detail in details)
    return (
        " or ".join(phrases)
        .replace("an object", "a block of keys")
        .replace("a valid ", "a ")
        .replace("a integer", "an integer")
        .replace("a array", "a list")
    )


def raise_first(problems: list[str]) -> None:
    """Raises UserError with the first mistake and the number of others; nothing where there is none."""
    if problems:
        more = {1: "", 2: " (and 1 more mistake)"}.get(len(problems), f" (and {len(problems) - 1} more mistakes)")
        raise UserError(problems[0] + more)


def unknown_key(node: Node, path: tuple, allowed: Sequence[str]) -> str:
    """The line that refuses a key, with the one that was probably meant and all that are allowed."""
    listed = f"allowed: {', '.join(allowed)}" if allowed else "no keys are allowed here"
    return f"{node.place}: {'.'.join(map(str, path))}: unknown key; {suggestion(path[-1], allowed)}{listed}"


def _keys_at(model: type[BaseModel], path: tuple) -> list[str]:
    """Names of the fields of the model that stands at `path` inside `model`."""
    found: list[Any] = [model]
    for key in path:
        found = [inner for annotation in found for inner in _inside(annotation, key)]
    return list(dict.fromkeys(name for m in found if _is_model(m) for name in m.model_fields))


def _inside(annotation: Any, key: object) -> Iterator[Any]:
    if _is_model(annotation):
        if key in annotation.model_fields:
            yield from branches(annotation.model_fields[key].annotation)
    elif arguments := typing.get_args(annotation):  # list[X], tuple[X, ...], dict[K, X]
        yield from branches(arguments[1] if typing.get_origin(annotation) is dict else arguments[0])


def branches(annotation: Any) -> list[Any]:
    """The branches of a union, without Annotated."""
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        return branches(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return [branch for argument in typing.get_args(annotation) for branch in branches(argument)]
    return [annotation]


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


# ---- values ----------------------------------------------------------------------------------------------------------


def plain(value: Any) -> Any:
    """What YAML can hold: tuples as lists, paths as text, an array as a description of itself."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    value = _scalar_of(value)
    return f"array {value.shape} {value.dtype}" if hasattr(value, "shape") else value


def _scalar_of(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value.item() if getattr(value, "ndim", None) == 0 else value  # a NumPy scalar


def show(value: Any) -> str:
    """A value as its author wrote it, cut to a line's length."""
    text = repr(value) if isinstance(value, str) else json.dumps(value, default=repr)
    return text if len(text) <= 80 else text[:77] + "..."


def _label(path: Path) -> str:
    """The file's name as a person in this folder would type it."""
    path = path.resolve()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
