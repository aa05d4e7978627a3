"""The colours of clusters and classes: one table for figures, report, segmentations and `classes.yaml`.

Classes that the paper draws keep its colours (Figures 3 and 4: yellow nucleus, green mitochondria, blue granules);
clusters and further classes take a qualitative palette that stays apart under the common colour-vision deficiencies
(Paul Tol's "bright" and "muted" schemes). Colours are "#rrggbb" in lower case.
"""
from __future__ import annotations

import colorsys
import re
from typing import Sequence

import numpy as np

PAPER = {
    "nucleus": "#f0d22e",
    "mitochondria": "#2ca25f",
    "granules": "#3b6fd4",
    "unrecognized": "#4d4d4d",
}
SAME_CLASS = {
    "nuclei": "nucleus",
    "mitochondrion": "mitochondria",
    "mito": "mitochondria",
    "granule": "granules",
    "unrecognised": "unrecognized",
    "background": "unrecognized",
    "rest": "unrecognized",
    "other": "unrecognized",
}
PALETTE = (
    "#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#ee7733", "#bbbbbb",
    "#332288", "#44aa99", "#999933", "#882255", "#ddcc77", "#88ccee",
)  # fmt: skip
UNASSIGNED = "#000000"


def parse_colour(text: str) -> str:
    """'#0F0', '00ff00' or '#00FF00' -> '#00ff00'; ValueError for anything else."""
    digits = text.strip().lower().lstrip("#")
    if not re.fullmatch(r"[0-9a-f]{3}|[0-9a-f]{6}", digits):
        raise ValueError(f"not a colour: {text!r}")
    return "#" + ("".join(2 * c for c in digits) if len(digits) == 3 else digits)


def rgb(colours: Sequence[str]) -> np.ndarray:
    """n colours as text -> (n, 3) uint8, so that ``rgb(colours)[labels]`` paints labels (H, W) as (H, W, 3)."""
    return np.array([list(bytes.fromhex(c.lstrip("#"))) for c in colours], np.uint8).reshape(-1, 3)


def cluster_colours(k: int) -> list[str]:
    """One colour per cluster 0..k-1: the palette, then hues that the golden ratio spreads round the circle."""
    further = (colorsys.hsv_to_rgb(0.618034 * i % 1, 0.65, 0.55 + 0.35 * (i % 2)) for i in range(k - len(PALETTE)))
    return [*PALETTE[:k], *("#" + bytes(round(255 * c) for c in colour).hex() for colour in further)]


def class_colours(names: Sequence[str]) -> list[str]:
    """One colour per class name, in order: the paper's where it has one, else the next of the palette."""
    spare = iter(cluster_colours(len(names)))
    taken: list[str] = []
    for name in names:
        key = name.strip().lower()
        colour = PAPER.get(SAME_CLASS.get(key, key))
        taken.append(colour if colour and colour not in taken else next(spare))
    return taken
