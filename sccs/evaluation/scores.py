"""Scores of clusters under a mapping: DSC, IoU, sensitivity and accuracy of classes; spread and consistency."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sccs.evaluation.mappings import fit_mapping
from sccs.evaluation.tables import rest_position

MEASURES = ("dsc", "iou", "sensitivity", "accuracy")


def class_table(table: np.ndarray, mapping: np.ndarray, rest: int | None = None) -> np.ndarray:
    """Predicted class against true class, (C + 1, C): the last row is for clusters without a class."""
    C = table.shape[1]
    mapping = np.asarray(mapping)
    rows = np.where(mapping < 0, C if rest is None else rest, mapping)
    predicted = np.zeros((C + 1, C), np.int64)
    np.add.at(predicted, rows, table)
    return predicted


def scores(
    table: np.ndarray, mapping: np.ndarray, class_names: Sequence[str], rest: str | None = None
) -> dict[str, Any]:
    """DSC, IoU, sensitivity and accuracy of every class on `table` (k, C), and their means.

    DSC = 2TP / (2TP + FP + FN), IoU = TP / (TP + FP + FN), sensitivity = TP / (TP + FN), accuracy = (TP + TN) / N,
    over the pooled pixels. A class that is absent from the truth is excluded from the means; its DSC and IoU are 0 if
    it was predicted, and otherwise nan, like every other ratio with denominator zero.

    Returns ``{"classes": {name: {measure: value}}, "mean": {...}, "mean_without_rest": {...}}``; the two means are
    equal if there is no rest class (`rest_position`).
    """
    position = rest_position(class_names, rest)
    return _scores(class_table(table, mapping, position), class_names, position)


def _scores(predicted: np.ndarray, class_names: Sequence[str], position: int | None) -> dict[str, Any]:
    """`scores` of predicted against true classes, (C + 1, C)."""
    N = predicted.sum()
    TP = np.diag(predicted)
    FP, FN = predicted[:-1].sum(1) - TP, predicted.sum(0) - TP
    values = np.stack(  # (4, C), in the order of MEASURES
        [_ratio(2 * TP, 2 * TP + FP + FN), _ratio(TP, TP + FP + FN), _ratio(TP, TP + FN), _ratio(N - FP - FN, N)]
    )
    present = TP + FN > 0
    organelles = present & (np.arange(len(present)) != position)
    return {
        "classes": {name: dict(zip(MEASURES, values[:, c].tolist())) for c, name in enumerate(class_names)},
        "mean": _means(values[:, present]),
        "mean_without_rest": _means(values[:, organelles]),
    }


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    part, whole = np.broadcast_arrays(np.asarray(part, float), np.asarray(whole, float))
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


def _means(values: np.ndarray) -> dict[str, float]:
    return {m: float(row.mean()) if row.size else math.nan for m, row in zip(MEASURES, values)}


def slice_spread(
    tables: Sequence[np.ndarray], mapping: np.ndarray, class_names: Sequence[str], rest: str | None = None
) -> dict[str, dict[str, float]]:
    """Spread of the DSC over slices: ``{class: {mean, sd, n}}`` over the per-slice `tables` that contain the class.

    `sd` is the sample standard deviation, nan for fewer than two slices.
    """
    spread = {}
    per_slice = [scores(table, mapping, class_names, rest)["classes"] for table in tables]
    for c, name in enumerate(class_names):
        dsc = [s[name]["dsc"] for s, table in zip(per_slice, tables) if table[:, c].any()]
        spread[name] = mean_sd(dsc)
    return spread


def mean_sd(values: Sequence[float]) -> dict[str, float]:
    """``{mean, sd, n}`` with the sample standard deviation; nan if there are too few values."""
    n = len(values)
    return {
        "mean": float(np.mean(values)) if n else math.nan,
        "sd": float(np.std(values, ddof=1)) if n > 1 else math.nan,
        "n": n,
    }


def consistency(tables: Sequence[np.ndarray], class_names: Sequence[str], rest: str | None = None) -> dict[str, float]:
    """Do clusters mean the same in every image? The mean DSC per image, averaged over images, under two oracles:

    ``one_mapping``: one `oracle` map for all images together; ``per_image``: a separate `oracle` map for each
    image. Their ``gap`` (never negative up to `EXACT_CLUSTERS` clusters) is the cost of inconsistency.
    """
    position = rest_position(class_names, rest)
    labelled = [table for table in tables if table.any()]
    if not labelled:
        return {"one_mapping": math.nan, "per_image": math.nan, "gap": math.nan}
    common = fit_mapping("oracle", np.sum(labelled, axis=0), rest=position)
    one = np.mean([scores(t, common, class_names, rest)["mean"]["dsc"] for t in labelled])
    own_maps = [fit_mapping("oracle", t, rest=position) for t in labelled]
    own = np.mean([scores(t, m, class_names, rest)["mean"]["dsc"] for t, m in zip(labelled, own_maps)])
    return {"one_mapping": float(one), "per_image": float(own), "gap": float(own - one)}


def per_image(
    tables: Sequence[np.ndarray], rule: str, class_names: Sequence[str], rest: str | None = None
) -> dict[str, Any]:
    """`scores` with pixels pooled over images, and each image's clusters mapped by `rule` with its own labels.

    `hungarian` matches the paper's ablation "w/o NC_hm" with the ground truth. Like `oracle`, this is an upper bound,
    as it is impossible for images without labels.
    """
    position = rest_position(class_names, rest)
    labelled = [table for table in tables if table.any()]
    predicted = [class_table(table, fit_mapping(rule, table, rest=position), position) for table in labelled]
    return _scores(np.sum(predicted, axis=0), class_names, position) if predicted else {}


def json_safe(value: Any) -> Any:
    """NumPy scalars and arrays to plain Python, nan and infinities to None (JSON has neither)."""
    if isinstance(value, Mapping):
        return {str(key): json_safe(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_safe(item) for item in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return json_safe(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
