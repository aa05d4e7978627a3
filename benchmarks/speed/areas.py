"""Openings and closings by area: `registry.numeric.areas` against scikit-image, with identical results.

    python -m benchmarks.speed.areas [--data platelet hela cdeep3m vnc phantom] [--areas 100 400 1600 6400 25600]
                                     [--repeats 5] [--out benchmarks/results/quick]

One FOV of each set, smoothed and quantised to 256 levels as in `features: filters`. Methods take turns. Writes
OUT/areas.md and .csv; ends with an error if the results differ.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.harness import QUICK_DATA, SETS
from benchmarks.pages import Origin, markdown, named, publish, typed
from registry.base import UserError
from registry.features.filters import FINEST, grey_levels
from registry.numeric.areas import area_closings, area_openings
from registry.numeric.smoothing import gaussian
from sccs.arguments import positive
from sccs.data import load_dataset
from sccs.recipe import load_recipe
from sccs.system.exits import guard

COMMAND = "python -m benchmarks.speed.areas"


def _ours(levels: np.ndarray, areas: Sequence[int]) -> np.ndarray:
    return np.concatenate([area_openings(levels, areas), area_closings(levels, areas)])


def _one_by_one(levels: np.ndarray, areas: Sequence[int]) -> np.ndarray:
    from skimage.morphology import area_closing, area_opening

    return np.stack([change(levels, area) for change in (area_opening, area_closing) for area in areas])


def one_tree(levels: np.ndarray, areas: Sequence[int]) -> np.ndarray:
    """scikit-image with its max-tree built once for all openings, and once for all closings."""
    from skimage.morphology import area_opening, max_tree

    found = []
    for image in (levels, 255 - levels):
        parent, order = max_tree(image, connectivity=1)
        found.append([area_opening(image, area, 1, parent, order) for area in areas])
    return np.stack(found[0] + [255 - image for image in found[1]])


METHODS: dict[str, Callable] = {
    "registry.numeric.areas": _ours,
    "scikit-image, one tree": one_tree,
    "scikit-image": _one_by_one,
}


def levels_of(data: str) -> np.ndarray:
    """The first training FOV (H, W) uint8."""
    block = load_recipe("sccs" if data == "phantom" else data, QUICK_DATA.get(data, [])).data
    assert block is not None
    fov = next(load_dataset(block, Path.cwd(), 0).train[0].fovs())
    return grey_levels(gaussian(np.ascontiguousarray(fov.image, np.float32), FINEST))


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(COMMAND, description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--data", nargs="+", default=list(SETS), choices=SETS, metavar="SET")
    parser.add_argument("--areas", nargs="+", type=positive, default=[100, 400, 1600, 6400, 25600], metavar="PIXELS")
    parser.add_argument("--repeats", type=positive, default=5)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/quick"))
    args = parser.parse_args(argv)
    rows, values = [], []
    for data in args.data:
        levels = levels_of(data)
        answers = [method(levels, args.areas) for method in METHODS.values()]  # warms up, too
        if not all(np.array_equal(answer, answers[0]) for answer in answers):
            raise UserError(f"{data}: the methods' results differ")
        seconds: dict[str, list[float]] = {name: [] for name in METHODS}
        for _ in range(args.repeats):
            for name, method in METHODS.items():
                start = time.perf_counter()
                method(levels, args.areas)
                seconds[name].append(time.perf_counter() - start)
        for name, found in seconds.items():
            values += [[data, name, i, f"{each:.6f}"] for i, each in enumerate(found)]
        middle = {name: float(np.median(found)) for name, found in seconds.items()}
        rows.append(
            [
                named(data),
                " x ".join(map(str, levels.shape)),
                *(f"{value:.3f}" for value in middle.values()),
                f"{middle['scikit-image, one tree'] / middle['registry.numeric.areas']:.0f}",
            ]
        )
        print(rows[-1], flush=True)
    text = (
        f"Seconds for openings and closings by {', '.join(map(str, args.areas))} px, medians of {args.repeats}, one "
        "thread, methods in turn; all give the same results.\n\n"
        + markdown(["FOV", "px", *METHODS, "one tree / ours"], rows)
    )
    heads = ["set", "method", "round", "seconds"]
    origin = Origin.here(typed(COMMAND, argv))
    print(publish(args.out, "areas", "Openings and closings by area", origin, text, heads, values))
    return 0


if __name__ == "__main__":
    sys.exit(guard(main)())
