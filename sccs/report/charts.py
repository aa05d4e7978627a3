"""Curves and bars of a run: losses, cluster use, scores."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from sccs.recipe.stored import Stored, parse_json
from sccs.report.drawing import INK, add_legend, new_figure
from sccs.system import bounds
from sccs.system.colours import cluster_colours

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Logged(Stored):
    """A line of metrics.jsonl: its step, and numbers by tag."""

    __pydantic_extra__: dict[str, Annotated[float, Field(ge=-1e100, le=1e100)] | None]
    step: Annotated[int, Field(ge=0, lt=2**53)] = 0


def read_metrics(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """metrics.jsonl -> tag -> (steps, values), each (n,); null becomes nan. Raises UserError for an invalid line."""
    found: dict[str, list[tuple[int, float]]] = {}
    if Path(path).exists():
        for number, line in enumerate(bounds.read_text(path, bounds.LOG).splitlines(), 1):
            entry = parse_json(line, f"{path}:{number}", Logged, "delete the line")
            for tag, value in entry.__pydantic_extra__.items():
                found.setdefault(tag, []).append((entry.step, np.nan if value is None else float(value)))
    columns = {tag: list(zip(*sorted(pairs))) for tag, pairs in found.items()}
    return {tag: (np.array(steps), np.array(values)) for tag, (steps, values) in columns.items()}


def loss_curves(metrics: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Figure | None:
    """A small plot per loss tag (`read_metrics`): raw values thin, smoothed thick. None without losses."""
    tags = [tag for tag in metrics if "loss" in tag.lower() and len(metrics[tag][0]) > 1]
    tags.sort(key=lambda tag: "total" not in tag)
    if not tags:
        return None
    columns = min(len(tags), 4)
    rows = -(-len(tags) // columns)
    figure, axes = new_figure(2.7 * columns, 1.9 * rows, rows, columns)
    for axis, tag in zip(axes.ravel(), tags):
        steps, values = _thinned(*metrics[tag])
        axis.plot(steps, values, color="#3d7edb", alpha=0.35, linewidth=0.7)
        axis.plot(steps, _smoothed(values), color="#3d7edb", linewidth=1.6)
        low, high = np.nanpercentile(values, [0, 100]) if np.isfinite(values).any() else (0, 0)
        if low > 0 and high / low > 30:
            axis.set_yscale("log")
        axis.set_title(tag.removeprefix("loss/"), fontsize=9, color=INK)
        _plain(axis)
        axis.set_xlabel("iteration", fontsize=8, color=INK)
    for axis in axes.ravel()[len(tags) :]:
        axis.set_axis_off()
    return figure


def share_curves(metrics: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Figure | None:
    """Each cluster's share of the nodes over training (tags clusters/share_<i>), in the clusters' colours."""
    tags = [tag for tag in metrics if re.fullmatch(r"clusters/share_\d{1,3}", tag) and len(metrics[tag][0]) > 1]
    tags.sort(key=lambda tag: int(tag.split("_")[-1]))
    if not tags:
        return None
    figure, axes = new_figure(7.2, 2.2)
    axis = axes[0, 0]
    for colour, tag in zip(cluster_colours(len(tags)), tags):
        steps, values = _thinned(*metrics[tag])
        axis.plot(steps, 100 * values, color=colour, linewidth=1.5, label=tag.split("_")[-1])
    axis.set_xlabel("iteration", fontsize=8, color=INK)
    axis.set_ylabel("nodes, %", fontsize=8, color=INK)
    axis.set_ylim(bottom=0)
    _plain(axis)
    figure.legend(
        loc="outside right center",
        frameon=False,
        fontsize=8,
        labelcolor=INK,
        title="cluster",
        title_fontproperties={"size": 8},
        ncols=1 + len(tags) // 12,
    ).get_title().set_color(INK)
    return figure


def agreement_curve(metrics: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Figure | None:
    """Agreement of the clustering head with its teacher over training (tag clusters/agreement); None without data."""
    steps, values = metrics.get("clusters/agreement", (np.zeros(0), np.zeros(0)))
    if len(steps) < 2:
        return None
    figure, axes = new_figure(7.2, 2.0)
    axis = axes[0, 0]
    steps, values = _thinned(steps, values)
    axis.plot(steps, 100 * values, color="#3d7edb", linewidth=1.5)
    axis.set_xlabel("iteration", fontsize=8, color=INK)
    axis.set_ylabel("nodes, %", fontsize=8, color=INK)
    axis.set_ylim(top=100.5)
    _plain(axis)
    return figure


def _plain(axis: Any) -> None:
    for side, spine in axis.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(INK)
    axis.tick_params(labelsize=8, colors=INK, which="both")
    axis.grid(axis="y", color="#888888", alpha=0.25, linewidth=0.6)
    axis.set_axisbelow(True)


def _thinned(steps: np.ndarray, values: np.ndarray, most: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Means over equal runs of points, so that long trainings draw quickly."""
    if len(steps) <= most:
        return steps, values
    size = -(-len(steps) // most)
    starts = np.arange(0, len(steps), size)
    count = np.diff(np.append(starts, len(steps)))
    return np.add.reduceat(steps, starts) / count, np.add.reduceat(values, starts) / count


def _smoothed(values: np.ndarray) -> np.ndarray:
    """Centred moving mean over a twentieth of the points; nan values are ignored."""
    half = max(1, len(values) // 40)
    known = np.isfinite(values)
    total = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0))])
    count = np.concatenate([[0], np.cumsum(known)])
    low = np.clip(np.arange(len(values)) - half, 0, None)
    high = np.clip(np.arange(len(values)) + half + 1, None, len(values))
    return (total[high] - total[low]) / np.maximum(count[high] - count[low], 1)


