"""YAML with places: values know where they were written, so that errors give file, line and dotted path."""

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
from sccs.system import bounds

M = TypeVar("M", bound=BaseModel)
INTEGER = r"[-+]?[0-9]+"
FLOAT = r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
LARGEST = 2**63  # larger integers fit into no array
TOLD = 100  # mistakes put into words, at most: one is shown, the others are counted


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
        """The entry of a dict or the item of a list, or None; keys are compared as text."""
        if isinstance(self.value, dict):
            if isinstance(key, str) and key in self.value:
                return self.value[key]
            return next((node for k, node in self.value.items() if str(k) == str(key)), None)
        if isinstance(self.value, list) and (index := index_of(key, len(self.value))) is not None:
            return self.value[index]
        return None


def index_of(key: object, length: int) -> int | None:
    """The index into a list of that length that a key names, or None."""
    text = str(key)
    return int(text) if text.isdecimal() and len(text) < 10 and int(text) < length else None


# ---- reading ---------------------------------------------------------------------------------------------------------


def read_yaml(path: Path) -> Node:
    """The mapping in a YAML file, with places. Raises UserError for unreadable files, invalid YAML, duplicate keys."""
    label = _label(path)
    base = Path(os.path.realpath(path)).parent
    root = parse_yaml(bounds.read_text(label, bounds.YAML), lambda line: Place(label, line, base))
    if not isinstance(root.value, dict):
        raise UserError(
            f"{root.place}: a recipe must be a mapping of blocks (data:, features:, ...), not {show(root.plain())}"
        )
    return root


