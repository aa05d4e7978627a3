"""Scores of a segmentation: one confusion matrix, the rules that give clusters a class, and what follows from them.

Everything is computed from tables of pixel counts with one row per cluster and one column per class, (k, C) int64.
Tables add up: over FOVs, slices and volumes. Pixels outside the cell (`ignore`) never enter a table.

The rules, k clusters -> C classes (all but `oracle` are fitted on the training table and applied to the test table):

=========== =======================================================================================================
train       many-to-one map that maximises the mean DSC on the labelled training volumes (the headline)
hungarian   one-to-one map of the greatest summed Dice; left-over clusters go to the rest class, else by majority
greedy      rule of the authors' later code (CS2C, `cal_metrics.py`): one-to-one on Dice, then further clusters
majority    the class that most of the cluster's pixels have
oracle      `train`, fitted on the test table: an upper bound that needs the test labels
named       a person named the clusters (`sccs name`)
=========== =======================================================================================================

A mapping is a (k,) int array of class positions; -1 is a cluster without class. Where there is a rest class
("unrecognized"), such clusters count as that class, otherwise their pixels are missed by every class.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from registry.base import UserError
from sccs.evaluation.continuity import z_consistency

MEASURES = ("dsc", "iou", "sensitivity", "accuracy")
MAPPINGS = ("train", "hungarian", "greedy", "majority", "oracle")  # a recipe chooses among them; named is extra
PER_IMAGE = ("hungarian", "oracle")  # rules that are also fitted on each test image by itself, an upper bound
REST_NAMES = ("unrecognized", "unrecognised", "rest", "other", "background")
IN_USE = 0.001  # share of the pixels from which a cluster counts as used
EXACT_CLUSTERS = 12  # 3^k subset pairs: 0.5 million at 12 clusters


# ---------------------------------------------------------------------------------------------------------- tables
def confusion(
    clusters: np.ndarray, labels: np.ndarray, k: int, classes: Sequence[int], ignore: int | None = None
) -> np.ndarray:
    """Pixel counts (k, C) int64 of clusters 0..k-1 against the class codes in `classes`, in their order.

    `clusters` and `labels` are integer arrays of one shape, (H, W) or (Z, H, W). Pixels whose label is `ignore` or
    no code of `classes` are left out. ValueError if shapes differ or a cluster lies outside 0..k-1.
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

    UserError if `rest` is asked for and is none of the classes.
    """
    names = [name.strip().lower() for name in class_names]
    if rest is not None and names and rest.strip().lower() not in names:
        raise UserError(f"evaluation.rest: {rest!r} is no class; the classes are {', '.join(class_names)}")
    for candidate in REST_NAMES if rest is None else (rest.strip().lower(),):
        if candidate in names:
            return names.index(candidate)
    return None


def dice_table(table: np.ndarray) -> np.ndarray:
    """Dice (k, C) of every cluster with every class; 0 where both are empty."""
    total = table.sum(1, keepdims=True) + table.sum(0, keepdims=True)
    return 2 * table / np.maximum(total, 1)


# -------------------------------------------------------------------------------------------------------- mappings
def fit_mapping(rule: str, table: np.ndarray, *, rest: int | None = None) -> np.ndarray:
    """Mapping (k,) int64 that `rule` fits on `table` (k, C); `rest` is the rest class's position, if there is one.

    Only classes that occur in the table are given to clusters. Clusters without a pixel in the table take the rest
    class, or the most frequent one where there is no rest class. Ties go to the lower cluster and the lower class.
    ``fit_mapping("oracle", test_table)`` is the `train` rule; `named` is fitted by nobody (see `sccs.evaluation.naming`).
    """
    table = np.asarray(table, np.int64)
    rules = {"train": _best, "oracle": _best, "hungarian": _hungarian, "greedy": _greedy, "majority": _majority}
    if rule not in rules:
        raise ValueError(f"no mapping rule {rule!r}; there are {', '.join(rules)}")
    fallback = rest if rest is not None else int(table.sum(0).argmax())
    mapping = np.full(len(table), fallback, np.int64)
    used, present = np.flatnonzero(table.sum(1)), np.flatnonzero(table.sum(0))
    if len(used):
        rest_column = int(np.searchsorted(present, rest)) if rest in present else None
        columns = rules[rule](table[np.ix_(used, present)], rest_column)
        fitted = np.where(columns >= 0, present[columns], -1)
        mapping[used] = fitted if rest is None else np.where(fitted < 0, rest, fitted)
    return mapping


def _majority(table: np.ndarray, rest: int | None) -> np.ndarray:
    return table.argmax(1)


def _hungarian(table: np.ndarray, rest: int | None) -> np.ndarray:
    """One-to-one on Dice. A pair without a common pixel is arbitrary, so its cluster counts as left over."""
    dice = dice_table(table)
    mapping = table.argmax(1) if rest is None else np.full(len(table), -1)
    for cluster, column in zip(*linear_sum_assignment(dice, maximize=True)):
        if dice[cluster, column] > 0:
            mapping[cluster] = column
    return mapping


def _greedy(table: np.ndarray, rest: int | None) -> np.ndarray:
    """CS2C: one-to-one on Dice without pairs below .1; then every class but the rest takes, in class order, unused
    clusters with Dice(class) > .1 and Dice(rest) < .3; what remains has no class (that is: the rest class)."""
    dice = dice_table(table)
    mapping = np.full(len(table), -1)
    for cluster, column in zip(*linear_sum_assignment(dice, maximize=True)):
        if dice[cluster, column] >= 0.1:
            mapping[cluster] = column
    free_of_rest = np.ones(len(table), bool) if rest is None else dice[:, rest] < 0.3
    for column in range(table.shape[1]):
        if column != rest:
            mapping[(mapping < 0) & (dice[:, column] > 0.1) & free_of_rest] = column
    return mapping


def _best(table: np.ndarray, rest: int | None) -> np.ndarray:
    """The map of the greatest mean DSC: exact up to `EXACT_CLUSTERS` clusters, else a local search."""
    return _best_exact(table) if len(table) <= EXACT_CLUSTERS else _best_by_search(table)


def _best_exact(table: np.ndarray) -> np.ndarray:
    """Exact maximum of sum_c DSC_c, by dynamic programming over sets of clusters.

    DSC_c depends only on the set S of clusters that class c gets. With g_c(S) the best sum of the classes up to c
    when they share S, g_c(S) = max over T within S of DSC_c(T) + g_{c-1}(S - T): 3^k pairs a class instead of C^k maps.
    """
    k, C = table.shape
    sets = (np.arange(1 << k)[:, None] >> np.arange(k)) & 1  # (2^k, k): set s holds cluster i
    overlap = sets @ table  # (2^k, C)
    dsc = 2 * overlap / (overlap.sum(1, keepdims=True) + table.sum(0))  # (2^k, C); no column of zeros comes here
    best = [dsc[:, 0]]
    for c in range(1, C - 1):
        best.append(_max_plus(dsc[:, c], best[-1]))
    mapping = np.zeros(k, np.int64)
    left = (1 << k) - 1
    for c in range(C - 1, 0, -1):  # walk back: which part of the clusters left does class c take?
        parts = np.flatnonzero((np.arange(1 << k) & ~left) == 0)
        part = int(parts[np.argmax(dsc[parts, c] + best[c - 1][left ^ parts])])
        mapping[sets[part] == 1] = c
        left ^= part
    return mapping


def _max_plus(f: np.ndarray, g: np.ndarray) -> np.ndarray:
    """h(S) = max over T within S of f(T) + g(S - T), for functions of sets given as (2^k,) arrays."""
    f, g = f[None], g[None]  # (pairs, 2^bits): split off the highest cluster until single numbers are left
    bits = f.shape[1].bit_length() - 1
    for _ in range(bits):
        (f0, f1), (g0, g1) = np.split(f, 2, 1), np.split(g, 2, 1)
        f, g = np.concatenate([f0, f1, f0]), np.concatenate([g0, g0, g1])
    h = f + g
    for _ in range(bits):
        without, in_f, in_g = np.split(h, 3)
        h = np.concatenate([without, np.maximum(in_f, in_g)], 1)
    return h[0]


def _best_by_search(table: np.ndarray) -> np.ndarray:
    """Ascent over changes of one or two clusters at a time, from several fixed starts: the same table, the same map."""
    k, C = table.shape
    rng = np.random.default_rng(0)
    starts = [_majority(table, None), _hungarian(table, None), dice_table(table).argmax(1)]
    starts += [rng.integers(C, size=k) for _ in range(5)]
    ends = [_ascend(table, start) for start in starts]
    return max(ends, key=lambda mapping: _summed_dsc(table, mapping[None])[0])


def _ascend(table: np.ndarray, mapping: np.ndarray) -> np.ndarray:
    k, C = table.shape
    score = _summed_dsc(table, mapping[None])[0]
    singles = [(i, i) for i in range(k)]
    pairs = [(i, j) for i in range(k) for j in range(i)]
    a, b = (choice.ravel() for choice in np.meshgrid(np.arange(C), np.arange(C), indexing="ij"))
    improved = True
    while improved:
        improved = False
        for i, j in singles + pairs:
            tries = np.repeat(mapping[None], C * C, 0)  # (C^2, k)
            tries[:, i], tries[:, j] = a, b
            scores_ = _summed_dsc(table, tries)
            if scores_.max() > score + 1e-12:
                mapping, score, improved = tries[scores_.argmax()], scores_.max(), True
    return mapping


def _summed_dsc(table: np.ndarray, mappings: np.ndarray) -> np.ndarray:
    """Sum over classes of the DSC, for m mappings at once: (m, k) -> (m,)."""
    chosen = mappings[:, :, None] == np.arange(table.shape[1])  # (m, k, C)
    hit = np.einsum("mkc,kc->mc", chosen, table)
    predicted = np.einsum("mkc,k->mc", chosen, table.sum(1))
    return (2 * hit / (predicted + table.sum(0))).sum(1)


# ---------------------------------------------------------------------------------------------------------- scores
def class_table(table: np.ndarray, mapping: np.ndarray, rest: int | None = None) -> np.ndarray:
    """Predicted class against true class, (C + 1, C): the last row holds the clusters without a class."""
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
    over the pooled pixels. A class that is absent from the truth is left out of the means; where it was predicted all
    the same its DSC and IoU are 0, where it was not they are nan, like every other ratio without a denominator.

    Returns ``{"classes": {name: {measure: value}}, "mean": {...}, "mean_without_rest": {...}}``; the two means are the
    same where no class is a rest class (`rest_position`).
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
    """DSC from slice to slice: ``{class: {mean, sd, n}}`` over those of the per-slice `tables` that hold the class.

    `sd` is the sample standard deviation, nan for fewer than two slices.
    """
    spread = {}
    per_slice = [scores(table, mapping, class_names, rest)["classes"] for table in tables]
    for c, name in enumerate(class_names):
        dsc = [s[name]["dsc"] for s, table in zip(per_slice, tables) if table[:, c].any()]
        spread[name] = mean_sd(dsc)
    return spread


def mean_sd(values: Sequence[float]) -> dict[str, float]:
    """``{mean, sd, n}`` with the sample standard deviation; nan where there are too few values."""
    n = len(values)
    return {
        "mean": float(np.mean(values)) if n else math.nan,
        "sd": float(np.std(values, ddof=1)) if n > 1 else math.nan,
        "n": n,
    }


def consistency(tables: Sequence[np.ndarray], class_names: Sequence[str], rest: str | None = None) -> dict[str, float]:
    """Do clusters mean the same in every image? The mean DSC per image, averaged over images, under two oracles:

    ``one_mapping``: one `oracle` map for all images together; ``per_image``: an `oracle` map of its own for each
    image. Their ``gap`` (never negative up to `EXACT_CLUSTERS` clusters) is what the inconsistency costs.
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
    """`scores`, pixels pooled over images, where each image's clusters are mapped by `rule` with its own labels.

    `hungarian` is how the paper's ablation "w/o NC_hm" is matched with the ground truth. An upper bound, as `oracle`
    is: nothing of the kind can be had for an image without labels.
    """
    position = rest_position(class_names, rest)
    labelled = [table for table in tables if table.any()]
    predicted = [class_table(table, fit_mapping(rule, table, rest=position), position) for table in labelled]
    return _scores(np.sum(predicted, axis=0), class_names, position) if predicted else {}


