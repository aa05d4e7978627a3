"""The meaning of a file's labels, clusters or classes: their names and colours."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from registry.base import UserError
from sccs.evaluation.tables import rest_position
from sccs.recipe.named import cluster_names
from sccs.system.colours import class_colours, cluster_colours, rgb

UNNAMED = 255  # pixels without a class; class codes are 0 to 254


@dataclass(frozen=True)
class Legend:
    """The meaning of a file's labels: names, and colours as (r, g, b)."""

    names: dict[int, str]
    colours: dict[int, tuple[int, int, int]]


def cluster_legend(entries: Mapping[int, Mapping[str, str]], k: int, gone: Collection[int] = ()) -> Legend:
    """Legend of files with cluster numbers. entries: from `sccs.evaluation.naming.read_names`. gone: clusters that were
    merged into others."""
    colours = {**dict(enumerate(cluster_colours(k))), **{c: entry["colour"] for c, entry in entries.items()}}
    left = [cluster for cluster in range(k) if cluster not in gone]
    names = cluster_names(entries, k)
    return Legend({c: names[c] for c in left}, {c: rgb(colours[c]) for c in left})


def class_legend(classes: Mapping[int, str], chosen: Mapping[str, str] | None = None) -> Legend:
    """Legend of files with class codes; chosen: name -> "#rrggbb", the user's colours."""
    colours = class_colours(list(classes.values()), chosen)
    return Legend(dict(classes), {code: rgb(colours[name]) for code, name in classes.items()})


def class_codes(
    entries: Mapping[int, Mapping[str, str]],
    k: int,
    classes: Mapping[int, str],
    ignore: int | None = None,
    rest: str | None = None,
) -> tuple[np.ndarray, Legend]:
    """Table (k,) uint8 from clusters to class codes, and the codes' meaning.

    entries: the named ones of the k clusters. classes, ignore: codes and names of the run's data set. rest: its
    `evaluation.rest`.

    A name of the data set (regardless of case) has its code there. Further names take, in alphabetical
    order, the codes after the data set's, from 1 if it has none. Unnamed clusters count as the rest class, as in the
    scores; without a rest class they are 255, "unnamed".
    """
    code_of, numbered = _numbered([entry["name"] for entry in entries.values()], classes, ignore)
    position = rest_position(list(classes.values()), rest)
    default = UNNAMED if position is None else list(classes)[position]
    table = np.full(k, default, np.uint8)
    for cluster, entry in entries.items():
        table[cluster] = code_of[entry["name"].strip().lower()]
    present = {code: numbered.get(code, "unnamed") for code in np.unique(table).tolist()}
    chosen = {numbered[int(table[cluster])]: entry["colour"] for cluster, entry in entries.items()}
    return table, class_legend(present, chosen)


def taught_codes(
    names: Sequence[str],
    colours: Sequence[str | None],
    classes: Mapping[int, str],
    ignore: int | None = None,
    taught: Mapping[int, str] | None = None,
) -> tuple[np.ndarray, Legend]:
    """Codes (C,) uint8 of a taught run's classes, numbered as by `class_codes`, and their meaning.

    names, colours: of the classes (`sccs.model.teacher.Taught`). classes, ignore: of the run's data set. taught: codes
    and names from label images; such a class keeps its code, unless the data set uses it.
    """
    lower = {name.strip().lower() for name in names}
    own = {name.strip().lower() for name in classes.values()}
    further = {
        code: name.strip()
        for code, name in (taught or {}).items()
        if code not in classes and code not in (ignore, UNNAMED) and name.strip().lower() in lower - own
    }
    code_of, numbered = _numbered(names, {**classes, **further}, ignore)
    codes = np.array([code_of[name.strip().lower()] for name in names], np.uint8)
    chosen = {numbered[int(code)]: colour for code, colour in zip(codes, colours) if colour is not None}
    return codes, class_legend({int(code): numbered[int(code)] for code in sorted(codes)}, chosen)


def _numbered(
    names: Sequence[str], classes: Mapping[int, str], ignore: int | None
) -> tuple[dict[str, int], dict[int, str]]:
    """Codes by lower-case name, and names by code: those of the data set, then further ones in order."""
    code_of = {name.strip().lower(): code for code, name in reversed(list(classes.items()))}
    further: dict[str, str] = {}
    for name in sorted(names):
        if (plain := name.strip().lower()) not in code_of:
            further.setdefault(plain, name)
    top = max(classes, default=0)
    free = [code for code in (*range(top + 1, UNNAMED), *range(top)) if code not in classes and code != ignore]
    if len(further) > len(free):
        raise UserError(
            f"--classes: {len(further)} names are not classes of the data, but only {len(free)} codes are free; "
            "give clusters the same name, or leave --classes out"
        )
    return code_of | dict(zip(further, free)), {**classes, **dict(zip(free, further.values()))}
