"""Axes, voxel size and position from an array's attributes: OME's, and the plain ones of many programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sccs.data.stored import Stored, length, nanometres

_AXES = {
    **{letter: letter for letter in "zyxcts"},
    **dict.fromkeys(("depth", "plane", "slice", "section"), "z"),
    **dict.fromkeys(("height", "row", "rows"), "y"),
    **dict.fromkeys(("width", "column", "columns", "col"), "x"),
    **dict.fromkeys(("channel", "channels", "c^"), "c"),
    **dict.fromkeys(("time", "frame"), "t"),
}
# Default names that programs give to unnamed axes.
_UNNAMED = ("dim_", "d", "phony_dim_", "axis_", "")


def name_axes(stored: Stored, names: Any) -> None:
    """Set `axes` from the names of all axes, and note names that are not understood; missing names need no note."""
    texts = [str(name or "").strip().lower() for name in names or ()] if isinstance(names, (list, tuple)) else []
    if not texts or all(text.rstrip("0123456789") in _UNNAMED for text in texts):
        return
    letters = "".join(_AXES.get(text, "?") for text in texts)
    if len(letters) != len(stored.shape) or "?" in letters or len(set(letters)) < len(letters):
        stored.notes += (f"its axes are named {', '.join(texts)}, which SCCS does not understand: give `axes`",)
    else:
        stored.axes = letters


def axistags(stored: Stored, text: Any) -> list[str]:
    """Names of the axes in the JSON of ilastik's and vigra's `axistags`."""
    try:
        return [str(axis["key"]) for axis in json.loads(text)["axes"]]
    except (ValueError, TypeError, KeyError):
        stored.notes += ("its `axistags` are damaged: give `axes` if they are not z, y, x",)
        return []


def plain(stored: Stored, attributes: Mapping[str, Any]) -> None:
    """Set axes, `scales` and `translations` from the attributes of an array that is not an OME image.

    axes: `_ARRAY_DIMENSIONS` (xarray), `axis_names` (funlib). Size: `transform` (OpenOrganelle), `voxel_size` or
    `resolution` (funlib, CREMI, Neuroglancer), nm unless `units` says otherwise, in the order of the axes, either
    all of them or only the spatial ones; `offset`, in the same unit, is the position of the first voxel.
    `element_size_um` (ilastik, Fiji): (z, y, x), whatever the axes; `pixelResolution` (N5 viewer): (x, y, z), with its
    unit.
    """
    attributes = {key: listed_attribute(value) for key, value in attributes.items()}
    for key in ("_ARRAY_DIMENSIONS", "axis_names"):
        if key in attributes and stored.axes is None:
            name_axes(stored, attributes[key])
    transform = attributes.get("transform")
    resolution = attributes.get("pixelResolution")
    if isinstance(resolution, list) and not attributes.keys() & {"transform", "resolution", "voxel_size"}:
        stored.notes += ("its attribute `pixelResolution` has no known unit and is ignored: give `voxel_size`",)
    if isinstance(resolution, Mapping) and not isinstance(transform, Mapping):
        sizes, factor = resolution["dimensions"], length(stored, resolution.get("unit"))
        stored.named_scales = {a: float(s) * factor for a, s in zip("xyz", sizes)} if factor else None
        return
    if isinstance(transform, Mapping) and "axes" in transform:
        set_transform(stored, transform)
        return
    micrometres = _numbers(stored, attributes, "element_size_um")
    if micrometres:
        if stored.axes is None and len(micrometres) == len(stored.shape):
            stored.scales = tuple(1e3 * value for value in micrometres)
        elif len(micrometres) in (2, 3):
            stored.named_scales = {a: 1e3 * v for a, v in zip("zyx"[-len(micrometres) :], micrometres)}
        else:
            _odd(stored, "element_size_um", micrometres)
        return
    for key in ("voxel_size", "resolution"):
        if sizes := _numbers(stored, attributes, key):
            break
    else:
        if _numbers(stored, attributes, "offset"):
            stored.notes += ("its attribute `offset` has no `resolution`, so its unit is unknown: it is ignored",)
        return
    places = _space(stored, len(sizes))
    if places is None:
        _odd(stored, key, sizes)
        return
    units = attributes.get("units") or attributes.get("unit") or "nm"
    units = list(units) if isinstance(units, (list, tuple)) else [units]
    if len(units) == len(stored.shape):
        units = [units[i] for i in places]
    factors = [nanometres(unit) for unit in (units * len(places) if len(units) == 1 else units)]
    if len(factors) != len(places) or None in factors:
        stored.notes += (f"its attribute `{key}` has units {units}, which are not lengths: it is ignored",)
        return
    scales: list[float | None] = [None] * len(stored.shape)
    firsts = [0.0] * len(stored.shape)
    offset = _numbers(stored, attributes, "offset") or [0.0] * len(places)
    starts = _space(stored, len(offset))
    if starts is None:
        _odd(stored, "offset", offset)
        offset, starts = [0.0] * len(places), places
    lengths = dict(zip(places, factors))
    for i, size in zip(places, sizes):
        scales[i] = size * (lengths[i] or 0)
    for i, first in zip(starts, offset):
        firsts[i] = first * (lengths.get(i) or 0)
    stored.scales, stored.translations = tuple(scales), tuple(firsts)


def set_transform(stored: Stored, transform: Mapping[str, Any]) -> None:
    """Set scales and translations (and axes, if missing) from OpenOrganelle's `transform`, which names its axes."""
    names, units = list(transform["axes"]), transform.get("units") or "nm"
    if stored.axes is None:
        name_axes(stored, names)
    factors = [nanometres(unit) for unit in ([units] * len(names) if isinstance(units, str) else units)]
    scale = {a: float(s) * f for a, s, f in zip(names, transform.get("scale") or (), factors) if f}
    first = {a: float(t) * f for a, t, f in zip(names, transform.get("translate") or (), factors) if f}
    axes = stored.axes or "tczyx"[-len(stored.shape) :]
    stored.scales = tuple(scale.get(a) for a in axes)
    stored.translations = tuple(first.get(a, 0.0) for a in axes)


