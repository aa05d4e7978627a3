"""How well superpixels follow the borders of labels, and their time: SLIC of scikit-image, of `registry.spg.slic` (the
same labels), and of `registry.spg.slic_grid`.

    python -m benchmarks.speed.superpixels [--data platelet hela ...] [--pixels 100] [--repeats 3]
                                           [--out benchmarks/results/quick]

Labelled slices (at most four FOVs per set) of the sets in SCCS_DATA, or else of the synthetic phantom. Boundary recall:
share of label borders with a border of superpixels at most 2 px away. Undersegmentation error (Neubert and Protzel
2012): pixels of superpixels that leak out of a label, counted on the smaller side. Achievable accuracy: share of pixels
that are right if every superpixel gets its best label. Methods take turns on each FOV. Writes OUT/superpixels.md and
.csv.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import QUICK_DATA, REAL
from benchmarks.pages import Origin, markdown, named, publish, typed
from registry.graph.superpixel import Superpixel, consecutive
from sccs.arguments import positive
from sccs.data import load_dataset
from sccs.recipe import load_recipe
from sccs.system.exits import guard

COMMAND = "python -m benchmarks.speed.superpixels"

ITSELF = "scikit-image's own function, 10 iterations"
METHODS: dict[str, dict[str, Any]] = {
    "its labels, 10 iterations": {},
    "its labels, 5 iterations": {"slic_iterations": 5},
    "grid, 10 iterations": {"slic": "grid"},
    "grid, 5 iterations": {"slic": "grid", "slic_iterations": 5},
    "grid, 5 iterations, compactness 0.15": {"slic": "grid", "slic_iterations": 5, "compactness": 0.15},
}


class OfScikitImage(Superpixel):
    """The same superpixels by the function that `registry.spg.slic` must equal."""

    def decompose(self, image: np.ndarray) -> np.ndarray:
        """Regions (H, W) of an image (H, W)."""
        from skimage.segmentation import slic

        grey = np.clip(image / 6 + 0.5, 0, 1).astype(np.float32)
        return consecutive(
            slic(
                grey,
                max(1, round(image.size / self.pixels_per_superpixel)),
                self.compactness,
                self.slic_iterations,
                channel_axis=None,
                start_label=0,
            )
        )


MEASURES = (
    "superpixels",
    "boundary recall",
    "undersegmentation error",
    "achievable accuracy",
    "seconds per 560 x 560 px",
)
NEAR = 2  # px
FOVS = 4


def _borders(labels: np.ndarray) -> np.ndarray:
    found = np.zeros(labels.shape, bool)
    found[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    found[1:] |= labels[1:] != labels[:-1]
    return found


def quality(regions: np.ndarray, labels: np.ndarray, scored: np.ndarray) -> tuple[float, ...]:
    """Superpixels, boundary recall, undersegmentation error, achievable accuracy; scored: (H, W) bool."""
    from scipy.ndimage import binary_dilation

    true = _borders(labels) & scored
    near = binary_dilation(_borders(regions), np.ones((2 * NEAR + 1,) * 2))
    n, classes = int(regions.max()) + 1, int(labels.max()) + 1
    table = np.bincount((regions.astype(np.int64) * classes + labels)[scored], minlength=n * classes).reshape(
        n, classes
    )
    leaks = np.minimum(table, table.sum(1, keepdims=True) - table).sum()
    return n, (true & near).sum() / max(true.sum(), 1), leaks / scored.sum(), table.max(1).sum() / scored.sum()


def _labelled(data: str) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Image (H, W), labels (H, W) and where they count, for at most FOVS fields of view."""
    block = load_recipe("sccs" if data == "phantom" else data, QUICK_DATA.get(data, [])).data
    assert block is not None
    dataset = load_dataset(block, Path.cwd(), 0)
    seen = 0
    for volume in (*dataset.train, *dataset.test):
        for fov in volume.fovs():
            if fov.labels is not None and seen < FOVS:
                seen += 1
                scored = np.isin(fov.labels, list(dataset.classes))
                yield fov.image, np.where(scored, fov.labels, 0).astype(np.int64), scored


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(COMMAND, description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--data", nargs="+", default=list(REAL) if os.environ.get("SCCS_DATA") else ["phantom"])
    parser.add_argument("--pixels", type=float, default=100.0, help="per superpixel")
    parser.add_argument("--repeats", type=positive, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/quick"))
    args = parser.parse_args(argv)
    parts = {
        ITSELF: OfScikitImage(pixels_per_superpixel=args.pixels),
        **{name: Superpixel(pixels_per_superpixel=args.pixels, **options) for name, options in METHODS.items()},
    }
    rows = []
    for data in args.data:
        for number, (image, labels, scored) in enumerate(_labelled(data)):
            seconds: dict[str, list[float]] = {name: [] for name in parts}
            found = {}
            for _ in range(args.repeats):
                for name, part in parts.items():
                    start = time.perf_counter()
                    found[name] = part.decompose(image)
                    seconds[name].append((time.perf_counter() - start) * 560**2 / image.size)
            rows += [
                [data, number, name, *quality(regions, labels, scored), np.median(seconds[name])]
                for name, regions in found.items()
            ]
    lines = []
    for data in args.data:
        for name in parts:
            values = np.mean([row[3:] for row in rows if row[0] == data and row[2] == name], axis=0)
            lines.append([named(data), name, f"{values[0]:.0f}", *(f"{value:.4f}" for value in values[1:])])
    print(
        publish(
            args.out,
            "superpixels",
            "Superpixels against labels",
            Origin.here(typed(COMMAND, argv)),
            f"Means over FOVs; times are medians of {args.repeats}.\n\n" + markdown(["set", "SLIC", *MEASURES], lines),
            ["set", "fov", "SLIC", *MEASURES],
            rows,
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(guard(main)())
