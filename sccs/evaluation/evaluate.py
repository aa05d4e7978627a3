"""The content of metrics.json: every fitted mapping, every score, and notes for the reader.

Its keys: ``test``, ``train`` {mapping: `scores`}; ``headline``, the mapping to quote: the requested one, or else the
first available of train, named and the others; ``mapping`` {name: class name or null per cluster}; ``per_slice``
{mapping: `slice_spread` of the test slices}; ``consistency`` of the test FOVs; ``per_image`` {rule: `per_image` of
the test FOVs} for hungarian and oracle; ``z_consistency`` {train, test:
`sccs.evaluation.continuity.z_consistency`}, of parts with neighbouring slices; ``clusters_used``,
``clusters_any``, ``cluster_share`` {train, test}; ``k``, ``classes``, ``rest``; ``agreement``, the
share of the training nodes for which a neural clustering head agrees with its teacher, or null; ``notes`` for the
reader. If no training pixel has a label, only `oracle` and `named` are reported, and a note says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sccs.evaluation.continuity import z_consistency
from sccs.evaluation.mappings import MAPPINGS, fit_mapping
from sccs.evaluation.scores import consistency, json_safe, per_image, scores, slice_spread
from sccs.evaluation.tables import by_slice, rest_position

PER_IMAGE = ("hungarian", "oracle")  # rules that are also fitted to each test image separately, as an upper bound
UNSCORED = "the images have no labels, so nothing is scored; name the clusters in the report, or with `sccs name`"
IN_USE = 0.001  # share of the pixels from which a cluster counts as used


def usage(pixels: np.ndarray) -> tuple[list[float], int]:
    """Each cluster's share of the (k,) pixel counts, and the number of clusters with a share of at least `IN_USE`."""
    share = np.asarray(pixels, float) / max(np.sum(pixels), 1)
    return share.tolist(), int((share >= IN_USE).sum())


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
    agreement: float | None = None,
) -> dict[str, Any]:
    """The content of `metrics.json` (nan -> null) from the labelled FOVs of both parts.

    `train` and `test` map FOV keys "volume:z:y:x" to tables (k, C), without unlabelled FOVs, so either may be empty.
    `named` is the user's mapping (k,) (`sccs.evaluation.naming.named_mapping`); `rest`, `mappings` and
    `headline` come from the recipe's `evaluation` block. `train_pixels`, `test_pixels` (k,) count the pixels per
    cluster over *all* FOVs, labelled or not; without them the tables' rows are counted. `supervised` names parts that
    were trained on labels. `neighbours` {train, test}: `sccs.evaluation.continuity.NeighbourTables.to_lists` of
    neighbouring slices. `agreement`: of a head with its teacher. The module's docstring lists the keys.
    """
    position = rest_position(class_names, rest)
    empty = np.zeros((k, len(class_names)), np.int64)
    train_table, test_table = (sum(part.values(), empty) for part in (train, test))
    fitted = _fitted(train_table, test_table, mappings, named, position)
    pixels = {
        "train": train_table.sum(1) if train_pixels is None else np.asarray(train_pixels),
        "test": test_table.sum(1) if test_pixels is None else np.asarray(test_pixels),
    }
    slices, images = list(by_slice(test).values()), list(test.values())
    label = [*class_names, None]  # position -1 means no class

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
            "consistency": consistency(images, class_names, rest),
            "per_image": {rule: per_image(images, rule, class_names, rest) for rule in PER_IMAGE},
            "z_consistency": {
                part: along
                for part, tables in (neighbours or {}).items()
                if (along := z_consistency(tables, fitted, position))
            },
            **_use(pixels),
            "k": k,
            "classes": list(class_names),
            "rest": None if position is None else class_names[position],
            "agreement": agreement,
            "notes": _notes(train_table, test_table, class_names, supervised),
        }
    )


def evaluate_taught(
    metrics: dict[str, Any], tables: Mapping[str, Mapping[str, Sequence]], classes: Sequence[str]
) -> None:
    """Add the teacher's scores, as mapping `taught`, to the content of `metrics.json`.

    tables: {train, test} {FOV key: (len(classes), C)}, pixels of each taught class against the labels. Classes match
    regardless of case; unlabelled ones count as the rest class.
    """
    names, rest = metrics["classes"], metrics["rest"]
    position = {name.strip().lower(): c for c, name in reversed(list(enumerate(names)))}
    mapping = np.array([position.get(name.strip().lower(), -1) for name in classes], np.int64)
    for part, by_fov in tables.items():
        counted = {key: np.array(table, np.int64).reshape(len(classes), len(names)) for key, table in by_fov.items()}
        if not any(table.any() for table in counted.values()):
            continue
        metrics[part]["taught"] = json_safe(scores(np.sum(list(counted.values()), 0), mapping, names, rest))
        if part == "test":
            spread = slice_spread(list(by_slice(counted).values()), mapping, names, rest)
            metrics["per_slice"]["taught"] = json_safe(spread)


def _fitted(
    train: np.ndarray, test: np.ndarray, mappings: Sequence[str], named: np.ndarray | None, rest: int | None
) -> dict[str, np.ndarray]:
    """The mappings (k,) that the tables (k, C) of both parts allow, and the user's."""
    fitted = {}
    if train.any():
        fitted = {name: fit_mapping(name, train, rest=rest) for name in mappings if name != "oracle"}
    if test.any() and ("oracle" in mappings or not fitted):
        fitted["oracle"] = fit_mapping("oracle", test, rest=rest)
    if named is not None:
        fitted["named"] = np.asarray(named, np.int64)
    return fitted


def _use(pixels: Mapping[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    """For each part, the number of clusters in use, of clusters with any pixel, and each cluster's share."""
    return {
        "clusters_used": {part: usage(count)[1] for part, count in pixels.items()},
        "clusters_any": {part: int((count > 0).sum()) for part, count in pixels.items()},
        "cluster_share": {part: usage(count)[0] for part, count in pixels.items()},
    }


def _notes(train: np.ndarray, test: np.ndarray, class_names: Sequence[str], supervised: Sequence[str]) -> list[str]:
    """Notes for the reader, given the tables (k, C) of both parts."""
    notes = []
    if supervised:
        notes.append(
            f"supervised: {' and '.join(supervised)} learned from the labels of the training volumes, so this "
            "is a reference, not an unsupervised result"
        )
    if not (train.any() or test.any()):
        notes.append(UNSCORED)
    elif not train.any():
        notes.append("no labels in the training volumes: only the mappings oracle and named can be reported")
    elif not test.any():
        notes.append("no labels in the test volumes: nothing to score there")
    missing = [name for name, count in zip(class_names, train.sum(0)) if not count]
    if train.any() and missing:
        notes.append(f"classes without training labels: {', '.join(missing)}; only oracle and named can assign them")
    return notes
