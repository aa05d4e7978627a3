"""The trees of `sccs teach`: `registry.numeric.trees` against scikit-learn's ExtraTreesClassifier.

    python -m benchmarks.speed.trees [--labels 30 150 1000 10000] [--asked 40000] [--repeats 5]
                                     [--out benchmarks/results/quick]

Synthetic points of 72 coordinates, as a teacher sees a superpixel, and five classes. 40,000 superpixels are a slice of
2,000 x 2,000 px. 100 trees, as many threads as torch has; methods take turns. Writes OUT/trees.md and .csv; ends with
an error if the mean probabilities of the two differ by more than .05.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.pages import Origin, markdown, median_range, publish, typed
from registry.base import UserError
from registry.numeric.trees import Trees
from sccs.arguments import positive
from sccs.system.exits import guard

COMMAND = "python -m benchmarks.speed.trees"
D, CLASSES, BLOBS, TREES = 72, 5, 12, 100
STEPS = ("grow", "ask")


def points(n: int, centres: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Points (n, D) float32 around centres, and their classes (n,): several blobs may share one."""
    blob = rng.integers(len(centres), size=n)
    return (centres[blob] + rng.standard_normal((n, D))).astype(np.float32), blob % CLASSES


def ours(X: np.ndarray, y: np.ndarray, asked: np.ndarray) -> tuple[np.ndarray, list[float]]:
    """Shares (n, CLASSES) of the points asked about, and seconds by step."""
    start = time.perf_counter()
    trees = Trees.grow(X, y, CLASSES, np.ones(len(X)), trees=TREES, leaf=1, seed=0)
    grown = time.perf_counter()
    return trees.predict(asked), [grown - start, time.perf_counter() - grown]


def theirs(X: np.ndarray, y: np.ndarray, asked: np.ndarray) -> tuple[np.ndarray, list[float]]:
    """The same by scikit-learn."""
    from sklearn.ensemble import ExtraTreesClassifier

    start = time.perf_counter()
    trees = ExtraTreesClassifier(TREES, n_jobs=torch.get_num_threads(), random_state=0).fit(X, y)
    grown = time.perf_counter()
    return trees.predict_proba(asked), [grown - start, time.perf_counter() - grown]


METHODS = {"registry.numeric.trees": ours, "scikit-learn": theirs}


def table(values: Sequence[Sequence[str]]) -> str:
    """The CSV's rows as a table."""
    seconds: dict[tuple[str, str], dict[str, list[float]]] = {}
    for labels, method, _, step, value in values:
        seconds.setdefault((labels, step), {}).setdefault(method, []).append(float(value))
    rows = []
    for (labels, step), by_method in seconds.items():
        own, other = (by_method[name] for name in METHODS)
        ratio = np.median(other) / np.median(own)
        rows.append([f"{int(labels):,}", step, median_range(own), median_range(other), f"{ratio:.1f}"])
    return markdown(["labels", "step", *METHODS, "ratio"], rows)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Raises UserError if the two do not agree."""
    parser = argparse.ArgumentParser(COMMAND, description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--labels", nargs="+", type=positive, default=[30, 150, 1000, 10000], metavar="N")
    parser.add_argument("--asked", type=positive, default=40000, metavar="N")
    parser.add_argument("--repeats", type=positive, default=5)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/quick"))
    args = parser.parse_args(argv)
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((BLOBS, D)) * np.linspace(1.5, 0.1, D)  # the first coordinates tell most
    asked, _ = points(args.asked, centres, rng)
    values = []
    for n in args.labels:
        X, y = points(n, centres, rng)
        y[:CLASSES] = np.arange(CLASSES)
        for turn in range(args.repeats + 1):
            means = []
            for name, method in METHODS.items():
                P, took = method(X, y, asked)
                means.append(P.mean(0))
                if turn:  # the first warms up
                    values += [[str(n), name, str(turn), step, f"{each:.6f}"] for step, each in zip(STEPS, took)]
            if (apart := float(np.abs(means[0] - means[1]).max())) > 0.05:
                raise UserError(f"{n} labels: mean probabilities differ by {apart:.3f}")
    text = (
        f"{TREES} trees, {args.asked:,} points asked about; seconds, medians (ranges) of {args.repeats} rounds, taking "
        f"turns.\n\n{table(values)}"
    )
    origin = Origin.here(typed(COMMAND, argv))
    heads = ["labels", "method", "round", "step", "seconds"]
    print(publish(args.out, "trees", "Trees that learn from a few labels", origin, text, heads, values))
    return 0


if __name__ == "__main__":
    sys.exit(guard(main)())
