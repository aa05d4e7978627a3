"""The recipe as text, with the findings on the images as comments."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from sccs.data.survey import PIXEL, Found
from sccs.init.plan import FOV, Entry, Plan
from sccs.system.text import printable

PARENT = "sccs_plus"  # what the recipe extends, if nothing else is asked for
PLAIN = 1.5  # ratio of pixel sizes from which we warn


def describe(found: Found, axes: str | None = None) -> list[str]:
    """What the user should know about a volume: a line of facts, then remarks."""
    source, look = found.source, found.look
    size = f"voxels {_times(found.voxel_size)} nm" if found.voxel_size else "voxel size not in the file"
    order = (axes or source.array.stored.axes or "?" * len(source.array.stored.shape)).upper()
    lines = [
        f"{source.path}: {_times(source.shape)} (z, y, x), {source.dtype}, axes of the file {order}, {size}, "
        f"values {look.low:g} to {look.high:g}"
    ]
    if found.level is not None:
        shown = ", ".join(
            f"{i}: {_times(shape)}" + (f" at {_times(size)} nm" if size else "")
            for i, (shape, size) in enumerate(found.levels)
        )
        lines.append(f"  levels {shown}; level {found.level} chosen: {found.chosen_for}")
    if found.voxel_size is None:
        lines.append(
            "  voxel size unknown: add it to the recipe (voxel_size), so that sccs segment can warn about "
            "images of another resolution"
        )
    elif not 1 / PLAIN < (ratio := found.voxel_size[2] / PIXEL) < PLAIN:
        lines.append(
            f"  pixels of {found.voxel_size[2]:g} nm: the bundled MAE was trained at 10 to 16 nm; expect "
            f"{'coarser' if ratio > 1 else 'different'} clusters"
            + ("" if ratio > 1 else ", or rescale the images by about " + f"{ratio:.2g}")
        )
    return lines + [f"  {remark}" for remark in look.remarks()]


def _times(values: Sequence[float]) -> str:
    return " x ".join(f"{value:g}" for value in values)


def recipe_text(
    plan: Plan,
    volumes: list[Found],
    notes: list[str],
    said: list[str],
    folder: Path,
    axes: str | None,
    minutes: float,
    parent: str,
    k: int,
) -> str:
    """The recipe as YAML, with the findings as comments; parent: the recipe it extends; k: its clusters."""
    seen = [line for found in volumes for line in describe(found, axes)]
    size = volumes[0].voxel_size
    lines = [
        "# Written by sccs init, which looked at:",
        *(f"#   {printable(line)}" for line in [*seen, *notes]),  # file names may contain line breaks
        "# Cost, estimated from one field of view:",
        *(f"#   {printable(line)}" for line in said),
        f"extends: {parent}",
        "data:",
        "  name: volumes",
        f"  fov: {FOV}                    # px, longest side of a field of view",
        f"  train:                      # {plan.fovs('train')} FOVs to train on; more cost time and memory",
    ]
    for entry in plan.train:
        lines += _entry(entry, folder, axes)
    if plan.test:
        lines.append("  test:                       # only segmented")
        for entry in plan.test:
            lines += _entry(entry, folder, axes)
    if plan.slices:
        lines.append(
            f"  max_test_slices: {plan.slices}          # evenly spaced, for a run of about {minutes:g} "
            "minutes; sccs segment does the rest"
        )
    area = f"{10 * size[1]:.0f} x {10 * size[2]:.0f} nm" if size else "10 x 10 px"
    lines += [
        f"graph:\n  pixels_per_superpixel: 100  # about {area}: smaller structures are lost",
        f"clusterer:\n  k: {k:<25}# clusters; a larger k finds rarer structures, but takes longer to name",
    ]
    return "\n".join(lines) + "\n"


def _entry(entry: Entry, folder: Path, axes: str | None) -> list[str]:
    import yaml

    found = entry.found
    lines: list[tuple[str, object, str]] = [("image", shown_path(found.path, folder), "")]
    if found.voxel_size:
        lines.append(("voxel_size", list(found.voxel_size), "(z, y, x) nm"))
    else:
        lines.append(("# voxel_size", ["Z", "Y", "X"], "nm: not in the file; fill in, and remove the #"))
    if axes:
        lines.append(("axes", axes, ""))
    if found.level is not None:
        lines.append(("level", found.level, found.chosen_for))
    if entry.mask is not None:
        lines.append(
            ("mask", shown_path(entry.mask, folder), "excludes empty background; remove this line to include it")
        )
    if entry.region:
        lines.append(("region", entry.region, f"{_times(entry.shape)} of {_times(found.source.shape)} voxels"))
    written = []
    for key, value, comment in lines:
        text = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True)
        text = text.removesuffix("...\n").strip()
        written.append(f"{key}: {text}" + (f"  # {printable(comment)}" if comment else ""))
    return [f"    {'- ' if i == 0 else '  '}{line}" for i, line in enumerate(written)]


def shown_path(path: str, folder: Path) -> str:
    """The path as a recipe in `folder` should write it: relative if it lies below, so that both can be moved."""
    if path.startswith(("$", "~")):
        return path
    whole, base = os.path.abspath(path), os.path.abspath(folder)
    return os.path.relpath(whole, base) if os.path.commonpath([whole, base]) == base else whole
