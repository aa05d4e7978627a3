"""report.html of a folder of objects: pictures, a summary, distributions. The page is self-contained."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sccs.instances.export import object_mesh
from sccs.instances.table import STATISTICS, measures
from sccs.instances.work import Work
from sccs.report.drawing import INK, new_figure, template, to_svg
from sccs.report.page_pictures import picture_uri
from sccs.system.colours import class_colours, cluster_colours, colourise, to_grey
from sccs.system.files import write_text

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

COLOURS = 12
WIDEST = 1024  # px of a picture
DRAWN = 60  # largest objects of a class, whose surfaces are drawn
DRAWN_CELLS = 40_000  # voxels of the box of one of them
SETTINGS = {  # in the page; by the name in objects.json: the option, and what None means
    "classes": ("--class", "all that occur"),
    "to": ("--to", "the other classes"),
    "smooth": ("--smooth", ""),
    "bridge": ("--bridge", ""),
    "fill": ("--fill", "all"),
    "split": ("--split", "no"),
    "min_size": ("--min-size", ""),
    "largest": ("--largest", "all"),
    "inside": ("--inside", "anywhere"),
    "connectivity": ("--connectivity", ""),
}


def write_page(
    result: Path,
    work: Work,
    objects: pandas.DataFrame,
    summary: pandas.DataFrame,
    settings: Mapping[str, Any],
    notes: Sequence[str] = (),
    surfaces: bool = False,
) -> None:
    """Write report.html into `result`. surfaces: whether to include a picture of them."""
    page = template("objects.html.j2")
    size, unit = work.voxel_size, "voxels" if work.voxel_size is None else "nm"
    html = page.render(
        source=Path(work.path).name,
        shape=" × ".join(map(str, work.blocks.shape)),
        voxel="voxel size unknown" if size is None else f"of {' × '.join(f'{s:.4g}' for s in size)} nm",
        unit=unit,
        cards=[_card(row) for row in summary.to_dict("records")],
        notes=notes,
        pictures=_pictures(work, objects, settings, surfaces),
        statistics=STATISTICS,
        tables=[_table(row, objects) for row in summary.to_dict("records")],
        charts=[(name, to_svg(figure, f"c{n}")) for n, (name, figure) in enumerate(_charts(work, objects))],
        settings=[(shown, _told(settings["wishes"][name], none)) for name, (shown, none) in SETTINGS.items()],
    )
    write_text(result / "report.html", html)


def _told(value: Any, none: str) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} = {code}" for name, code in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value)) or none
    return none if value is None else f"{value:.10g}" if isinstance(value, float) else str(value)


def _card(row: Mapping[Any, Any]) -> dict[str, str]:
    fraction = next(value for name, value in row.items() if name.endswith("_fraction"))
    dense = next((f", {value:.3g} per {name[-3:-1]}{'³' if name[-1] == '3' else '²'}" for name, value in row.items()
                  if name.startswith("objects_per")), "")  # fmt: skip
    note = f"{fraction:.1%} of the image{dense}; {row['touching_border']} touch its border"
    return {"name": row["class"], "value": f"{row['objects']:,}", "note": note}


def _table(row: Mapping[Any, Any], objects: pandas.DataFrame) -> dict[str, Any]:
    rows = [
        {"name": name, "cells": [_number(row[f"{name}_{each}"]) for each in STATISTICS]}
        for name in measures(objects)
        if f"{name}_mean" in row and math.isfinite(row[f"{name}_mean"])
    ]
    return {"name": row["class"], "about": f"{row['objects']:,} objects", "rows": rows}


def _number(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "–"


def _pictures(
    work: Work, objects: pandas.DataFrame, settings: Mapping[str, Any], surfaces: bool
) -> list[dict[str, str]]:
    step = max(1, -(-max(work.blocks.shape[1:]) // WIDEST))
    z = work.blocks.shape[0] // 2
    grey = None if work.image is None else to_grey(np.asarray(work.image[z])[::step, ::step])
    colours, made = cluster_colours(COLOURS), []
    for number, name in enumerate(work.classes):
        labels = np.asarray(work.store.open(work.result(f"{number}/"))[z])[::step, ::step]
        codes = np.where(labels > 0, labels.astype(np.int64) * 5 % COLOURS, -1)
        made.append({"src": picture_uri(colourise(codes, colours, grey)), "about": f"{name}, slice {z}"})
    if surfaces and len(objects):
        made.append({"src": picture_uri(_drawn(work, objects, settings)), "about": _surfaces_told(objects)})
    return made


def _surfaces_told(objects: pandas.DataFrame) -> str:
    most = int(objects.groupby("class").size().max())
    return "surfaces" if most <= DRAWN else f"surfaces of the {DRAWN} largest objects of each class"


def _drawn(work: Work, objects: pandas.DataFrame, settings: Mapping[str, Any]) -> np.ndarray:
    """Surfaces of the largest objects, (H, W, 3) uint8, coarse."""
    from mpl_toolkits.mplot3d.art3d import Poly3DCollection

    figure, axes = new_figure(7, 6, subplot_kw={"projection": "3d"})
    axis, colours = axes[0, 0], class_colours(list(work.classes))
    low, high = np.full(3, np.inf), np.full(3, -np.inf)
    for number, name in enumerate(work.classes):
        labels = work.store.open(work.result(f"{number}/"))
        own = objects[objects["class"] == name].nlargest(DRAWN, "voxels")
        for row in own.to_dict("records"):
            box = tuple(slice(row[f"box_{a}0"], row[f"box_{a}1"]) for a in "zyx")
            mesh = object_mesh(labels, row["object"], box, work.edges, settings["translation"], most=DRAWN_CELLS)
            corners = np.asarray(mesh.vertices)
            low, high = np.minimum(low, corners.min(0)), np.maximum(high, corners.max(0))
            faces = Poly3DCollection(corners[np.asarray(mesh.faces)], shade=True, facecolors=colours[name])
            axis.add_collection3d(faces)
    axis.set(xlim=(low[0], high[0]), ylim=(high[1], low[1]), zlim=(high[2], low[2]), xlabel="x", ylabel="y", zlabel="z")
    axis.set_aspect("equal")
    axis.tick_params(labelsize=7)
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()  # type: ignore[attr-defined]  # Agg's


def _charts(work: Work, objects: pandas.DataFrame) -> list[tuple[str, Figure]]:
    """A row of histograms for each measure common to the classes, with a column per class."""
    names = [name for name in measures(objects) if not name.startswith(("contact_", "axis_"))]
    colours, made = class_colours(list(work.classes)), []
    for name in names:
        columns = {each: objects.loc[objects["class"] == each, name].dropna().to_numpy(float) for each in work.classes}
        columns = {each: values for each, values in columns.items() if len(values) > 1 and values.min() < values.max()}
        if not columns:
            continue
        figure, axes = new_figure(3.0 * len(columns) + 0.4, 2.1, 1, len(columns))
        for axis, (each, values) in zip(axes[0], columns.items()):
            wide = values.min() > 0 and values.max() / values.min() > 30
            bins = np.geomspace(values.min(), values.max(), 25) if wide else np.linspace(values.min(), values.max(), 25)
            axis.hist(values, bins, color=colours[each])
            axis.axvline(float(np.median(values)), color=INK, linewidth=1)
            axis.set_xscale("log" if wide else "linear")
            axis.set_title(each, fontsize=9, color=INK)
            axis.set_xlabel(name, fontsize=8, color=INK)
            axis.tick_params(labelsize=7, colors=INK, which="both")
            for side in ("top", "right"):
                axis.spines[side].set_visible(False)
        made.append((name, figure))
    return made
