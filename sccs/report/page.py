"""report.html: a page that shows a run, built from the run folder alone, so that it can be rebuilt at any time.

Small pictures are embedded; charts are inline SVG in the page's colours. Enlarged pictures are files next to the page,
which also works without them.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sccs.evaluation.evaluate import UNSCORED
from sccs.evaluation.files import read_environment, read_graphs, read_timing
from sccs.recipe.stored import read_resolved
from sccs.report.charts import read_metrics
from sccs.report.drawing import template
from sccs.report.figures import RunView, draw_all, read_run
from sccs.report.overlays import error_colours
from sccs.report.page_pictures import Album, charts, cluster_cards, shown_views, slice_pictures, to_merge
from sccs.report.page_tables import cards, facts, graph_table, number, percent, score_tables, timing_rows, volume_names
from sccs.report.views import SliceView
from sccs.system import bounds
from sccs.system.files import write_text
from sccs.system.text import BREAKS, printable

SHOWN_GRAPHS = 12
QUESTIONS = "suggestions.html"  # of `sccs suggest RUN --page`
RULES = {
    "train": "many-to-one map with the best mean DSC on the labelled training volumes",
    "hungarian": "one-to-one map by Dice on the training volumes; left-over clusters become the rest class",
    "greedy": "rule of the authors' later code, on the training volumes",
    "majority": "most frequent class of a cluster's pixels in the training volumes",
    "oracle": "fitted to the test labels themselves: an upper bound, not a result",
    "named": "your names (sccs name)",
    "taught": "your labels (sccs teach)",
}


@dataclass
class RunFiles:
    """All that the report is made from. resolved: of resolved.yaml; written: recipe.yaml; log: log.txt."""

    seen: RunView
    resolved: dict[str, Any]
    resolved_text: str
    written: str
    timing: dict[str, Any]
    environment: dict[str, Any]
    logged: dict[str, tuple[np.ndarray, np.ndarray]]
    graphs: list[dict[str, Any]]
    log: str


def read_everything(run: Path, taught: bool = True) -> RunFiles:
    """The files of a run folder; with `taught`, its teacher. Raises UserError if it is not a run, and for the first
    damaged file."""
    seen = read_run(run, taught)
    resolved, text = read_resolved(run) if (run / "resolved.yaml").exists() else ({}, "")
    return RunFiles(
        seen,
        resolved,
        text,
        _text(run / "recipe.yaml"),
        read_timing(run),
        read_environment(run),
        read_metrics(run / "metrics.jsonl"),
        read_graphs(run) or seen.metrics.get("graphs") or [],
        _text(run / "log.txt"),
    )


def refresh(run: Path) -> Path:
    """Redraw figures and report from the run folder, after training and after naming clusters."""
    draw_all(run)
    return write_report(run)


def write_report(run: Path) -> Path:
    """Write `run`/report.html and return its path. Raises UserError if the folder is not a run."""
    run = Path(run)
    files = read_everything(run)
    seen, timing, environment, logged = files.seen, files.timing, files.environment, files.logged
    resolved = files.resolved
    shown = shown_views(seen.views)
    page, album, warnings = template("report.html.j2"), Album(run), _warnings(files.log)
    gallery = cluster_cards(seen, shown, album)
    html = page.render(
        title=_title(resolved, seen.views),
        about=resolved.get("description") or "SCCS",
        data=_data_name(resolved),
        volumes=volume_names(seen.views),
        synthetic=_data_name(resolved) == "phantom",
        seed=resolved.get("seed"),
        cards=cards(seen),
        facts=facts(seen, timing, environment, logged, resolved),
        warnings=warnings,
        notes=[note for note in dict.fromkeys(seen.metrics.get("notes", [])) if note not in (UNSCORED, *warnings)],
        slices=[slice_pictures(view, seen, album) for view in shown],
        slice_count={part: sum(view.split == part for view in seen.views) for part in ("test", "train")},
        rule=seen.rule,
        rules=RULES,
        colours=seen.colours,
        error_colours=error_colours(seen.colours),
        clusters=gallery,
        to_merge=to_merge(gallery),
        run=shlex.quote(_shown_path(run)),
        suggested=QUESTIONS if (run / QUESTIONS).exists() else None,
        scores=score_tables(seen),
        charts=charts(seen, logged),
        graphs=graph_table(files.graphs),
        shown_graphs=SHOWN_GRAPHS,
        timing=timing_rows(timing),
        environment=_environment_rows(environment),
        recipe=files.resolved_text,
        written=files.written,
        number=number,
        percent=percent,
    )
    write_text(run / "report.html", printable(html, BREAKS))
    album.close()
    return run / "report.html"


def _text(path: Path) -> str:
    return bounds.read_text(path, bounds.LOG, errors="replace") if path.exists() else ""


def _data_name(resolved: Mapping[str, Any]) -> str:
    data = resolved.get("data") or {}
    return str(data.get("name", "volumes") if isinstance(data, Mapping) else data)


def _title(resolved: Mapping[str, Any], views: list[SliceView], most: int = 3) -> str:
    """What was segmented: the name of the data set, or of the user's own volumes."""
    name = _data_name(resolved)
    names = list(dict.fromkeys(view.volume for view in sorted(views, key=lambda view: view.split != "train")))
    if name != "volumes" or not names:
        return name
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _shown_path(run: Path) -> str:
    """The run's path as typed from the working folder; the page should not reveal the home folder."""
    try:
        return str(Path(os.path.realpath(run)).relative_to(Path.cwd()))
    except ValueError:
        return str(run)


def _warnings(log: str, most: int = 20) -> list[str]:
    """Messages of level WARNING in log.txt, each once."""
    cut = (line.partition(" WARNING ") for line in log.splitlines())
    found = list(dict.fromkeys(message.strip() for _, level, message in cut if level))
    return found[:most] + ([f"and {len(found) - most} more in log.txt"] if len(found) > most else [])


def _environment_rows(environment: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = []
    for key, value in environment.items():
        if isinstance(value, Mapping):
            value = ", ".join(f"{name} {version}" for name, version in value.items())
        if value not in (None, ""):
            rows.append((str(key), str(value)))
    return rows
