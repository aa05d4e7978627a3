"""The user's names and colours for the clusters of a run, stored in its `classes.yaml` (``sccs name RUN 3=nucleus``).

The file gives each named cluster its class and colour; clusters without an entry are called "cluster 4"::

    clusters:
      3: {name: nucleus, colour: '#f5c518'}
      5: {name: mitochondria, colour: '#27a35a'}

Several clusters may share a name: together they are that class, in one colour. `sccs segment` and the report use the
names, and the evaluation scores them as the mapping `named`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from registry.base import UserError
from sccs.evaluation.class_files import cluster_files, write_class_files
from sccs.evaluation.evaluate import evaluate, evaluate_taught
from sccs.evaluation.files import AGAIN, Tables, TaughtTables, read_file, read_metrics
from sccs.evaluation.mappings import MAPPINGS
from sccs.recipe import history
from sccs.recipe.named import (
    FILE,
    checked_name,
    cluster_names,
    parse_colour,
    read_given,
    read_names,
    read_state,
    unnamed,
)
from sccs.recipe.stored import read_json
from sccs.system.archive import read_text
from sccs.system.colours import class_colours
from sccs.system.files import check_place, write_json, write_text
from sccs.system.log import say

__all__ = ["FILE", "cluster_names", "read_names"]  # re-exported from sccs.recipe.named

TABLES = "tables.json"
TAUGHT = "tables_taught.json"  # the same for the teacher, if labels exist


def main(run: str | Path, assignments: Sequence[str], gone: Collection[int] = ()) -> int:
    """``sccs name RUN 3=nucleus 5=mitochondria:#00ff00``: name clusters, and print the names of all clusters.

    ``sccs name RUN classes.yaml`` takes the names from a file saved from the report. Without assignments it only
    prints. gone: clusters merged into others, which are neither named nor printed.

    Returns 0; raises UserError like `parse_assignments` and `name_clusters`.
    """
    k = int(read_metrics(Path(run))["k"])
    if len(assignments) == 1 and Path(assignments[0]).suffix in (".yaml", ".yml") and "=" not in assignments[0]:
        names, colours = read_given(Path(assignments[0]))
        if not names:
            raise UserError(f"{assignments[0]}: names no cluster; type names into the report, and save it again")
    else:
        names, colours = parse_assignments(assignments, k)
    for cluster in names:
        if cluster in gone:
            raise UserError(f"{cluster}={names[cluster]}: cluster {cluster} was merged into another: name that one")
    entries = name_clusters(Path(run), names, colours) if names else read_names(Path(run))
    say(
        "\n".join(
            f"{cluster:3d}  {entries[cluster]['colour'] if cluster in entries else '       '}  {name}"
            for cluster, name in enumerate(cluster_names(entries, k))
            if cluster not in gone
        )
    )
    return 0


def parse_assignments(items: Iterable[str], k: int | None = None) -> tuple[dict[int, str], dict[int, str]]:
    """["3=nucleus", "5=mitochondria:#00ff00"] -> ({3: "nucleus", 5: "mitochondria"}, {5: "#00ff00"}).

    "3=" gives the name "", which clears the cluster's. `k` is the number of clusters, if known. Raises UserError for
    anything but CLUSTER=NAME[:#rrggbb], a missing or repeated cluster, an invalid colour, or a colour without a name.
    """
    names: dict[int, str] = {}
    colours: dict[int, str] = {}
    for item in items:
        number, equals, rest = item.partition("=")
        name, colon, colour = rest.partition(":")
        name = name.strip()
        if not equals:
            raise UserError(f"{item!r} gives no name: write CLUSTER=NAME, such as 3=nucleus")
        if not re.fullmatch(r"\s*\d+\s*", number):
            raise UserError(
                f"{item!r}: {number.strip()!r} is not a cluster number: write CLUSTER=NAME, such as 3=nucleus"
            )
        digits = number.strip().lstrip("0")
        cluster = int(digits or 0) if len(digits) < 10 else 10**10  # beyond any run
        if cluster in names:
            raise UserError(f"{item!r}: cluster {cluster} was already given the name {names[cluster]!r}; name it once")
        _check_cluster(cluster, k, item)
        if not name and colon:
            raise UserError(f"{item!r}: the name is empty: write {cluster}=NAME, such as {cluster}=nucleus")
        names[cluster] = checked_name(name, repr(item))
        if colon:
            colours[cluster] = parse_colour(colour, item)
    return names, colours


def name_clusters(run: Path, names: Mapping[int, str], colours: Mapping[int, str] | None = None) -> dict[int, dict]:
    """Add `names` (and `colours`) of clusters to the run's `classes.yaml`, and rescore the mapping `named`.

    Earlier names of other clusters stay; the name "" clears a cluster's. A colour applies to every cluster of that
    name; a name without a chosen colour takes one from the project's table. This is one step of the run's history, and
    updates <volume>_classes.tif. Returns the same as `read_names`. Raises UserError if the run is not finished or lacks
    the cluster, or if a name was given two colours.
    """
    run = Path(run)
    k = int(read_metrics(run)["k"])
    colours = dict(colours or {})
    for cluster in [*names, *colours]:
        _check_cluster(cluster, k, f"{cluster}={names.get(cluster, '')}")
    state = read_state(run)
    merged = {c: entry["name"] for c, entry in state.clusters.items()} | {int(c): name for c, name in names.items()}
    merged = {c: name for c, name in merged.items() if name}
    chosen: dict[str, str] = {}
    for cluster, colour in colours.items():
        name = merged[cluster] if cluster in merged else unnamed(cluster)
        colour = parse_colour(colour, f"{cluster}={name}:{colour}")
        if chosen.setdefault(name, colour) != colour:
            raise UserError(f"{name!r} was given two colours, {chosen[name]} and {colour}; one class has one colour")
    for entry in state.clusters.values():
        chosen.setdefault(entry["name"], entry["colour"])
    table = class_colours(list(dict.fromkeys(merged[c] for c in sorted(merged))), chosen)
    entries = {c: {"name": merged[c], "colour": table[merged[c]]} for c in sorted(merged)}
    if (run / TABLES).exists():
        check_scored(run)
    said = [f"{c}={name}" + (f":{colours[c]}" if c in colours else "") for c, name in names.items()]
    history.take(run, f"name {' '.join(said)}", replace(state, clusters=entries))
    if (run / TABLES).exists():
        with history.taken(run):
            metrics = rescore(run)
            if state.teacher is None:  # otherwise see `sccs.products.write_taught`
                write_class_files(run, metrics)
    return entries


def named_mapping(entries: Mapping[int, Mapping[str, str]], class_names: Sequence[str], k: int) -> np.ndarray:
    """The mapping `named`, (k,) int64 positions in `class_names`: -1 for unnamed clusters and other names.

    Names match regardless of case.
    """
    position = {name.strip().lower(): c for c, name in reversed(list(enumerate(class_names)))}
    return np.array([position.get(name.strip().lower(), -1) for name in cluster_names(entries, k)], np.int64)


def write_metrics(
    run: Path,
    train: Mapping[str, np.ndarray],
    test: Mapping[str, np.ndarray],
    class_names: Sequence[str],
    *,
    k: int,
    rest: str | None = None,
    mappings: Sequence[str] = MAPPINGS,
    headline: str = "train",
    train_pixels: np.ndarray | None = None,
    test_pixels: np.ndarray | None = None,
    supervised: Sequence[str] = (),
    neighbours: Mapping[str, Mapping] | None = None,
    agreement: float | None = None,
) -> dict[str, Any]:
    """Evaluate a run (arguments as `sccs.evaluation.evaluate.evaluate`), write its `metrics.json`, and return it.

    The tables are stored in `tables.json`, so that later names are scored without the images.
    """

    def plain(tables: Mapping[str, np.ndarray]) -> dict[str, list]:
        return {key: np.asarray(table).tolist() for key, table in tables.items()}

    def counts(pixels: np.ndarray | None) -> list[int] | None:
        return None if pixels is None else np.asarray(pixels).tolist()

    stored = {
        "train": plain(train), "test": plain(test), "class_names": list(class_names), "k": k, "rest": rest,
        "mappings": list(mappings), "headline": headline,
        "train_pixels": counts(train_pixels), "test_pixels": counts(test_pixels), "supervised": list(supervised),
        "neighbours": dict(neighbours or {}), "agreement": agreement,
    }  # fmt: skip
    write_text(Path(run) / TABLES, json.dumps(stored) + "\n")
    return rescore(run)


def check_scored(run: Path) -> None:
    """Raises UserError, naming the file, unless the run can be scored again and its classes written anew."""
    _tables(run)
    read_file(run, TAUGHT, TaughtTables)
    cluster_files(run)
    for name in ("metrics.json", TABLES, TAUGHT):
        check_place(run / name, folder=False)


def _tables(run: Path) -> dict[str, Any]:
    return read_json(run / TABLES, Tables, AGAIN).model_dump(exclude_unset=True)


def rescore(run: Path) -> dict[str, Any]:
    """Evaluate the run's tables again with its current names, rewrite `metrics.json`, and return it."""
    run = Path(run)
    stored = _tables(run)
    class_names, k = stored["class_names"], stored["k"]
    for part in ("train", "test"):
        tables = {key: np.array(table, np.int64) for key, table in stored[part].items()}
        stored[part] = {key: table.reshape(k, len(class_names)) for key, table in tables.items()}
    entries = read_names(run)
    named = named_mapping(entries, class_names, k) if entries else None
    metrics = evaluate(**stored, named=named)
    other = [] if named is None else sorted({e["name"] for c, e in entries.items() if c < k and named[c] < 0})
    if other and class_names:
        metrics["notes"].append(f"named, but not a labelled class: {', '.join(other)}; scored as {metrics['rest']}")
    taught = read_file(run, TAUGHT, TaughtTables)
    if taught is not None and taught.state == taught_state(run):  # otherwise outdated
        evaluate_taught(metrics, {"train": taught.train, "test": taught.test}, taught.classes)
    write_json(run / "metrics.json", metrics)
    return metrics


def write_taught(run: Path, classes: Sequence[str], tables: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, Any]:
    """Store a taught run's tables in `tables_taught.json`, and score them; returns the metrics.

    classes: the taught ones. tables: {train, test}, by FOV key "volume:z:y:x", the pixels (len(classes), C) of each
    class against the labels.
    """
    plain = {part: {key: np.asarray(table).tolist() for key, table in each.items()} for part, each in tables.items()}
    write_json(run / TAUGHT, {"state": taught_state(run), "classes": list(classes), **plain})
    return rescore(run)


def taught_state(run: Path) -> str:
    """A digest of the user's current edits of the run."""
    return hashlib.sha256((read_text(run, FILE) or "").encode()).hexdigest()[:16]


def _check_cluster(cluster: int, k: int | None, item: str) -> None:
    if k is not None and not 0 <= cluster < k:
        raise UserError(f"{item!r}: there is no cluster {cluster}; the run has 0 to {k - 1}")
