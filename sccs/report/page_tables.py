"""The text and numbers of the report page: headline cards, tables of scores, graphs and times, number formats."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sccs.report.figures import RunView
from sccs.report.views import SliceView
from sccs.system.log import clock

STAGES = {"features": "features", "graph": "superpixel graph", "embed": "embedding", "cluster": "clustering"}


def number(value: float | None, digits: int = 3) -> str:
    """The value with `digits` decimals; a dash for None."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def percent(value: float | None) -> str:
    """A share in 0..1 as text; a dash for None."""
    if value is None:
        return "–"
    return f"{100 * value:.1f} %" if value == 0 or value >= 0.0005 else "< 0.1 %"


def duration(seconds: float) -> str:
    """Seconds as text, in ms, s or min."""
    return f"{1000 * seconds:.1f} ms" if seconds < 0.1 else f"{seconds:.2f} s" if seconds < 10 else clock(seconds)


def cards(seen: RunView) -> list[dict[str, str]]:
    """The row of headline numbers: scores of the drawn mapping, if any, and clusters."""
    made = []
    metrics = seen.metrics
    test = metrics.get("test", {})
    rule = seen.rule if seen.rule in test else metrics.get("headline")
    if scored := test.get(rule):
        without = scored["mean_without_rest"]["dsc"]
        note = f"mapping {rule}" + (", an upper bound" if rule == "oracle" else "")
        if metrics.get("rest"):
            note += f"; {number(without)} without {metrics['rest']}"
        made.append({"name": "mean DSC, test", "value": number(scored["mean"]["dsc"]), "note": note})
    used = metrics.get("clusters_used", {})
    tested = sum(metrics.get("cluster_share", {}).get("test", [1])) > 0
    made.append(
        {
            "name": "clusters in use",
            "value": f"{used.get('test' if tested else 'train', '–')} of {seen.k}",
            "note": f"on the test volumes; {used.get('train', '–')} in training" if tested else "in training",
        }
    )
    named = sum(label != f"cluster {cluster}" for cluster, label in enumerate(seen.cluster_labels))
    if named:
        classes = [name for cluster, name in enumerate(seen.cluster_labels) if name != f"cluster {cluster}"]
        made.append(
            {"name": "clusters named", "value": f"{named} of {seen.k}", "note": ", ".join(dict.fromkeys(classes))}
        )
    return made


def facts(
    seen: RunView, timing: Mapping, environment: Mapping, logged: Mapping, resolved: Mapping
) -> list[dict[str, str]]:
    """Numbers on how the run was made, as far as they apply."""
    made = []
    agreement = seen.metrics.get("agreement")
    if agreement is not None:
        note = "share of the training nodes for which the head agrees with its teacher"
        made.append({"name": "agreement", "value": percent(agreement), "note": note})
    if "total" in timing:
        where = environment.get("gpu") or environment.get("device") or "unknown device"
        note = f"of {timing.get('pixels_per_fov', 0) / 1e6:.2f} megapixels, on {where}"
        made.append({"name": "time per FOV", "value": duration(timing["total"]), "note": note})
    if steps := max((int(steps[-1]) for tag, (steps, _) in logged.items() if tag == "loss/total"), default=0):
        note = f"of {resolved.get('train', {}).get('iterations', steps)} in the recipe"
        made.append({"name": "iterations", "value": f"{steps:,}".replace(",", " "), "note": note})
    if "training_seconds" in timing:
        made.append({"name": "training time", "value": clock(timing["training_seconds"]), "note": "graphs included"})
    return made


def volume_names(views: list[SliceView], most: int = 6) -> dict[str, str]:
    """Names of the volumes, as text, for "train" and "test"."""
    made = {}
    for part in ("train", "test"):
        names = list(dict.fromkeys(view.volume for view in views if view.split == part))
        if names:
            made[part] = ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
    return made


def score_tables(seen: RunView) -> dict[str, Any] | None:
    """Tables of scores; None if nothing was scored."""
    metrics = seen.metrics
    if not metrics.get("test") and not metrics.get("train"):
        return None
    part = "test" if metrics.get("test") else "train"
    scored, headline = metrics[part], metrics.get("headline")
    rules = sorted(scored, key=lambda rule: (rule != headline, rule == "oracle"))
    per_slice = metrics.get("per_slice", {})
    consistency = metrics.get("consistency") or {}
    return {
        "part": part,
        "headline": rules[0],
        "rules": rules,
        "scored": scored,
        "per_slice": per_slice,
        "train": metrics.get("train") or {},
        "classes": list(metrics["classes"]),
        "rest": metrics.get("rest"),
        "consistency": consistency if consistency.get("one_mapping") is not None else None,
        "along_z": metrics.get("z_consistency", {}).get(part),
        "mapping": metrics.get("mapping", {}),
        "measures": ("dsc", "iou", "sensitivity", "accuracy"),
    }


def graph_table(graphs: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Diagnostics of the training graphs: mean and range of each quantity, and one row per graph."""
    if not graphs:
        return None
    rows = [
        {**graph, "log density": math.log10(graph["density"]) if graph.get("density") else None} for graph in graphs
    ]
    columns = ("nodes", "edges", "log density", "isolated", "components")
    summary = {}
    for column in columns:
        values = [row[column] for row in rows if row.get(column) is not None]
        if values:
            summary[column] = {"mean": float(np.mean(values)), "low": min(values), "high": max(values)}
    return {"rows": rows, "columns": [column for column in columns if column in summary], "summary": summary}


def timing_rows(timing: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Seconds per FOV by stage, with each share of the total."""
    total = timing.get("total") or sum(timing.get(stage, 0.0) for stage in STAGES)
    rows = [
        {"name": title, "text": duration(timing[stage]), "share": timing[stage] / total if total else 0.0}
        for stage, title in STAGES.items()
        if stage in timing
    ]
    return [*rows, {"name": "total per FOV", "text": duration(total), "share": 1.0}] if rows else []
