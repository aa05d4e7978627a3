"""What overlaps cost: slices in overlapping fields of view, stitched, against the same slices in separate ones.

    python -m benchmarks.speed.overlaps [--systems sccs sccs_fast sccs_plus] [--sides 1024 2000 3360] [--repeats 3]
                                        [--out benchmarks/results/quick]

Slices are square, of repeated smooth noise. The two ways take turns. *px seen*: pixels of all overlapping fields of
view over those of the slice, which is what they would cost if they shared nothing. Of 3,360 px, all fields of view have
the size that they have in larger slices. Writes OUT/overlaps.md and .csv.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.pages import Origin, markdown, median_range, publish, typed
from benchmarks.speed.timing import SIDE, trained
from benchmarks.speed.whole import noise_tile
from sccs.arguments import positive
from sccs.inference.blocks import Fields, overlapping, separate
from sccs.inference.labels import Slice, label_fovs, sharing
from sccs.model.model import Model
from sccs.system.exits import guard

COMMAND = "python -m benchmarks.speed.overlaps"
WAYS = ("stitched", "separate")
HEADER = ["system", "side", "way", "fields of view", "px seen", "round", "seconds"]


def labelled(model: Model, image: np.ndarray, fields: Fields) -> np.ndarray:
    """Clusters (Y, X) uint8 of a standardised slice (Y, X), as `sccs segment` computes them."""
    found = Slice(fields)
    views = ((place, y, x, image[y.low : y.high, x.low : x.high]) for place, y, x in fields)
    with sharing(model, len(fields)):
        found.labels.update((place, labels) for place, labels, _ in label_fovs(model, None, 0, views))
    return found.plane()


def of_system(system: str, sides: Sequence[int], repeats: int) -> list[list[str]]:
    """The CSV's rows."""
    model, tile = trained(system), noise_tile().astype(np.float32)
    tile = (tile - tile.mean()) / tile.std()
    model.segment_fov(tile[:SIDE, :SIDE])  # warms up
    rows = []
    for side in sides:
        image = np.tile(tile, (-(-side // len(tile)),) * 2)[:side, :side]
        ways = dict(
            zip(WAYS, (overlapping(image.shape, SIDE, context=model.features.context), separate(image.shape, SIDE)))
        )
        for turn in range(repeats):
            for way, fields in ways.items():
                start = time.perf_counter()
                labelled(model, image, fields)
                seconds = f"{time.perf_counter() - start:.4f}"
                seen = f"{fields.seen / image.size:.3f}"
                rows.append([system, str(side), way, str(len(fields)), seen, str(turn), seconds])
    return rows


def times(rows: Sequence[Sequence[str]]) -> dict[tuple[str, int], list[list[float]]]:
    """Seconds of the CSV's rows, by system and side: a list for each way."""
    found: dict[tuple[str, int], list[list[float]]] = {}
    for system, side, way, _, _, _, seconds in rows:
        found.setdefault((system, int(side)), [[] for _ in WAYS])[WAYS.index(way)].append(float(seconds))
    return found


def ratio(seconds: Sequence[Sequence[float]]) -> float:
    """Stitched over separate, of medians."""
    stitched, apart = map(np.median, seconds)
    return float(stitched / apart)


def table(rows: Sequence[Sequence[str]]) -> str:
    """A line for each system and side."""
    layouts = {(row[0], int(row[1])): (row[3], f"{float(row[4]):.2f}") for row in rows if row[2] == "stitched"}
    lines = []
    for (system, side), seconds in times(rows).items():
        each = (median_range(values, 2) for values in seconds)
        lines.append([f"`{system}`", f"{side:,}", *layouts[system, side], *each, f"{ratio(seconds):.2f}"])
    return markdown(["system", "side, px", "fields of view", "px seen", *WAYS, "ratio"], lines)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(COMMAND, description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--systems", nargs="+", default=["sccs", "sccs_fast", "sccs_plus"])
    parser.add_argument("--sides", type=positive, nargs="+", default=[1024, 2000, 3360], help="px")
    parser.add_argument("--repeats", type=positive, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/quick"))
    args = parser.parse_args(argv)
    rows = [row for system in args.systems for row in of_system(system, args.sides, args.repeats)]
    text = f"Seconds, medians (ranges) of {args.repeats} rounds.\n\n{table(rows)}"
    origin = Origin.here(typed(COMMAND, argv))
    print(publish(args.out, "overlaps", "The cost of overlaps", origin, text, HEADER, rows))
    return 0


if __name__ == "__main__":
    sys.exit(guard(main)())
