"""``sccs compare RUN...``: finished runs side by side, and mean ± sd over the seeds of one recipe.

Runs are grouped if their resolved recipes differ only in seed and device.
"""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Sequence
from csv import writer as csv_writer
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from registry.base import UserError
from sccs.evaluation.files import read_metrics, read_timing
from sccs.evaluation.scores import mean_sd
from sccs.recipe.stored import read_resolved
from sccs.system.apart import check_apart
from sccs.system.files import check_text_place, write_text
from sccs.system.lock import BRIEFLY, held
from sccs.system.log import say
from sccs.system.text import printable

STAGES = ("features", "graph", "embed", "cluster")
FREE = ("seed", "device", "description")  # keys in which runs of one group may differ
ORDER = ("train", "hungarian", "greedy", "majority", "oracle", "named")
LAST = ("clusters used train", "clusters used test", "s/FOV")
OURS = ("recipe", "data", "seed", "runs", "headline", *(f"DSC {name}" for name in ORDER), "DSC without rest", *LAST)


@dataclass
class Row:
    """One run in the table. `values`: column -> number or None, in the order of `columns`."""

    recipe: str
    data: str
    seed: int
    group: str
    headline: str | None
    values: dict[str, float | None]
    notes: list[str]


def main(runs: Sequence[str], csv: str | None = None) -> int:
    """Print the comparison as Markdown; `csv` names a file for one line per run ("-": print the CSV instead).

    Returns 0. Raises UserError for a run folder that is missing, unfinished or damaged.
    """
    folders = list(dict.fromkeys(Path(os.path.realpath(run)) for run in runs))
    if not folders:
        raise UserError("compare: give at least one run folder, such as runs/sccs/20250131-120000-s0")
    if csv is not None and csv != "-":
        check_text_place(csv)
        check_apart(csv, {"RUN": folders})
    rows = [read_run(folder) for folder in folders]
    names = columns(rows)
    if csv == "-":
        say(_as_csv(rows, names).rstrip("\n"))
        return 0
    if csv is not None:
        with held(csv, "sccs compare", wait=BRIEFLY):
            write_text(csv, _as_csv(rows, names))
    say(_as_markdown(rows, names))
    return 0


def read_run(folder: Path) -> Row:
    """Read `metrics.json`, `resolved.yaml` and, if it exists, `timing.json`. Raises UserError if one is invalid."""
    metrics = read_metrics(folder)
    recipe, _ = read_resolved(folder)
    test = metrics.get("test", {})
    headline = metrics.get("headline") if metrics.get("headline") in test else None  # without labels nothing is scored
    values: dict[str, float | None] = {f"DSC {name}": s["mean"]["dsc"] for name, s in test.items()}
    if headline:
        values["DSC without rest"] = test[headline]["mean_without_rest"]["dsc"]
        classes = test[headline]["classes"].items()
        values |= {f"class {name}" if name in OURS else name: measures["dsc"] for name, measures in classes}
    for part in ("train", "test"):
        seen = sum(metrics.get("cluster_share", {}).get(part, [1])) > 0  # otherwise there was no such volume
        values[f"clusters used {part}"] = metrics["clusters_used"][part] if seen else None
    values["s/FOV"] = _seconds_per_fov(folder)
    data = recipe.get("data")
    return Row(
        recipe=_label(folder),
        data=str(data.get("name", "") if isinstance(data, dict) else data or ""),
        seed=int(recipe.get("seed", 0)),
        group=_canonical({key: v for key, v in recipe.items() if key not in FREE}),
        headline=headline,
        values=values,
        notes=metrics.get("notes", []),
    )


def _canonical(recipe: dict[str, Any]) -> str:
    text = json.dumps(recipe, default=str)  # keys of mixed types become text, which can be sorted
    return json.dumps(json.loads(text), sort_keys=True)


def _label(folder: Path) -> str:
    """``runs/<recipe>/<time>-s<seed>`` -> recipe; other folders (`--out`) keep their own name."""
    return folder.parent.name if re.search(r"\d-s\d+$", folder.name) else folder.name


