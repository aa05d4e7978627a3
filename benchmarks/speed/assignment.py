"""Points to their nearest centroid: `registry.numeric.nearest.assign` against bare FAISS, scikit-learn and torch.

    python -m benchmarks.speed.assignment [--points 10000 ... 100000000] [--dimensions 12 192] [--k 8] [--repeats 3]
                                          [--device cpu|cuda] [--out benchmarks/results/quick]

Synthetic points (normal, one blob per centroid). More points than `--block` (a million) are sent as blocks of that
size, one after the other, all in the same memory: 10^8 points of 192 dimensions are 72 GiB, and no method holds more
than one block. Methods take turns. `wrong`: points whose label differs from plain distances in double precision (first
block); all four work in single precision, so such a point may lie between two centroids. Above 10^6 points, times are
of one round, otherwise medians. Writes OUT/assignment.md and .csv.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.distance import cdist

from benchmarks.pages import Origin, markdown, median_range, publish, typed
from registry.numeric.nearest import assign, load_faiss
from sccs.arguments import positive
from sccs.system.device import resolve_device
from sccs.system.exits import guard

COMMAND = "python -m benchmarks.speed.assignment"


Methods = dict[str, Callable[[np.ndarray], np.ndarray]]


def methods(centroids: np.ndarray, device: str) -> Methods:
    """By name: points (n, d) to the index of their nearest centroid."""
    from sklearn.metrics import pairwise_distances_argmin

    faiss = load_faiss()
    flat = faiss.IndexFlatL2(centroids.shape[1])
    if device != "cpu" and hasattr(faiss, "StandardGpuResources"):
        flat = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, flat)
    flat.add(centroids)
    c = torch.from_numpy(centroids).to(device)

    def plain(x: np.ndarray) -> np.ndarray:
        return torch.cdist(torch.from_numpy(x).to(device), c).argmin(1).cpu().numpy()

    return {
        "assign": lambda x: assign(x, centroids, device)[0],
        "FAISS": lambda x: flat.search(x, 1)[1][:, 0],
        "scikit-learn": lambda x: pairwise_distances_argmin(x, centroids),
        "torch": plain,
    }


def _blobs(count: int, centroids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Points (count, d) around the centroids."""
    k, d = centroids.shape
    return centroids[rng.integers(k, size=count)] + rng.standard_normal((count, d), np.float32)


def _in_turn(found: Methods, block: np.ndarray, sizes: Sequence[int], rounds: int) -> dict[str, list[float]]:
    """Seconds of each method and round for the first points of `block`, as many as `sizes` say, one after the other."""
    seconds: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(rounds):
        for name, method in found.items():
            start = time.perf_counter()
            for count in sizes:
                method(block[:count])
            seconds[name].append(time.perf_counter() - start)
    return seconds


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(COMMAND, description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--points", type=positive, nargs="+", default=[10**4, 10**5, 10**6, 10**7, 10**8])
    parser.add_argument("--dimensions", type=positive, nargs="+", default=[12, 192])
    parser.add_argument("--k", type=positive, default=8)
    parser.add_argument("--block", type=positive, default=10**6)
    parser.add_argument("--repeats", type=positive, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/quick"))
    args = parser.parse_args(argv)
    device = resolve_device(args.device)
    size = min(args.block, max(args.points))
    rows, lines = [], []
    for d in args.dimensions:
        rng = np.random.default_rng(0)
        centroids = rng.standard_normal((args.k, d)).astype(np.float32)
        block = _blobs(size, centroids, rng)
        parts = np.array_split(block, 64)
        true = np.concatenate([cdist(part, centroids, "sqeuclidean").argmin(1) for part in parts])
        found = methods(centroids, device)
        wrong = {name: int((method(block) != true).sum()) for name, method in found.items()}  # and warms up
        for n in args.points:
            sizes = [args.block] * (n // args.block) + [n % args.block] * (n % args.block > 0)
            for name, values in _in_turn(found, block, sizes, args.repeats if n <= 10**6 else 1).items():
                rows += [[d, n, name, turn, f"{value:.6f}"] for turn, value in enumerate(values)]
                rate = f"{n / np.median(values) / 1e6:.1f}"
                lines.append([str(d), f"{n:,}", name, median_range(values), rate, str(wrong[name])])
                print(*lines[-1], sep="  ", flush=True)
    heads = ["dimensions", "points", "method", "seconds: median (range)", "million points per second"]
    text = f"k = {args.k}, synthetic points; seconds.\n\n" + markdown([*heads, f"wrong of {size:,}"], lines)
    heads = ["dimensions", "points", "method", "round", "seconds"]
    origin = Origin.here(typed(COMMAND, argv), device)
    print(publish(args.out, "assignment", "Nearest centroids", origin, text, heads, rows))
    return 0


if __name__ == "__main__":
    sys.exit(guard(main)())
