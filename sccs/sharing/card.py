"""The model card of an export: the model, its training data, scores, and intended use."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

import registry
from sccs.evaluation.naming import cluster_names
from sccs.system import archive

ENCODER = "encoder.onnx"
SCORES = ("dsc", "iou", "sensitivity", "accuracy")


def card(
    about: Mapping[str, Any],
    facts: Mapping[str, Any],
    names: Mapping[int, Mapping[str, str]],
    metrics: Mapping[str, Any] | None,
    environment: Mapping[str, Any] | None,
    said: Mapping[str, str],
) -> str:
    """The model card, as Markdown with the header that model hubs read.

    about: content of model.json. facts: the export's additions to it. names: named clusters. metrics, environment:
    files of the run, if any. said: remarks on files of the export.
    """
    recipe = about["recipe"]
    kind = "supervised" if facts["supervised"] else "unsupervised"
    header = {
        **({"license": facts["licence"].lower()} if facts["licence"] else {}),
        "library_name": "sccs",
        "tags": ["electron-microscopy", "image-segmentation", kind],
    }
    versions = {"sccs": facts["sccs"], **(environment or {}).get("packages", {})}
    clusters = {c: name if c in names else "-" for c, name in enumerate(cluster_names(names, about["k"]))}
    page = Environment(
        loader=PackageLoader("sccs.sharing", ""), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return page.get_template("card.md.j2").render(
        header=yaml.safe_dump(header, sort_keys=False),
        title=recipe.get("description") or f"SCCS model with {about['k']} clusters",
        facts=_table("fact", "value", {**_facts(about, facts), **{name: text for name, text in said.items() if text}}),
        carried=[name for name in recipe["plugins"] if name.endswith(".py")],
        needed=[name for name in recipe["plugins"] if not name.endswith(".py")],
        trust=archive.TRUST,
        clusters=_table("cluster", "name", clusters),
        scores="\n".join(_scores(metrics, data_name(about))),
        versions=", ".join(f"{name} {version}" for name, version in versions.items()),
        licence=facts["licence"],
        authors=facts["authors"],
        bundled='"bundled"' in json.dumps(recipe["features"]),
    )


def _facts(about: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, str]:
    """The rows of the first table."""
    voxel, trained = about.get("voxel_size"), facts["trained_on"]
    size = "unknown"
    if voxel is not None:
        nm = " x ".join(f"{each:g}" for each in voxel)
        size = f"{nm} nm (z, y, x) in training; images to segment should have a similar one in y and x"
    counts = ", ".join(f"{name} ({count} fields of view)" for name, count in trained.items())
    labels = "not used in training"
    if facts["supervised"]:
        labels = f"**used in training**, by {' and '.join(facts['supervised'])}"
    kind = "supervised" if facts["supervised"] else "unsupervised"
    return {
        "task": f"{kind} semantic segmentation of volume EM, 2-D slice by slice, {about['k']} clusters",
        "input": "grey images (Z, Y, X), standardised per volume; slices are cut into fields of view of at most "
        f"{about['fov']} px",
        "pixel size": size,
        "trained on": f"{data_name(about)}: {counts}" if trained else data_name(about),
        **{role: f"`{about['recipe'][role]['name']}`" for role in registry.ROLES},
        "labels": labels,
    }


def data_name(about: Mapping[str, Any]) -> str:
    """The training data in words, which say so if it is synthetic."""
    return {"phantom": "phantom (synthetic images)"}.get(about.get("data", ""), str(about.get("data", "")))


def _table(left: str, right: str, rows: Mapping) -> str:
    lines = [f"| {left} | {right} |", "|---|---|", *(f"| {key} | {_cell(value)} |" for key, value in rows.items())]
    return "\n".join(lines)


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|")


def _scores(metrics: Mapping[str, Any] | None, data: str) -> list[str]:
    """The headline mapping's scores on test volumes, class by class."""
    scores = metrics and metrics.get("test", {}).get(metrics.get("headline"))
    if not metrics or not scores:
        return ["None: the run had no labelled test volumes."]
    rows = {**scores["classes"], "**mean**": scores["mean"]}
    bound = ", fitted to the test labels: an upper bound, not a result" if metrics["headline"] == "oracle" else ""
    lines = [
        f"Test volumes of {data}; clusters became classes by the mapping `{metrics['headline']}`{bound}.",
        "",
        f"| class | {' | '.join(SCORES)} |",
        f"|---|{'---|' * len(SCORES)}",
    ]
    for name, row in rows.items():
        cells = ("-" if row.get(score) is None else f"{row[score]:.3f}" for score in SCORES)
        lines.append(f"| {_cell(name)} | {' | '.join(cells)} |")
    return lines