def _seconds_per_fov(folder: Path) -> float | None:
    """Sum over the stages in `timing.json`; None if the run was not timed."""
    timing = read_timing(folder)
    seconds = [timing[stage] for stage in STAGES if stage in timing]
    return sum(seconds) if seconds else None


def columns(rows: Sequence[Row]) -> list[str]:
    """All columns of all runs: mappings in fixed order, then classes in order of appearance, then use and time."""
    seen = list(dict.fromkeys(name for row in rows for name in row.values))
    first = [f"DSC {name}" for name in ORDER if f"DSC {name}" in seen] + ["DSC without rest"]
    return [n for n in first if n in seen] + [n for n in seen if n not in (*first, *LAST)] + list(LAST)


def groups(rows: Sequence[Row]) -> list[list[Row]]:
    """Runs of one recipe, whatever their seed, in the order given."""
    by_group: dict[str, list[Row]] = {}
    for row in rows:
        by_group.setdefault(row.group, []).append(row)
    return list(by_group.values())


def _as_markdown(rows: Sequence[Row], names: Sequence[str]) -> str:
    """The table of runs, the table of recipes with several runs, and notes."""
    heads = [name + " (upper bound)" if name == "DSC oracle" else name for name in names]
    headlines = sorted({row.headline for row in rows if row.headline})
    body = [[_name(r, headlines), r.data, str(r.seed), *(_number(r.values.get(n), n) for n in names)] for r in rows]
    parts = [_table(["recipe", "data", "seed", *heads], body)]
    repeated = [group for group in groups(rows) if len(group) > 1]
    if repeated:
        parts.append("Mean ± sd over runs of one recipe:")
        summary = []
        for group in repeated:
            head = [_name(group[0], headlines), group[0].data, str(len(group))]
            summary.append(head + [_spread(group, name) for name in names])
        parts.append(_table(["recipe", "data", "runs", *heads], summary))
    said = list(
        dict.fromkeys(printable(f"- {row.recipe}, seed {row.seed}: {note}") for row in rows for note in row.notes)
    )
    if headlines:
        which = headlines[0] if len(headlines) == 1 else "in brackets after the recipe"
        said.insert(0, f"- DSC per class and without rest use the mapping {which}, on the test volumes")
    return "\n\n".join(parts + (["\n".join(said)] if said else []))


def _as_csv(rows: Sequence[Row], names: Sequence[str]) -> str:
    """One line per run, full precision, empty where a run has no such value."""
    out = io.StringIO()
    writer = csv_writer(out, lineterminator="\n")
    writer.writerow(["recipe", "data", "seed", "headline", *names])
    for r in rows:
        cells = [r.values.get(name) for name in names]
        writer.writerow([r.recipe, r.data, r.seed, r.headline or "", *("" if c is None else c for c in cells)])
    return out.getvalue()


def _name(row: Row, headlines: Sequence[str]) -> str:
    """The recipe, with the run's headline mapping if the runs differ in it."""
    return f"{row.recipe} ({row.headline or 'no labels'})" if len(headlines) > 1 else row.recipe


def _number(value: float | None, name: str) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) and name.startswith("clusters") else f"{value:.3f}"


def _spread(group: Sequence[Row], name: str) -> str:
    values = [value for row in group if (value := row.values.get(name)) is not None]
    if not values:
        return "-"
    over = mean_sd(values)
    few = f" (n = {over['n']})" if over["n"] < len(group) else ""
    digits = 1 if name.startswith("clusters") else 3
    sd = f" ± {over['sd']:.{digits}f}" if over["n"] > 1 else ""
    return f"{over['mean']:.{digits}f}{sd}{few}"


def _table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns are also aligned in a terminal."""
    lines = [[printable(cell).replace("|", "\\|") for cell in line] for line in (head, *body)]
    widths = [max(3, *(len(line[c]) for line in lines)) for c in range(len(head))]
    text = [c < 2 for c in range(len(head))]  # left-align recipe and data, right-align numbers
    rule = ["-" * w if left else "-" * (w - 1) + ":" for w, left in zip(widths, text)]
    cells = [[c.ljust(w) if left else c.rjust(w) for c, w, left in zip(line, widths, text)] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in [cells[0], rule, *cells[1:]])
