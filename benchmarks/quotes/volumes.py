"""Quotes on whole volumes: memory, seams between fields of view, the third axis. `results`: benchmarks/results."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.pages import Origin, markdown, mean_sd, named
from benchmarks.quotes import lines, paragraph, sourced
from benchmarks.studies import halos as halos_study
from benchmarks.studies import masks as masks_study
from benchmarks.tables import objects as objects_table

WEIGHT = "edges, weight 16"


def memory(results: Path) -> str:
    """Peak memory of `sccs segment`."""
    table = results / "segment" / "memory.csv"
    rows = lines(table)
    peaks, sizes = ([float(row[key]) for row in rows] for key in ("peak memory, GiB", "volume, GiB"))
    return paragraph(
        f"A peak of {min(peaks):.2f} to {max(peaks):.2f} GiB for volumes of {min(sizes):g} to {max(sizes):g} GiB, "
        f"synthetic and mostly empty ([memory](../benchmarks/results/segment/memory.md); {Origin.read(table)})."
    )


def seams(results: Path) -> str:
    """How often labels differ across borders, relative to elsewhere."""
    table = results / "segment" / "seams.csv"
    ways = {"FOVs side by side": ("0", "cut straight")}
    ways |= {f"halo of {halo} px, {way}": (halo, way) for halo in ("20", "40") for way in ("cut straight", "stitched")}
    found: dict[str, dict[tuple[str, str], str]] = {}
    for row in lines(table):
        found.setdefault(row["image"], {})[row["halo, px"], row["put together"]] = row["ratio"]
    rows = [[image, *(ratio.get(way, "-") for way in ways.values())] for image, ratio in found.items()]
    return sourced(markdown(["image", *ways], rows), f"{Origin.read(table)}.")


def halos(results: Path) -> str:
    """DSC of training images by halo."""
    table = results / "segment" / "halos.csv"
    found = halos_study.table([list(row.values()) for row in lines(table)])
    return sourced(found, f"{Origin.read(table)}.")


def depth(results: Path) -> str:
    """DSC and kappa of classes with and without edges between slices."""
    table = results / "depth" / "depth.csv"
    found: dict[tuple[str, str], dict[str, list[dict[str, str]]]] = {}
    for row in lines(table):
        found.setdefault((row["set"], row["system"]), {}).setdefault(row["way"], []).append(row)

    def over(runs: list[dict[str, str]], key: str) -> str:
        return mean_sd([float(run[key]) for run in runs])

    rows = [
        [
            f"{named(data)}, {system}",
            *(over(ways[way], key) for key in ("dsc", "z_kappa") for way in ("slice by slice", WEIGHT)),
            f"{np.mean([float(run['z_kappa_labels']) for run in ways[WEIGHT]]):.3f}",
        ]
        for (data, system), ways in found.items()
    ]
    heads = ["volume", "mean DSC", "with `--depth 16`", "kappa", "with `--depth 16`", "kappa of the labels"]
    return sourced(markdown(heads, rows), f"{Origin.read(table)}.")


def objects(results: Path) -> str:
    """How well objects are found, for several ways to get classes."""
    table = results / "objects" / "objects_found.csv"
    found = objects_table.table([list(row.values()) for row in lines(table)])
    return sourced(found, f"{Origin.read(table)}.")


def objects_shapes(results: Path) -> str:
    """Measurements of objects, next to those of the labels."""
    table = results / "objects" / "objects_found.csv"
    found = objects_table.shapes_table([list(row.values()) for row in lines(table)])
    return sourced(found, f"{Origin.read(table)}.")


def masks(results: Path) -> str:
    """The effect of masks of empty background on training images."""
    table = results / "choosing" / "masks.csv"
    found = masks_study.table([list(row.values()) for row in lines(table)])
    return sourced(found, f"{Origin.read(table)}.")


def objects_time(results: Path) -> str:
    """Time and memory of `sccs objects` by the size of the volume."""
    table = results / "objects" / "objects.csv"
    heads = ["volume, GiB", "shape (z, y, x)", "objects", "peak memory, GiB", "CPU seconds", "CPU seconds per GiB"]
    rows = [[row[head] for head in heads] for row in lines(table)]
    return sourced(markdown(heads, rows), f"{Origin.read(table)}; synthetic class maps, distances included.")


def soak(results: Path) -> str:
    """The outcome of commands that were killed, run at once, or stopped by a full disk."""
    table = results / "soak" / "soak.csv"
    rows = lines(table)
    counts = {kind: sum(row["trial"] == kind for row in rows) for kind in ("killed", "full", "together")}
    wrong = sum(bool(row["wrong"]) for row in rows)
    return paragraph(
        f"{counts['killed']} commands killed at a random moment, {counts['full']} on a disk that filled up, "
        f"{counts['together']} trials of eight at once: {wrong or 'none'} ended with anything lost, wrong or left over "
        f"([each command](../benchmarks/results/soak/soak.md); {Origin.read(table)})."
    )


QUOTES: dict[str, Callable[[Path], str]] = {
    "memory": memory,
    "seams": seams,
    "halos": halos,
    "depth": depth,
    "objects": objects,
    "masks": masks,
    "objects_shapes": objects_shapes,
    "objects_time": objects_time,
    "soak": soak,
}
