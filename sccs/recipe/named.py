"""classes.yaml of a run or an export: the user's names and edits of its clusters, in one file.

It gives each named cluster its class and colour; clusters without an entry are called "cluster 4"::

    clusters:
      3: {name: nucleus, colour: '#f5c518'}
      5: {name: mitochondria, colour: '#27a35a'}
    history: 4                        # the step that wrote this file (sccs.recipe.history)
    edits: history/0002/edits         # clusters that were split and merged (sccs.model.edits), if any were
    teacher: history/0004/teacher     # what was taught (sccs.model.teacher), if anything was

Names and colours may be edited by hand. A step takes effect when this file is written: readers see the state before
or after it, never anything in between.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import Field

from registry.base import UserError
from sccs.data.schema import LONGEST_CLASS
from sccs.recipe.located import check, raise_first
from sccs.recipe.stored import Stored, to_yaml, yaml_of_ours
from sccs.system import bounds
from sccs.system.archive import read_text
from sccs.system.colours import class_colours
from sccs.system.text import UNPRINTABLE

FILE = "classes.yaml"
HEADING = "# Names and colours of clusters; written by `sccs name`, free to edit.\n"
Part = Annotated[str, Field(pattern=r"^(history/\d{4,8}/)?(edits|teacher)$")]


class Entry(Stored):
    """A cluster in classes.yaml."""

    name: str | int | float
    colour: str | None = None


class Named(Stored):
    """classes.yaml."""

    clusters: dict[Annotated[int, Field(ge=0, le=254)], Entry] | None = None
    history: Annotated[int, Field(ge=1, lt=10**8)] | None = None
    edits: Part | None = None
    teacher: Part | None = None


@dataclass(frozen=True)
class State:
    """The content of classes.yaml: {cluster: {"name": ..., "colour": "#rrggbb"}}, the step, and the parts' paths in
    the folder, without suffix."""

    clusters: dict[int, dict] = field(default_factory=dict)
    history: int | None = None
    edits: str | None = None
    teacher: str | None = None

    def text(self) -> str:
        """The text of the file."""
        parts = {key: getattr(self, key) for key in ("history", "edits", "teacher")}
        return HEADING + to_yaml({"clusters": self.clusters, **{k: v for k, v in parts.items() if v is not None}})


def read_state(run: Path) -> State:
    """The content of classes.yaml; an empty state without the file.

    Raises UserError, with the file's path, if a manual edit made it invalid.
    """
    return parse_state(read_text(run, FILE), Path(run) / FILE)


def parse_state(text: str | None, path: Path) -> State:
    """The same from the text of classes.yaml, None if absent; path: its name in errors."""
    if text is None:
        return State()
    content = _content(text, path)
    names, colours = _given(content, path)
    table = class_colours(list(dict.fromkeys(names.values())), {names[c]: colour for c, colour in colours.items()})
    entries = {c: {"name": names[c], "colour": table[names[c]]} for c in sorted(names)}
    return State(entries, content.history, content.edits, content.teacher)


def read_given(path: Path) -> tuple[dict[int, str], dict[int, str]]:
    """Names and colours of clusters from a file in the form of classes.yaml. Raises UserError."""
    return _given(_content(bounds.read_text(path, bounds.JSON), path), path)


def _content(text: str, path: Path) -> Named:
    try:
        root = yaml_of_ours(text, path)
        content, problems = check(Named, root, ()) if root.value is not None else (Named(), [])
        raise_first(problems)
    except UserError as error:
        form = "`3: {name: nucleus, colour: '#f5c518'}` under `clusters:`"
        raise UserError(f"{error}; write lines such as {form}") from None
    assert content is not None  # no mistakes
    return content


def _given(content: Named, path: Path) -> tuple[dict[int, str], dict[int, str]]:
    clusters = content.clusters or {}
    names = {c: checked_name(str(entry.name), f"{path}: clusters.{c}.name") for c, entry in clusters.items()}
    colours = {
        c: parse_colour(str(entry.colour), f"{path}: {names[c]}") for c, entry in clusters.items() if entry.colour
    }
    return names, colours


def read_names(run: Path) -> dict[int, dict]:
    """The `classes.yaml` of a run or export, {cluster: {"name": ..., "colour": "#rrggbb"}}; {} without the file.

    Raises UserError, with the file's path, if a manual edit made it invalid.
    """
    return read_state(run).clusters


def cluster_names(entries: Mapping[int, Mapping[str, str]], k: int) -> list[str]:
    """The name of every cluster 0..k-1 (`entries` from `read_names`); "cluster 4" if unnamed."""
    return [entries[c]["name"] if c in entries else unnamed(c) for c in range(k)]


def unnamed(cluster: int) -> str:
    """The label of an unnamed cluster."""
    return f"cluster {cluster}"


def checked_name(text: str, where: str) -> str:
    """The name, stripped. Raises UserError, with its place `where`, if no figure could show it."""
    name = text.strip()
    if any("\ud800" <= letter <= "\udfff" for letter in name):  # bytes that Python could not read as text
        raise UserError(f"{where}: not valid in this terminal's encoding: set LC_ALL=C.UTF-8 and start again")
    if len(name) > LONGEST_CLASS or UNPRINTABLE.search(name):
        raise UserError(f"{where}: a name must have at most {LONGEST_CLASS} characters, all printable")
    return name


def parse_colour(text: str, where: str) -> str:
    """'#0F0' or '00FF00' -> '#00ff00'. Raises UserError otherwise, with its place `where`."""
    digits = text.strip().lower().removeprefix("#")
    if not re.fullmatch(r"[0-9a-f]{3}|[0-9a-f]{6}", digits):
        raise UserError(f"{where!r}: {text.strip()!r} is not a colour: write six hex digits, such as #00ff00")
    return "#" + ("".join(2 * digit for digit in digits) if len(digits) == 3 else digits)
