"""`sccs compare-labels A B`: agreement of labels A with a reference B, by class or by object.

Both are read slab by slab; only the table of voxels shared by each pair of labels is kept.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from registry.base import UserError
from sccs.data.lazy import VolumeArray
from sccs.data.readers import ImageSource, expand, files_of, open_image
from sccs.inference.source import absolute
from sccs.instances.classes import stored_names
from sccs.system.apart import check_apart
from sccs.system.files import check_text_place, write_text
from sccs.system.lock import BRIEFLY, held
from sccs.system.log import say

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
SLAB = 1 << 24  # voxels read at once
CLASSES = 256


def shared_voxels(a: VolumeArray, b: VolumeArray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of labels that occur at the same voxels of two arrays of one shape (Z, Y, X): of a, of b (uint64), and the
    number of voxels (int64); each pair once."""
    Z, Y, X = a.shape
    depth = max(1, min(Z, SLAB // max(1, Y * X)))
    rows = max(1, min(Y, SLAB // max(1, X)))
    keys, counts = np.zeros((0, 2), np.uint64), np.zeros(0, np.int64)
    for start in range(0, Z, depth):
        for top in range(0, Y, rows):
            area = slice(start, min(start + depth, Z)), slice(top, min(top + rows, Y)), slice(0, X)
            one, other = (np.asarray(each[area]).ravel() for each in (a, b))
            names_a, of_a = np.unique(one, return_inverse=True)
            names_b, of_b = np.unique(other, return_inverse=True)
            pairs, found = np.unique(of_a * np.int64(len(names_b)) + of_b, return_counts=True)
            new = np.stack([names_a[pairs // len(names_b)], names_b[pairs % len(names_b)]], 1).astype(np.uint64)
            keys, back = np.unique(np.concatenate([keys, new]), axis=0, return_inverse=True)
            counts = np.bincount(back.ravel(), np.concatenate([counts, found])).astype(np.int64)
    return keys[:, 0], keys[:, 1], counts


def class_scores(a: VolumeArray, b: VolumeArray, ignore: int | None = 255) -> dict[int, dict[str, float]]:
    """By class code: Dice, IoU, precision and recall of class map `a` against the reference `b`, without voxels that
    are `ignore` in the reference. For classes in either; a ratio with denominator zero is nan."""
    of_a, of_b, counts = shared_voxels(a, b)
    if ignore is not None:
        kept = of_b != ignore
        of_a, of_b, counts = of_a[kept], of_b[kept], counts[kept]
    scores = {}
    for code in np.union1d(of_a, of_b).tolist():
        both = counts[(of_a == code) & (of_b == code)].sum()
        mine, right = counts[of_a == code].sum(), counts[of_b == code].sum()
        scores[int(code)] = {
            "dice": _ratio(2 * both, mine + right),
            "iou": _ratio(both, mine + right - both),
            "precision": _ratio(both, mine),
            "recall": _ratio(both, right),
        }
    return scores


def instance_scores(a: VolumeArray, b: VolumeArray, thresholds: Sequence[float] = THRESHOLDS) -> dict[str, Any]:
    """Objects `a` against the reference objects `b`; 0 is no object.

    An object is found if its IoU with a reference object is above the threshold (.5 or more, so that no object is
    found twice). Returns `found` and `reference`, the numbers of objects; `at`, by threshold `precision`, `recall`
    and `f1`; `panoptic_quality` = `segmentation_quality` (mean IoU of objects found above .5) x `recognition_quality`
    (f1 there); `split` and `merge`, the two halves of the variation of information (bits) over the voxels of reference
    objects; `dice` and `iou` of all objects together.
    """
    of_a, of_b, counts = shared_voxels(a, b)
    objects = (of_a > 0) & (of_b > 0)
    number_a, size_a = _sizes(of_a, counts)
    number_b, size_b = _sizes(of_b, counts)
    both = counts[objects]
    mine = size_a[np.searchsorted(number_a, of_a[objects])]
    right = size_b[np.searchsorted(number_b, of_b[objects])]
    iou = both / (mine + right - both)
    if min(thresholds, default=0.5) < 0.5:
        raise ValueError("thresholds: below .5 an object may be found twice")
    n, m = len(number_a), len(number_b)
    at = {t: _found(int((iou > t).sum()), n, m) for t in thresholds}
    good = iou[iou > 0.5]
    quality = float(good.mean()) if len(good) else math.nan
    recognition = _found(len(good), n, m)["f1"]
    split, merge = _variation(of_a, of_b, counts)
    one, other, common = size_a.sum(), size_b.sum(), both.sum()
    return {
        "found": n,
        "reference": m,
        "at": at,
        "panoptic_quality": _ratio(good.sum(), (n + m) / 2),
        "segmentation_quality": quality,
        "recognition_quality": recognition,
        "split": split,
        "merge": merge,
        "dice": _ratio(2 * common, one + other),
        "iou": _ratio(common, one + other - common),
    }


def _sizes(labels: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The objects among labels, and their sizes in voxels."""
    found, back = np.unique(labels, return_inverse=True)
    size = np.bincount(back, counts, len(found)).astype(np.int64)
    return found[found > 0], size[found > 0]


def _found(hits: int, n: int, m: int) -> dict[str, float]:
    return {"precision": _ratio(hits, n), "recall": _ratio(hits, m), "f1": _ratio(2 * hits, n + m)}


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else math.nan


def _variation(of_a: np.ndarray, of_b: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
    """H(a | b), for splits, and H(b | a), for merges, in bits, over voxels of reference objects."""
    kept = of_b > 0
    a, b, share = of_a[kept], of_b[kept], counts[kept] / max(1, counts[kept].sum())

    def entropy(values: np.ndarray) -> float:
        return float(-(values * np.log2(values)).sum())

    def of(labels: np.ndarray) -> np.ndarray:
        return np.bincount(np.unique(labels, return_inverse=True)[1], share)

    if not len(share):
        return math.nan, math.nan
    joint = entropy(share)
    return max(0.0, joint - entropy(of(b))), max(0.0, joint - entropy(of(a)))


# --------------------------------------------------------------------------------------------------------- the command
def compare_labels(
    a: str, b: str, *, instances: bool = False, ignore: int | None = 255, csv_file: str | None = None
) -> None:
    """Print the agreement of labels `a` with the reference `b`, files of one shape. instances: labels are objects.

    csv_file: also write the rows there; "-" prints only the CSV. Raises UserError for invalid labels and shapes.
    """
    sources = [_open(path) for path in (a, b)]
    if sources[0].shape != sources[1].shape:
        raise UserError(
            f"{a} has shape {sources[0].shape} (z, y, x), {b} {sources[1].shape}; give labels of the same image"
        )
    if csv_file not in (None, "-"):
        given = {name: [absolute(path), *files_of(each)] for name, path, each in zip("AB", (a, b), sources)}
        check_apart(str(csv_file), given, within=False)
        check_text_place(str(csv_file))
    for path, source in zip((a, b), sources):
        low, high = _range(source) if source.dtype != np.uint8 else (0, 0)
        if low < 0:
            raise UserError(f"{path}: contains {low}: labels must be 0 (no object) or more; replace negative values")
        if high >= CLASSES and not instances:
            raise UserError(f"{path}: contains {high}: class codes are 0 to 255; give --instances to compare objects")
    one, other = (source.array for source in sources)
    if instances:
        rows = list(_instance_rows(instance_scores(one, other)))
    else:
        names = {**stored_names(expand(a)), **stored_names(expand(b))}
        rows = list(_class_rows(class_scores(one, other, ignore), names))
    if csv_file != "-":
        say(_table(rows))
    if csv_file is not None:
        _write(csv_file, rows)


def _open(path: str) -> ImageSource:
    source = open_image(path, codes=True)
    if source.dtype.kind not in "iu":
        raise UserError(f"{path}: values are {source.dtype}, not labels; give whole numbers")
    return source


def _range(source: ImageSource) -> tuple[int, int]:
    low, high = zip(
        *((int(plane.min()), int(plane.max())) for plane in map(source.array.__getitem__, range(source.shape[0])))
    )
    return min(low), max(high)


def _class_rows(scores: Mapping[int, Mapping[str, float]], names: Mapping[int, str]) -> Iterator[dict[str, Any]]:
    for code, values in scores.items():
        yield {"class": names.get(code, f"label_{code}"), **values}


def _instance_rows(scores: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for name in ("found", "reference"):
        yield {"measure": f"objects, {name}", "value": scores[name]}
    for threshold, values in scores["at"].items():
        for name, value in values.items():
            yield {"measure": f"{name} at IoU > {threshold:g}", "value": value}
    for name in ("panoptic_quality", "segmentation_quality", "recognition_quality", "split", "merge", "dice", "iou"):
        said = {"split": "variation of information: split, bits", "merge": "variation of information: merge, bits"}
        yield {"measure": said.get(name, name.replace("_", " ")), "value": scores[name]}


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return "nothing to compare: all voxels are ignored"
    cells = [list(rows[0]), *([_shown(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells)]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(line, widths)).rstrip() for line in cells)


def _shown(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _write(path: str, rows: Sequence[Mapping[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(rows[0] if rows else [])
    writer.writerows(row.values() for row in rows)
    if path == "-":
        say(text.getvalue().rstrip("\n"))
        return
    with held(path, "sccs compare-labels", wait=BRIEFLY):
        write_text(path, text.getvalue())
