"""`sccs segment` on whole images: a volume with two workers, and slices of increasing size, to OME-Zarr.

    python -m benchmarks.speed.whole [--gib 8] [--sides 2500 5000 10000 20000] [--textured 0] [--workers 2]
                                     [--system sccs_fast] [--folder DIR] [--quick] [--out benchmarks/results/segment]

Images are uint8, of repeated smooth noise. --textured N: only N fields of view hold noise; all others have one grey
value, and are read and left out, so that times are of reading, writing and stitching. 0: all hold noise. --gib 0 and
--sides 0 leave out the volume and the slices.
--quick: a volume of 1/64 GiB, all of it textured, and sides to 20,000 px with 8 textured fields of view. Memory is the
peak of the command with all its processes (shared pages count for each), and of the largest of them, a worker if there
are several. Writes OUT/whole.md and .csv, anew after each image.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.pages import Origin, markdown, publish, typed
from benchmarks.speed.memory import CHUNK, create_volume, peak_of, shape_of
from benchmarks.speed.timing import trained
from sccs.arguments import positive
from sccs.inference.blocks import make_plan
from sccs.system.exits import guard

COMMAND = "python -m benchmarks.speed.whole"
FOV = 560
TEXT = "Images of smooth noise; fields of view that are not textured are read and left out."
HEADER = ["what", "z", "y", "x", "textured", "workers", "seconds", "peak, GiB", "largest process, GiB"]


def noise_tile() -> np.ndarray:
    """Smooth noise (1024, 1024) uint8 that continues beyond its border."""
    from scipy.ndimage import gaussian_filter

    noise = gaussian_filter(np.random.default_rng(0).normal(size=(1024, 1024)), 2, mode="wrap")
    return np.clip(noise / noise.std() * 30 + 128, 1, 255).astype(np.uint8)


def make_image(path: Path, shape: tuple[int, int, int], textured: int) -> int:
    """Write the image. Returns the number of its textured fields of view."""
    tile = noise_tile()
    plan, array = make_plan(shape, FOV), create_volume(path, shape)
    fovs, columns = len(plan) * shape[0], np.repeat(np.arange(len(plan.x)), [span.stop - span.start for span in plan.x])
    for z in range(0, shape[0], CHUNK[0]):
        depth = min(CHUNK[0], shape[0] - z)
        for i, span in enumerate(plan.y):
            rows = np.arange(span.start, span.stop)
            first = (z * len(plan.y) + i * depth) * len(plan.x)  # approximate number of fields of view before these
            part = np.empty((depth, len(rows), shape[2]), np.uint8)
            part[:] = tile[rows[:, None] % 1024, np.arange(shape[2]) % 1024]
            if textured:
                empty = first + columns * depth >= textured
                part[:, :, empty] = (80 + (23 * columns[empty] + 37 * i) % 90).astype(np.uint8)
            array[z : z + depth, span.start : span.stop] = part
    return min(textured, fovs) if textured else fovs


def table(rows: Sequence[Sequence[str]]) -> str:
    """The CSV's rows as a table."""
    lines = []
    for what, z, y, x, textured, workers, seconds, *peaks in rows:
        shape, speed = " x ".join((z, y, x)), f"{int(z) * int(y) * int(x) / float(seconds) / 1e6:.2f}"
        lines.append([what, shape, textured, workers, f"{float(seconds):.0f}", speed, *peaks])
    return markdown(["what", "shape (z, y, x)", "textured FOVs", "workers", "seconds", "Mpx/s", *HEADER[-2:]], lines)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(COMMAND, description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--gib", type=float, default=8, help="of the volume; 0: none")
    parser.add_argument("--sides", type=int, nargs="+", default=[2500, 5000, 10000, 20000], help="of slices; 0: none")
    parser.add_argument("--textured", type=int, default=0, help="fields of view that go through the model; 0: all")
    parser.add_argument("--workers", type=positive, default=2, help="of the volume")
    parser.add_argument("--system", default="sccs_fast")
    parser.add_argument("--folder", type=Path, help="where images are made and removed (default: a temporary folder)")
    parser.add_argument(
        "--quick", action="store_true", help="a volume of 1/64 GiB, slices of 8 textured fields of view"
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/segment"))
    args = parser.parse_args(argv)
    sides = [(f"a slice of {side:,} px", (1, side, side), 1, 8 if args.quick else args.textured) for side in args.sides]
    gib = 1 / 64 if args.quick else args.gib
    volume = (f"a volume of {gib:.3g} GiB", shape_of(gib), args.workers, 0 if args.quick else args.textured)
    origin = Origin.here(typed(COMMAND, argv))
    rows = []
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        run, image, labels = (Path(folder) / name for name in ("run", "image.ome.zarr", "labels.ome.zarr"))
        trained(args.system).save(run / "model")
        for what, shape, workers, textured in [volume, *sides]:
            if min(shape) < 1:
                continue
            held = make_image(image, shape, textured)
            command = [sys.executable, "-m", "sccs", "segment", run, image, labels, "--overwrite", "--device", "cpu"]
            peak = peak_of([*map(str, command), "--workers", str(workers)])
            sizes = f"{peak.total:.2f}", f"{peak.largest:.2f}"
            rows.append([what, *map(str, (*shape, held, workers)), f"{peak.seconds:.1f}", *sizes])
            print(*rows[-1], sep=", ", flush=True)
            publish(args.out, "whole", "Whole images", origin, f"{TEXT}\n\n{table(rows)}", HEADER, rows)
    print(args.out / "whole.md")
    return 0


if __name__ == "__main__":
    sys.exit(guard(main)())