def listed_attribute(value: Any) -> Any:
    """An attribute as JSON would hold it: HDF5 returns arrays, and texts as bytes."""
    value = value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, (list, tuple)):
        return [listed_attribute(each) for each in value]
    return value


def _numbers(stored: Stored, attributes: Mapping[str, Any], key: str) -> list[float]:
    if key not in attributes:
        return []
    value = attributes[key]
    values = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values):
        stored.notes += (f"its attribute `{key}` is {str(value)[:60]!r}, not numbers: it is ignored",)
        return []
    if len(values) == 1 and key != "offset":  # one value for all axes
        values *= sum(a in "zyx" for a in stored.axes) if stored.axes else len(stored.shape)
    return [float(v) for v in values]


def _space(stored: Stored, count: int) -> list[int] | None:
    """The axes that `count` values belong to: all, the spatial ones, or the last; None if ambiguous."""
    ndim = len(stored.shape)
    if count == ndim:
        return list(range(ndim))
    if stored.axes:
        space = [i for i, a in enumerate(stored.axes) if a in "zyx"]
        return space if len(space) == count else None
    return list(range(ndim - count, ndim)) if 2 <= count < ndim else None


def _odd(stored: Stored, key: str, values: Sequence[float]) -> None:
    count = f"{len(values)} values for {len(stored.shape)} axes"
    stored.notes += (f"its attribute `{key}` has {count} and is ignored: give `voxel_size`",)


# ------------------------------------------------------------------------------------------------------------- OME
def ome_axes(image: Mapping[str, Any], ndim: int) -> list[dict]:
    """The axes of a multi-scale image, as dictionaries with a name: OME-Zarr's up to 0.5, or those of the 0.6
    coordinate system that its data sets map to."""
    axes = image.get("axes")
    systems = image.get("coordinateSystems") or []
    if systems:
        steps = [step for each in image.get("datasets") or [] for step in each.get("coordinateTransformations") or []]
        names = [_system(step.get("output")) for step in steps]
        system = next((s for s in systems if s.get("name") in names), systems[0])
        axes = system.get("axes") or axes
    return [axis if isinstance(axis, dict) else {"name": axis} for axis in axes or "tczyx"[-ndim:]]


def _system(output: Any) -> Any:
    return output.get("name") if isinstance(output, dict) else output


def ome_transform(
    image: Mapping[str, Any], dataset: Mapping[str, Any], axes: Sequence[dict], notes: list[str] | None = None
) -> tuple[tuple, tuple]:
    """Scales (nm, None if unknown) and translations (nm) along OME's `axes` of a data set in a multi-scale image: its
    own transformations, then, up to 0.5, the image's (those of 0.6 map to other systems).

    notes: receives what is not supported (rotations, ...), in which case sizes are unknown.
    """
    scale, translation = np.ones(len(axes)), np.zeros(len(axes))
    steps = list(dataset.get("coordinateTransformations") or [])
    if not image.get("coordinateSystems"):
        steps += image.get("coordinateTransformations") or []
    strange: list[str] = []
    for step in _flat(steps):
        kind = str(step.get("type"))
        values = step.get(kind)
        matrix = _matrix(step, len(axes))
        if kind in ("scale", "translation") and isinstance(values, list) and len(values) == len(axes):
            if kind == "scale":
                scale, translation = (each * np.asarray(values, float) for each in (scale, translation))
            else:
                translation = translation + np.asarray(values, float)
        elif kind == "affine" and matrix is not None:
            scale, translation = scale * matrix[0], translation * matrix[0] + matrix[1]
        elif kind != "identity":
            strange.append(kind)
    factors = [nanometres(axis.get("unit")) for axis in axes]
    unknown = [str(axis["unit"]) for axis, f in zip(axes, factors) if axis.get("unit") and not f and _is_space(axis)]
    if unknown and notes is not None:
        notes.append(f"its unit {unknown[0]} is not a length that SCCS knows: give `voxel_size`")
    if notes is not None and any(s == 0 for s, axis in zip(scale, axes) if _is_space(axis)):
        notes.append("its scale is 0 along an axis, which is ignored: give `voxel_size`")
    if strange or not steps:
        factors = [None] * len(axes)
        if strange and notes is not None:
            notes.append(f"its transformation of type {strange[0]} is not supported: give `voxel_size`")
    return (
        tuple(float(s) * f if f else None for s, f in zip(scale, factors)),
        tuple(float(t) * (f or 0) for t, f in zip(translation, factors)),
    )


def _is_space(axis: Mapping[str, Any]) -> bool:
    return str(axis.get("type", "space")) == "space"


def _flat(steps: Sequence[Any]) -> list[Mapping[str, Any]]:
    """Transformations in order, with sequences flattened."""
    found: list[Mapping[str, Any]] = []
    for step in steps:
        if step.get("type") == "sequence":
            found += _flat(step.get("transformations") or [])
        else:
            found.append(step)
    return found


def _matrix(step: Mapping[str, Any], count: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Scales and translations of an affine transformation; None if it does anything else."""
    try:
        matrix = np.asarray(step.get("affine"), float)
    except (TypeError, ValueError):
        return None
    if matrix.ndim != 2 or matrix.shape[0] < count or matrix.shape[1] != count + 1:
        return None
    linear = matrix[:count, :count]
    return (np.diag(linear), matrix[:count, count]) if not (linear - np.diag(np.diag(linear))).any() else None
