"""Seam rate of `sccs segment`: how often neighbouring pixels differ in label across the borders of fields of view, and
how often inside of them, by halo and by how the fields of view are put together.

    python benchmarks/seams.py RUN IMAGE [RUN IMAGE ...] [--halo 0 20 40] [--slices 2]
                               [--out benchmarks/results/segment]

IMAGE is a file, or `phantom`: the test volume of a synthetic phantom with slices of 1200 x 1200 px. "Cut straight"
puts each field of view's centre beside the next one's; "stitched" is what `sccs segment` does. Borders are where the
owner of neighbouring pixels changes, as stitched. A ratio of 1 is parity: no step. Cost: pixels that go through the
model for each pixel that is written, and what a slice takes to stitch. Writes OUT/seams.md and seams.csv.
"""
from __future__ import annotations

import argparse
import csv
import sys
import time
from pathlib import Path
from typing import Sequence

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from harness import describe, markdown  # noqa: E402
from sccs.blocks import EMPTY, spans  # noqa: E402
from sccs.cli import guard  # noqa: E402
from sccs.data import load_dataset  # noqa: E402
from sccs.data.readers import open_image  # noqa: E402
from sccs.data.volumes import Volume, evenly  # noqa: E402
from sccs.files import atomic_path, write_text  # noqa: E402
from sccs.pipeline import Pipeline  # noqa: E402
from sccs.run import environment  # noqa: E402
from sccs.stitch import stitched  # noqa: E402

PHANTOM = {"name": "phantom", "shapes": [[4, 1200, 1200]] * 2}
HEADER = ["image", "halo, px", "put together", "FOVs a slice", "differ across borders", "differ inside", "ratio",
          "pixels computed / written", "stitching, s a slice"]


def volume_of(image: str, model: Pipeline) -> Volume:
    array = load_dataset(PHANTOM, Path.cwd(), 0).test[0].image if image == "phantom" else open_image(image).array
    return Volume("seams", array, path=image, fov=model.fov, min_side=model.min_side)


def segmented(model: Pipeline, volume: Volume, z: int, halo: int) -> tuple[list, list, dict]:
    """FOVs along y and x, and the labels (1, h, w) that each sees."""
    rows, columns = (spans(length, model.fov, halo) for length in volume.shape[1:])
    labels = {}
    for i, y in enumerate(rows):
        for j, x in enumerate(columns):
            pixels = volume.read_window(z, slice(y.low, y.high), slice(x.low, x.high))
            labels[i, j] = model.segment_fov(np.ascontiguousarray(pixels)).clusters[None]
    return rows, columns, labels


def put_together(rows: list, columns: list, labels: dict, halo: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Labels (Y, X), the number of the FOV that each is of, seconds."""
    def read(i, j, y, x):
        return labels[i, j][:, y.start - rows[i].low: y.stop - rows[i].low,
                            x.start - columns[j].low: x.stop - columns[j].low]

    def number(i, j, y, x):
        return np.full((1, y.stop - y.start, x.stop - x.start), i * len(columns) + j)

    def whole(values):
        return np.block([[stitched(i, j, rows, columns, halo, read, EMPTY, values)[0] for j in range(len(columns))]
                         for i in range(len(rows))])

    start = time.perf_counter()
    found = whole(None)
    seconds = time.perf_counter() - start
    return found, whole(number), seconds


def rates(labels: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Pairs across borders that differ, all of them; the same of pairs inside."""
    counts = np.zeros(4, np.int64)
    for axis in (0, 1):
        differ, border = (np.diff(each.astype(np.int64), axis=axis) != 0 for each in (labels, owner))
        counts += [(differ & border).sum(), border.sum(), (differ & ~border).sum(), (~border).sum()]
    return counts


def measure(run: str, image: str, halos: Sequence[int], slices: int) -> list[list]:
    model = Pipeline.load(run)
    volume = volume_of(image, model)
    name = "phantom (synthetic)" if image == "phantom" else Path(image).parent.name + "/" + Path(image).name
    lines = []
    for halo in halos:
        ways = {"cut straight": 0, "stitched": halo} if halo else {"cut straight": 0}
        counts, seconds = {way: np.zeros(4, np.int64) for way in ways}, dict.fromkeys(ways, 0.0)
        for z in evenly(range(volume.shape[0]), slices):
            rows, columns, labels = segmented(model, volume, z, halo)
            for way, reach in ways.items():
                found, owner, took = put_together(rows, columns, labels, reach)
                counts[way] += rates(found, owner)
                seconds[way] += took / min(slices, volume.shape[0])
        cost = sum(part.size for part in labels.values()) / (volume.shape[1] * volume.shape[2])
        for way, (across, borders, inside, others) in counts.items():
            ratio = across / borders / (inside / others)
            lines.append([name, str(halo), way, str(len(labels)), f"{across / borders:.4f}", f"{inside / others:.4f}",
                          f"{ratio:.2f}", f"{cost:.2f}", f"{seconds[way]:.2f}" if way == "stitched" else "-"])
            print(*lines[-1], sep=", ", flush=True)
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0], allow_abbrev=False)
    parser.add_argument("pairs", nargs="+", metavar="RUN IMAGE")
    parser.add_argument("--halo", type=int, nargs="+", default=[0, 20, 40])
    parser.add_argument("--slices", type=int, default=2, help="of each image, evenly spaced")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/segment"))
    args = parser.parse_args(argv)
    if len(args.pairs) % 2:
        parser.error("give a run and an image, in turn")
    lines = [line for run, image in zip(args.pairs[::2], args.pairs[1::2])
             for line in measure(run, image, args.halo, args.slices)]
    write_text(args.out / "seams.md", f"# Seams between fields of view\n\n`benchmarks/seams.py`, {args.slices} slices "
               f"of each image, {describe(environment('cpu'))}.\n\n{markdown(HEADER, lines)}\n")
    with atomic_path(args.out / "seams.csv") as scratch, open(scratch, "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([HEADER, *lines])
    print(args.out / "seams.md")
    return 0


if __name__ == "__main__":
    sys.exit(guard(main)())
