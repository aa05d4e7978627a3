"""Tables of measurements, with a row per object or per class; columns have their unit in the name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sccs.instances.geometry import step_areas
from sccs.instances.work import Work

if TYPE_CHECKING:
    import pandas

AXES = "zyx"
STATISTICS = ("mean", "sd", "min", "p5", "p25", "median", "p75", "p95", "max")


def object_table(work: Work, translation: Sequence[float] = (0.0, 0.0, 0.0)) -> pandas.DataFrame:
    """A row for each kept object of all classes; docs/objects.md describes the columns.

    translation: (z, y, x) nm of the centre of the image's first voxel.
    """
    import pandas

    parts = [_class_table(work, number, name, translation) for number, name in enumerate(work.classes)]
    return pandas.concat(parts, ignore_index=True)


def _class_table(work: Work, number: int, name: str, translation: Sequence[float]) -> pandas.DataFrame:
    import pandas

    found, shape = work.table(number), work.blocks.shape
    n, edges, count = len(found["count"]), np.array(work.edges), found["count"]
    unit, flat = "px" if work.voxel_size is None else "nm", min(shape) == 1
    axes = [axis for axis, length in enumerate(shape) if length > 1] or [1, 2]
    d = len(axes)
    size = count * math.prod(edges[axes])
    steps = found["steps"] @ step_areas(edges, shape)  # (n, kinds)
    surface = steps.sum(1)
    border = work._at_border(found["box"])
    mean, lengths = _moments(count, found["sums"], edges, axes)
    centre = mean + np.array(shape) // 2
    columns: dict[str, Any] = {"class": [name] * n, "object": np.arange(1, n + 1), "voxels": count}
    with np.errstate(divide="ignore", invalid="ignore"):
        if flat:
            columns[f"area_{unit}2"], columns[f"perimeter_{unit}"] = size, surface
            columns[f"diameter_{unit}"] = np.sqrt(4 * size / math.pi)
            columns["circularity"] = np.where(border, np.nan, 4 * math.pi * size / surface**2)
        else:
            columns[f"volume_{unit}3"], columns[f"surface_{unit}2"] = size, surface
            columns[f"diameter_{unit}"] = np.cbrt(6 * size / math.pi)
            sphericity = math.pi ** (1 / 3) * (6 * size) ** (2 / 3) / surface
            columns["sphericity"] = np.where(border, np.nan, sphericity)
    for place, axis in zip(("major", "middle", "minor") if d == 3 else ("major", "minor"), range(d)):
        columns[f"axis_{place}_{unit}"] = lengths[:, axis]
    for axis in range(3):
        columns[f"centroid_{AXES[axis]}"] = centre[:, axis]
    for axis in range(6):
        columns[f"box_{AXES[axis % 3]}{axis // 3}"] = found["box"][:, axis]
    if work.voxel_size is not None:
        for axis in range(3):
            columns[f"centroid_{AXES[axis]}_nm"] = centre[:, axis] * edges[axis] + translation[axis]
        for axis in range(6):
            edge = (found["box"][:, axis] - 0.5) * edges[axis % 3] + translation[axis % 3]
            columns[f"box_{AXES[axis % 3]}{axis // 3}_nm"] = edge
    columns["touches_border"] = border
    if work.image is not None:
        columns["mean_grey"] = found["shade"] / np.maximum(count, 1)
    square = unit if flat else f"{unit}2"
    columns[f"contact_objects_{square}"] = steps[:, 0]
    for index, other in enumerate(work.to):
        if other != name:
            columns[f"contact_{other}_{square}"] = steps[:, index + 2]
            columns[f"distance_{other}_{unit}"] = found["distance"][:, index]
    return pandas.DataFrame(columns)


def _moments(
    count: np.ndarray, sums: np.ndarray, edges: np.ndarray, axes: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Mean position (n, 3) in voxels, and the axis lengths (n, d) of the ellipsoid with the same second moments,
    longest first, in the unit of `edges`. sums: (n, 9), see `sccs.instances.loops.measure`."""
    n = np.maximum(count, 1)
    mean = sums[:, :3] / n[:, None]
    middle = np.rint(mean).astype(np.int64)  # sums about it are still integers, but small
    first = sums[:, :3] - count[:, None] * middle
    covariance = np.zeros((len(count), 3, 3))
    for place, (i, j) in enumerate([(0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)], start=3):
        product = sums[:, place] - middle[:, i] * sums[:, j] - middle[:, j] * sums[:, i]
        product = (product + count * middle[:, i] * middle[:, j]) / n - (first[:, i] / n) * (first[:, j] / n)
        covariance[:, i, j] = covariance[:, j, i] = product * edges[i] * edges[j]
    values = np.linalg.eigvalsh(covariance[:, axes][:, :, axes])[:, ::-1].clip(min=0)
    return mean, 2 * np.sqrt((len(axes) + 2) * values)


def summary_table(objects: pandas.DataFrame, work: Work) -> pandas.DataFrame:
    """A row for each class: number and density of objects, share of the image, and statistics of the measures."""
    import pandas

    unit, shape = "px" if work.voxel_size is None else "nm", work.blocks.shape
    flat = min(shape) == 1
    axes = [axis for axis, length in enumerate(shape) if length > 1] or [1, 2]
    whole = float(math.prod(shape)) * math.prod(np.array(work.edges)[axes])
    main = f"area_{unit}2" if flat else f"volume_{unit}3"
    rows = []
    for name in work.classes:
        own = objects[objects["class"] == name]
        row: dict[str, Any] = {"class": name, "objects": len(own), "touching_border": int(own["touches_border"].sum())}
        if unit == "nm":
            row["objects_per_um2" if flat else "objects_per_um3"] = len(own) / (whole / (1e6 if flat else 1e9))
        row[f"total_{main}"] = float(own[main].sum())
        row["area_fraction" if flat else "volume_fraction"] = float(own[main].sum()) / whole
        for column in measures(own):
            values = own[column].to_numpy(float)
            values = values[np.isfinite(values)]
            row |= dict(zip((f"{column}_{s}" for s in STATISTICS), _spread(values)))
        rows.append(row)
    return pandas.DataFrame(rows)


def measures(objects: pandas.DataFrame) -> list[str]:
    """The columns whose distribution is meaningful."""
    known = (
        "volume_",
        "area_",
        "surface_",
        "perimeter_",
        "diameter_",
        "sphericity",
        "circularity",
        "axis_",
        "mean_grey",
    )
    return [name for name in objects.columns if name.startswith((*known, "distance_", "contact_"))]


def _spread(values: np.ndarray) -> list[float]:
    if not len(values):
        return [math.nan] * len(STATISTICS)
    sd = float(values.std(ddof=1)) if len(values) > 1 else math.nan
    low, *middle, high = np.percentile(values, [0, 5, 25, 50, 75, 95, 100]).tolist()
    return [float(values.mean()), sd, low, *middle, high]
