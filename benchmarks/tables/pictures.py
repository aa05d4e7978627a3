"""Pictures for the tables: bars, curves over a setting or over noise, one test slice as segmented by each system."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.noise import LEVELS, noise_levels
from benchmarks.pages import named
from benchmarks.tables.answers import Answers
from benchmarks.tables.rows import SUPERVISED
from sccs.report.drawing import INK, new_figure, save_png
from sccs.system.colours import class_colours, cluster_colours, colourise

ONE_SLICE = 4  # systems per row in the picture of one slice


def bars(answers: Answers, path: Path, title: str, values: Callable[[str, str], list[Any]]) -> None:
    """One panel per set: a bar per system, the deviation over seeds as a line."""
    labels = [row.label for row in answers.rows]
    figure, axes = new_figure(2.6 * len(answers.sets) + 1.4, 0.2 * len(labels) + 1.1, 1, len(answers.sets), sharey=True)
    for axis, data in zip(axes[0], answers.sets):
        means = [np.mean(values(label, data) or [np.nan]) for label in labels]
        deviation = [np.std(values(label, data), ddof=1) if len(values(label, data)) > 1 else 0 for label in labels]
        colours = [
            "#c8553d" if row.system == "sccs" else "#9aa5b1" if row.system in SUPERVISED else "#3d6fa8"
            for row in answers.rows
        ]
        axis.barh(
            range(len(labels)),
            np.nan_to_num(means),
            xerr=deviation,
            color=colours,
            height=0.75,
            error_kw={"elinewidth": 0.8, "ecolor": INK},
        )
        axis.set_title(named(data), fontsize=9, color=INK)
        axis.set_yticks(range(len(labels)), [label.replace("`", "") for label in labels], fontsize=7)
        axis.tick_params(axis="x", labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0, 0].invert_yaxis()
    figure.supxlabel(title, fontsize=8, color=INK)
    save_png(figure, path)


def curves(answers: Answers, path: Path) -> None:
    """Mean DSC against a setting, one panel per name of a setting, one line per set."""
    groups: dict[str, list[tuple[float, str]]] = {}
    for row in answers.rows:
        name, _, value = row.label.replace(" = ", " ").rpartition(" ")
        groups.setdefault(name, []).append((float(value), row.label))
    figure, axes = new_figure(3.6 * len(groups) + 0.6, 2.8, 1, len(groups))
    for axis, (name, points) in zip(axes[0], groups.items()):
        for data in answers.sets:
            seen = [(x, answers.score(label, data)) for x, label in points if answers.score(label, data)]
            axis.errorbar(
                [x for x, _ in seen],
                [np.mean(v) for _, v in seen],
                yerr=[np.std(v, ddof=1) if len(v) > 1 else 0 for _, v in seen],
                marker="o",
                markersize=3,
                linewidth=1,
                capsize=2,
                label=named(data),
            )
        axis.set_xlabel(name, fontsize=8)
        axis.set_ylabel("mean DSC", fontsize=8)
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0, -1].legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    save_png(figure, path)


def noise_curves(answers: Answers, path: Path, size: str) -> None:
    """Mean DSC against the strength of the noise: a line of panels for each set, a panel for each kind."""
    kinds = list(LEVELS)
    figure, axes = new_figure(
        2.3 * len(kinds) + 0.8, 1.9 * len(answers.sets), len(answers.sets), len(kinds), sharey="row"
    )
    for line, data in zip(axes, answers.sets):
        for axis, kind in zip(line, kinds):
            levels = [level for each, level in noise_levels(size) if each == kind]
            for row in answers.rows:
                values = [answers.score(row.label, data)] + [
                    [r["noise"][f"{kind} {level:g}"]["train"] for r in answers.of(row.label, data)] for level in levels
                ]
                if all(values):
                    axis.plot(
                        ["clean", *(f"{level:g}" for level in levels)],
                        [np.mean(v) for v in values],
                        marker="o",
                        markersize=3,
                        linewidth=1,
                        label=row.label,
                    )
            axis.set_title(f"{named(data)}, {kind}", fontsize=7, color=INK)
            axis.tick_params(labelsize=6)
            axis.spines[["top", "right"]].set_visible(False)
    axes[0, 0].legend(fontsize=6, frameon=False)
    save_png(figure, path)


def slice_picture(answers: Answers, data: str, path: Path, clusters: bool = False) -> None:
    """The first test slice: image, labels, and each system's segmentation with the first seed: classes by mapping
    `train`, or its clusters."""
    firsts = [(row.label, answers.of(row.label, data)[0]) for row in answers.rows if answers.of(row.label, data)]
    shown = [
        (label, result, np.load(result["slice"])) for label, result in firsts if Path(result.get("slice", "")).is_file()
    ]
    if not shown:
        return
    first, slice_ = shown[0][1:]
    colours = class_colours(first["classes"])
    by_code = {code: colours[name] for code, name in zip(first["codes"], first["classes"])}
    panels = [
        ("image", np.repeat(slice_["image"][..., None], 3, 2)),
        ("labels", colourise(slice_["labels"], by_code, slice_["image"], 0.6)),
    ]
    for label, result, arrays in shown:
        k = len(result["mapping"])
        table = (
            dict(enumerate(cluster_colours(k)))
            if clusters
            else {i: colours[name] for i, name in enumerate(result["mapping"]) if name is not None}
        )
        panels.append((label, colourise(arrays["clusters"].astype(int), table, arrays["image"], 0.6)))
    columns = min(ONE_SLICE + 2, len(panels))
    rows = -(-len(panels) // columns)
    height, width = slice_["image"].shape
    figure, axes = new_figure(2.2 * columns, (2.2 * height / width + 0.3) * rows, rows, columns)
    for axis in axes.ravel():
        axis.set_axis_off()
    for axis, (title, picture) in zip(axes.ravel(), panels):
        axis.imshow(picture, interpolation="antialiased")
        axis.set_title(title, fontsize=10, color=INK)
    save_png(figure, path, dpi=60)
