"""The rules that map k clusters to C classes.

All except `oracle` are fitted to the training table and applied to the test table:

=========== =======================================================================================================
train       many-to-one map that maximises the mean DSC on the labelled training volumes (the headline)
hungarian   one-to-one map with the largest summed Dice; left-over clusters go to the rest class, else by majority
greedy      rule of the authors' later code (CS2C, `cal_metrics.py`): one-to-one on Dice, then further clusters
majority    the most frequent class of the cluster's pixels
oracle      `train`, fitted to the test table: an upper bound that needs the test labels
named       the user named the clusters (`sccs name`)
=========== =======================================================================================================

A mapping is a (k,) int array of class positions; -1 is a cluster without class. If there is a rest class
("unrecognized"), such clusters count as that class; otherwise their pixels are missed by every class.
"""

from __future__ import annotations

from typing import get_args

import numpy as np
from scipy.optimize import linear_sum_assignment

from sccs.evaluation.tables import dice_table
from sccs.recipe.schema import MappingName

MAPPINGS: tuple[str, ...] = get_args(MappingName)  # a recipe chooses among them; named is extra
EXACT_CLUSTERS = 12  # 3^k subset pairs: 0.5 million at 12 clusters


def fit_mapping(rule: str, table: np.ndarray, *, rest: int | None = None) -> np.ndarray:
    """Mapping (k,) int64 that `rule` fits to `table` (k, C); `rest` is the position of the rest class, if any.

    Clusters only get classes that occur in the table. Clusters without a pixel in the table get the rest class, or
    without one the most frequent class. Ties go to the lower cluster and the lower class.
    ``fit_mapping("oracle", test_table)`` is the `train` rule; `named` is not fitted (`sccs.evaluation.naming`).
    """
    table = np.asarray(table, np.int64)
    rules = {"train": _best, "oracle": _best, "hungarian": _hungarian, "greedy": _greedy, "majority": _majority}
    if rule not in rules:
        raise ValueError(f"no mapping rule {rule!r}; there are {', '.join(rules)}")
    fallback = rest if rest is not None else int(table.sum(0).argmax())
    mapping = np.full(len(table), fallback, np.int64)
    used, present = np.flatnonzero(table.sum(1)), np.flatnonzero(table.sum(0))
    if len(used):
        rest_column = int(np.searchsorted(present, rest)) if rest is not None and rest in present else None
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
    """The map with the largest mean DSC: exact up to `EXACT_CLUSTERS` clusters, else by local search."""
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
    for c in range(C - 1, 0, -1):  # walk back: which of the remaining clusters does class c take?
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
    """Ascent that changes one or two clusters at a time, from several fixed starts, so that it is deterministic."""
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
    """Sum of the DSC over classes, for m mappings at once: (m, k) -> (m,)."""
    chosen = mappings[:, :, None] == np.arange(table.shape[1])  # (m, k, C)
    hit = np.einsum("mkc,kc->mc", chosen, table)
    predicted = np.einsum("mkc,k->mc", chosen, table.sum(1))
    return (2 * hit / (predicted + table.sum(0))).sum(1)
