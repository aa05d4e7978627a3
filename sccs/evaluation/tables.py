"""Tables of pixel counts, clusters against classes, (k, C) int64: the basis of every score.

They add up over FOVs, slices and volumes. Pixels outside the cell (`ignore`) are never counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from registry.base import UserError

REST_NAMES = ("unrecognized", "unrecognised", "rest", "other", "background")


def confusion(
    clusters: np.ndarray, labels: np.ndarray, k: int, classes: Sequence[int], ignore: int | None = None
) -> np.ndarray:
    """Pixel counts (k, C) int64 of clusters 0..k-1 against the class codes in `classes`, in their order.

    `clusters` and `labels` are integer arrays of one shape, (H, W) or (Z, H, W). Pixels whose label is `ignore` or
    not in `classes` are excluded. Raises ValueError if shapes differ or a cluster lies outside 0..k-1.
    """
    clusters, labels = np.asarray(clusters), np.asarray(labels)
    if clusters.shape != labels.shape:
        raise ValueError(f"clusters {clusters.shape} and labels {labels.shape} differ in shape")
    if clusters.size and not 0 <= clusters.min() <= clusters.max() < k:
        raise ValueError(f"clusters {clusters.min()}..{clusters.max()} lie outside 0..{k - 1}")
    codes = np.asarray(classes, np.int64)
    order = np.argsort(codes)
    slot = np.searchsorted(codes[order], labels.ravel()).clip(max=len(codes) - 1)
    column = order[slot]
    scored = codes[column] == labels.ravel()
    if ignore is not None:
        scored &= labels.ravel() != ignore
    cells = clusters.ravel()[scored].astype(np.int64) * len(codes) + column[scored]
    return np.bincount(cells, minlength=k * len(codes)).reshape(k, len(codes))


def rest_position(class_names: Sequence[str], rest: str | None = None) -> int | None:
    """Position of the rest class: the one called `rest`, else the first of `REST_NAMES` that occurs, else None.

    Raises UserError if `rest` is given but is not one of the classes.
    """
    names = [name.strip().lower() for name in class_names]
    if rest is not None and names and rest.strip().lower() not in names:
        raise UserError(f"evaluation.rest: {rest!r} is not a class; the classes are {', '.join(class_names)}")
    for candidate in REST_NAMES if rest is None else (rest.strip().lower(),):
        if candidate in names:
            return names.index(candidate)
    return None


def dice_table(table: np.ndarray) -> np.ndarray:
    """Dice (k, C) of every cluster with every class; 0 where both are empty."""
    total = table.sum(1, keepdims=True) + table.sum(0, keepdims=True)
    return 2 * table / np.maximum(total, 1)


def by_slice(tables: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Tables by FOV key "volume:z:y:x" -> their sums by slice "volume:z"."""
    slices: dict[str, np.ndarray] = {}
    for key, table in tables.items():
        name = key.rsplit(":", 2)[0]
        slices[name] = slices[name] + table if name in slices else np.array(table)
    return slices