def usage(pixels: np.ndarray) -> tuple[list[float], int]:
    """Share of every cluster in the (k,) pixel counts, and how many hold at least `IN_USE` of the pixels."""
    share = np.asarray(pixels, float) / max(np.sum(pixels), 1)
    return share.tolist(), int((share >= IN_USE).sum())


# ------------------------------------------------------------------------------------------------------ whole runs
def by_slice(tables: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Tables by FOV key "volume:z:y:x" -> their sums by slice "volume:z"."""
    slices: dict[str, np.ndarray] = {}
    for key, table in tables.items():
        name = key.rsplit(":", 2)[0]
        slices[name] = slices[name] + table if name in slices else np.array(table)
    return slices


def evaluate(
    train: Mapping[str, np.ndarray],
    test: Mapping[str, np.ndarray],
    class_names: Sequence[str],
    *,
    k: int,
    named: np.ndarray | None = None,
    rest: str | None = None,
    mappings: Sequence[str] = MAPPINGS,
    headline: str = "train",
    train_pixels: np.ndarray | None = None,
    test_pixels: np.ndarray | None = None,
    supervised: Sequence[str] = (),
    neighbours: Mapping[str, Mapping] | None = None,
) -> dict[str, Any]:
    """The contents of `metrics.json` (nan -> null) from the labelled FOVs of both parts.

    `train` and `test` map FOV keys "volume:z:y:x" to tables (k, C); FOVs without labels are left out, so either may
    be empty. `named` is a person's mapping (k,) (`sccs.evaluation.naming.named_mapping`); `rest`, `mappings` and `headline` are
    the recipe's `evaluation` block. `train_pixels`, `test_pixels` (k,) count the pixels per cluster over *all* FOVs,
    labelled or not; without them the tables' rows are counted. `supervised` names parts that were trained on labels.
    `neighbours` {train, test}: `sccs.evaluation.continuity.NeighbourTables.to_lists` of slices that are neighbours.

    Keys: ``test``, ``train`` {mapping: `scores`}; ``headline``, the mapping to quote: the one asked for, or the next
    of train, named and the others that there is; ``mapping`` {name: class name or null per cluster}; ``per_slice``
    {mapping: `slice_spread` of the test slices}; ``consistency`` of the test FOVs; ``per_image`` {rule: `per_image` of
    the test FOVs} for hungarian and oracle; ``z_consistency`` {train, test: `sccs.evaluation.continuity.z_consistency`}, of parts
    with neighbouring slices; ``clusters_used``, ``clusters_any``,
    ``cluster_share`` {train, test}; ``k``, ``classes``, ``rest``; ``notes``, what a reader must be told. If no
    training pixel has a label, only `oracle` and `named` are reported, and a note says so.
    """
    position = rest_position(class_names, rest)
    empty = np.zeros((k, len(class_names)), np.int64)
    train_table, test_table = (sum(part.values(), empty) for part in (train, test))
    notes = []
    fitted = {}
    if supervised:
        notes.append(
            f"supervised: {' and '.join(supervised)} learned from the labels of the training volumes, so this "
            "is a reference and no unsupervised result"
        )
    if not (train_table.any() or test_table.any()):
        notes.append("no labels, hence no scores; the report shows the clusters, and `sccs name` gives them names")
    elif not train_table.any():
        notes.append("no labels in the training volumes: only the mappings oracle and named can be reported")
    elif not test_table.any():
        notes.append("no labels in the test volumes: nothing to score there")
    if train_table.any():
        fitted = {name: fit_mapping(name, train_table, rest=position) for name in mappings if name != "oracle"}
    if test_table.any() and ("oracle" in mappings or not fitted):
        fitted["oracle"] = fit_mapping("oracle", test_table, rest=position)
    if named is not None:
        fitted["named"] = np.asarray(named, np.int64)
    missing = [name for name, present in zip(class_names, train_table.any(0)) if not present]
    if train_table.any() and missing:
        notes.append(f"no training pixel is labelled {', '.join(missing)}: only oracle and named can assign it")

    pixels = {
        "train": train_table.sum(1) if train_pixels is None else np.asarray(train_pixels),
        "test": test_table.sum(1) if test_pixels is None else np.asarray(test_pixels),
    }
    slices = list(by_slice(test).values())
    label = [*class_names, None]  # position -1 is no class

    def scored(table: np.ndarray, leave: str = "") -> dict[str, Any]:
        kept = {name: m for name, m in fitted.items() if name != leave}
        return {name: scores(table, m, class_names, rest) for name, m in kept.items()} if table.any() else {}

    return json_safe(
        {
            "headline": next((name for name in (headline, "train", "named", *fitted) if name in fitted), None),
            "test": scored(test_table),
            "train": scored(train_table, leave="oracle"),
            "mapping": {name: [label[c] for c in m] for name, m in fitted.items()},
            "per_slice": {n: slice_spread(slices, m, class_names, rest) for n, m in fitted.items()} if slices else {},
            "consistency": consistency(list(test.values()), class_names, rest),
            "per_image": {rule: per_image(list(test.values()), rule, class_names, rest) for rule in PER_IMAGE},
            "z_consistency": {
                part: along
                for part, tables in (neighbours or {}).items()
                if (along := z_consistency(tables, fitted, position))
            },
            "clusters_used": {part: usage(count)[1] for part, count in pixels.items()},
            "clusters_any": {part: int((count > 0).sum()) for part, count in pixels.items()},
            "cluster_share": {part: usage(count)[0] for part, count in pixels.items()},
            "k": k,
            "classes": list(class_names),
            "rest": None if position is None else class_names[position],
            "notes": notes,
        }
    )


def mapping_array(names: Sequence[str | None], class_names: Sequence[str]) -> np.ndarray:
    """Back from ``metrics["mapping"][rule]``, a class name or None per cluster, to a mapping (k,) int64."""
    return np.array([-1 if name is None else list(class_names).index(name) for name in names], np.int64)


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