def cluster_use_chart(share: Mapping[str, Sequence[float]], labels: Sequence[str] | None = None) -> Figure:
    """Bars of each cluster's share of the pixels; `share` maps "train" and "test" to k shares, labels name clusters."""
    parts = {part: np.asarray(values, float) for part, values in share.items() if np.sum(values) > 0}
    k = max((len(values) for values in share.values()), default=0)
    colours = cluster_colours(k)
    figure, axes = new_figure(0.62 * max(k, 5) + 0.8, 2.2)
    axis = axes[0, 0]
    width = 0.8 / max(len(parts), 1)
    for i, (part, values) in enumerate(parts.items()):
        at = np.arange(len(values)) + (i - (len(parts) - 1) / 2) * width
        bars = axis.bar(at, 100 * values, width * 0.92, color=colours, alpha=0.45 if part == "train" else 1.0)
        if len(parts) > 1:
            axis.bar_label(bars, [part] * len(values), fontsize=6, color=INK, padding=1)
    axis.set_xticks(range(k), labels or [str(i) for i in range(k)], fontsize=8)
    axis.set_ylabel("pixels, %", fontsize=8, color=INK)
    _plain(axis)
    return figure


def dsc_bars(part: Mapping[str, Any], colours: Mapping[str, str], headline: str | None = None) -> Figure | None:
    """DSC of every class, with a group of bars per mapping, from metrics.json's "test" or "train"; None if empty.

    The headline mapping comes first; `oracle` is hatched, as it was fitted to the labels that it is scored on.
    """
    rules = sorted(part, key=lambda rule: (rule != headline, rule == "oracle"))
    if not rules:
        return None
    figure, axes = new_figure(max(4.0, 1.35 * len(rules) + 1), 2.4)
    axis = axes[0, 0]
    width = 0.84 / len(colours)
    for i, (name, colour) in enumerate(colours.items()):
        values = [part[rule]["classes"].get(name, {}).get("dsc") or 0.0 for rule in rules]
        at = np.arange(len(rules)) + (i - (len(colours) - 1) / 2) * width
        bars = axis.bar(at, values, width * 0.9, color=colour, label=name)
        axis.bar_label(bars, [f"{value:.2f}"[1:] if value < 1 else "1" for value in values], fontsize=6, color=INK)
        for bar, rule in zip(bars, rules):
            if rule == "oracle":
                bar.set_hatch("////")
                bar.set_edgecolor("white")
    for i, rule in enumerate(rules):
        mean = part[rule].get("mean", {}).get("dsc")
        if mean is not None:
            axis.hlines(mean, i - 0.44, i + 0.44, color=INK, linewidth=1.2, linestyle=(0, (3, 2)))
    axis.set_xticks(range(len(rules)), [rule_title(rule, headline) for rule in rules], fontsize=8)
    axis.set_ylim(0, 1.08)
    add_legend(figure, colours)
    axis.set_ylabel("DSC", fontsize=8, color=INK)
    _plain(axis)
    return figure


def rule_title(rule: str, headline: str | None = None) -> str:
    """A mapping's name in charts and tables, marked if it is the headline or an upper bound."""
    return rule + (" (upper bound)" if rule == "oracle" else " (headline)" if rule == headline else "")