def parse_yaml(text: str, place: Callable[[int], Place]) -> Node:
    """YAML as a Node; `place` turns a line number, from 1, into a Place. Raises UserError for invalid content."""
    try:
        root = yaml.compose(text, Loader=_Loader)
    except _TooMuch as error:
        assert error.problem_mark is not None
        raise UserError(f"{place(error.problem_mark.line + 1)}: {error.problem}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        assert mark is not None  # MarkedYAMLError has one of the two
        raise UserError(f"{place(mark.line + 1)}: not valid YAML: {error.problem or error.context}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise UserError(
            f"{place(line)}: not valid YAML: contains the character {error.character:#04x}; remove it"
        ) from error
    return Node(None, place(1)) if root is None else _convert(root, place, root.start_mark.line + 1, ())


class _TooMuch(yaml.MarkedYAMLError):
    """YAML that exceeds a bound."""


class _Loader(yaml.BaseLoader):
    """Keeps every plain scalar as a string, so that only the core schema below decides what is a number.

    Rejects YAML that is nested too deeply, and aliases that expand to too many values.
    """

    def __init__(self, stream: str):
        super().__init__(stream)
        self._depth = 0
        self._values: dict[yaml.Node, int] = {}  # in a node, including itself

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._depth += 1
        if self._depth > bounds.DEPTH:
            raise _TooMuch(None, None, f"blocks nested more than {bounds.DEPTH} deep", self.peek_event().start_mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if node is None or node in self._values:  # an alias
            return node
        pairs = node.value if isinstance(node, yaml.MappingNode) else [node.value]
        inner = (each for pair in pairs for each in pair) if isinstance(node, yaml.CollectionNode) else ()
        self._values[node] = 1 + sum(self._values.get(each, 0) for each in inner)
        if self._values[node] > bounds.VALUES:
            problem = f"more than {bounds.VALUES} values, with aliases (*) expanded"
            raise _TooMuch(None, None, problem, node.start_mark)
        return node


def _convert(node: yaml.Node, place: Callable[[int], Place], line: int, above: tuple[yaml.Node, ...]) -> Node:
    here = place(line)
    if not node.tag.startswith("tag:yaml.org,2002:") or node.tag.startswith("tag:yaml.org,2002:python"):
        raise UserError(f"{here}: YAML tags such as {node.tag!r} are not supported in a recipe")
    if node in above:
        raise UserError(f"{here}: a YAML alias contains itself")
    if isinstance(node, yaml.ScalarNode):
        return Node(_scalar(node, here), here)
    if isinstance(node, yaml.SequenceNode):
        return Node([_convert(item, place, item.start_mark.line + 1, (*above, node)) for item in node.value], here)
    entries: dict[Any, Node] = {}
    for key_node, value_node in node.value:
        key_line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise UserError(f"{place(key_line)}: a key must be a plain word or number")
        key = _scalar(key_node, place(key_line))
        if key in entries:
            first = entries[key].place.line
            raise UserError(f"{place(key_line)}: duplicate key {key!r}, first written on line {first}")
        entries[key] = _convert(value_node, place, key_line, (*above, node))
    return Node(entries, here)


def _scalar(node: yaml.ScalarNode, place: Place) -> Any:
    if found := re.search("[\0\ud800-\udfff]", node.value):
        raise UserError(f"{place}: invalid character {found[0]!a}")
    try:
        return node.value if node.style else scalar(node.value)
    except UserError as error:
        raise UserError(f"{place}: {error}") from None


def scalar(text: str) -> Any:
    """A plain scalar by the YAML 1.2 core schema. Raises UserError for an integer beyond 64 bits."""
    if text in ("", "~", "null", "Null", "NULL"):
        return None
    if text in ("true", "True", "TRUE", "false", "False", "FALSE"):
        return text.lower() == "true"
    if re.fullmatch(INTEGER, text):
        return _whole(text)
    if re.fullmatch(FLOAT, text):
        return float(text)
    if re.fullmatch(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", text):
        return float(text.replace(".", ""))
    return text


def _whole(text: str) -> int:
    if len(text) > 20 or not -LARGEST <= int(text) < LARGEST:
        shown = text if len(text) <= 24 else f"{text[:21]}..."
        raise UserError(f"{shown} is an integer of {len(text.lstrip('+-'))} digits; the largest has 19")
    return int(text)


def from_python(value: Any, place: Place, depth: int = 0) -> Node:
    """A recipe given as a dict, all at one place. Raises UserError if it is nested too deeply."""
    if depth > bounds.DEPTH:
        raise UserError(f"{place}: blocks nested more than {bounds.DEPTH} deep")
    if isinstance(value, Mapping):
        return Node({key: from_python(item, place, depth + 1) for key, item in value.items()}, place)
    if isinstance(value, (list, tuple)):
        return Node([from_python(item, place, depth + 1) for item in value], place)
    value = _scalar_of(value)
    if isinstance(value, int) and not -LARGEST <= value < LARGEST:
        raise UserError(f"{place}: an integer of more than 19 digits")
    return Node(value, place)


# ---- checking --------------------------------------------------------------------------------------------------------


def check(model: type[M], node: Node, path: tuple) -> tuple[M | None, list[str]]:
    """Check `node` against `model`: the instance, or None and a line per mistake."""
    value = node.plain()
    try:
        text = json.dumps(value)
    except TypeError:  # arrays, in a recipe given as a dict
        text = None
    try:
        if text is None:
            return model.model_validate(value), []
        # JSON mode: strict about scalars, but a list may fill a tuple and a string a Path, as YAML has neither
        return model.model_validate_json(text, strict=True), []
    except ValidationError as error:
        return None, lines_of(error, model, node, path)


def lines_of(error: ValidationError, model: Any, root: Node, path: tuple) -> list[str]:
    """One line per invalid value: the errors of a union's branches are merged."""
    at: dict[tuple, tuple[Node, list]] = {}
    every = error.errors(include_url=False)
    for detail in every[:TOLD]:
        node, real = root, list[Any]()
        for key in detail["loc"]:  # other keys are pydantic's names for branches
            if (child := node.child(key)) is None:
                break
            node, real = child, [*real, key]
        if detail["type"] == "missing":
            real.append(detail["loc"][-1])
        at.setdefault(tuple(real), (node, []))[1].append(detail)
    # a mistyped key explains why another is missing, so it comes first
    at = dict(sorted(at.items(), key=lambda item: item[1][1][0]["type"] == "missing"))
    told = [_line(node, (*path, *real), details, _keys_at(model, real[:-1])) for real, (node, details) in at.items()]
    return told + [""] * len(every[TOLD:])


def _line(node: Node, path: tuple, details: list, allowed: list[str]) -> str:
    first = details[0]
    if first["type"] == "extra_forbidden":
        return unknown_key(node, path, allowed)
    dotted = ".".join(map(str, path))
    where = f"{node.place}: {dotted}: " if dotted else f"{node.place}: "
    if first["type"] == "json_invalid":  # half a character, from Python
        return f"{where}{first['ctx']['error']}"
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
    """Raises UserError with the first mistake, if any, and the number of others."""
    if problems:
        more = {1: "", 2: " (and 1 more mistake)"}.get(len(problems), f" (and {len(problems) - 1} more mistakes)")
        raise UserError(problems[0] + more)


def unknown_key(node: Node, path: tuple, allowed: Sequence[str]) -> str:
    """The error for an unknown key, with the likely intended one and all allowed ones."""
    listed = f"allowed: {', '.join(allowed)}" if allowed else "no keys are allowed here"
    return f"{node.place}: {'.'.join(map(str, path))}: unknown key; {suggestion(path[-1], allowed)}{listed}"


def _keys_at(model: Any, path: tuple) -> list[str]:
    """Field names of the model at `path` inside `model`."""
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
    """Convert to what YAML can contain: tuples to lists, paths to text, arrays to descriptions."""
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
    """A value as its author wrote it, cut to one line."""
    text = repr(value) if isinstance(value, str) else json.dumps(value, default=repr)
    return text if len(text) <= 80 else text[:77] + "..."


def _label(path: Path) -> str:
    """The file's path as typed from the working folder."""
    path, here = Path(os.path.realpath(path)), Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
