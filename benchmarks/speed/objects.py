"""Time and peak memory of `sccs objects` against the size of the volume, on synthetic class maps.

    python -m benchmarks.speed.objects [--sizes 0.1 1 8] [--split] [--workers N] [--folder DIR]
                                       [--out benchmarks/results/objects]

Class maps are uint8 OME-Zarr of GiB `--sizes` at 16 nm, four times as high and wide as deep: balls of 6 to 12 voxels
("granules", one in each cell of 32 voxels, so that neighbours touch here and there) and larger ones ("mitochondria", 24
to 34 voxels, in cells of 96). All columns are measured, including contacts and distances between the two. Memory is the
resident set of the process with all its children, sampled every 50 ms; CPU seconds are also theirs, user and system.
Writes OUT/objects.md, objects.csv and objects.png. Needs psutil.
"""

from __future__ import annotations

import argparse
import csv
import resource
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.pages import Origin, markdown, publish, typed
from benchmarks.speed.memory import peak_of, shape_of
from sccs.arguments import positive
from sccs.data.label_store import create_store, open_level
from sccs.data.pyramid import CHUNK, pyramid
from sccs.report.drawing import INK, new_figure, save_png
from sccs.system.exits import guard

COMMAND = "python -m benchmarks.speed.objects"
TARGET = 1.0  # GiB
KINDS = ((1, 32, (6, 12)), (2, 96, (24, 34)))  # code, voxels of a cell, radii
HEADER = [
    "volume, GiB", "shape (z, y, x)", "objects", "peak memory, GiB", "CPU seconds", "CPU seconds per GiB", "seconds",
]  # fmt: skip


def make_map(path: Path, shape: tuple[int, int, int]) -> None:
    """Write the class map, slab by slab."""
    names = {1: "granules", 2: "mitochondria"}
    create_store(path, pyramid(shape)[:1], CHUNK, "classes", voxel_size=(16, 16, 16), names=names, fill=0)
    array = open_level(path, "classes", 0)
    for top in range(0, shape[0], CHUNK[0]):
        slab = np.zeros((min(CHUNK[0], shape[0] - top), *shape[1:]), np.uint8)
        for code, cell, radii in KINDS:
            for place in np.ndindex(*(-(-n // cell) for n in shape)):
                if (place[0] + 1) * cell + cell < top or (place[0] - 1) * cell > top + CHUNK[0]:
                    continue
                rng = np.random.default_rng([code, *place])
                centre = (np.array(place) + rng.uniform(0, 1, 3)) * cell - [top, 0, 0]
                _paint(slab, code, centre, rng.uniform(*radii))
        array[top : top + len(slab)] = slab


def _paint(slab: np.ndarray, code: int, centre: np.ndarray, radius: float) -> None:
    area = tuple(
        slice(max(0, int(c - radius)), max(0, min(n, int(c + radius) + 2))) for c, n in zip(centre, slab.shape)
    )
    z, y, x = (np.arange(side.start, side.stop) - c for side, c in zip(area, centre))
    slab[area][z[:, None, None] ** 2 + y[:, None] ** 2 + x**2 <= radius**2] = code


def cpu_seconds() -> float:
    """User and system time of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _picture(sizes: Sequence[float], peaks: Sequence[float], seconds: Sequence[float], path: Path) -> None:
    figure, axes = new_figure(7.5, 2.8, 1, 2)
    for axis, values, what in ((axes[0, 0], peaks, "peak memory, GiB"), (axes[0, 1], seconds, "CPU time, s")):
        axis.plot(sizes, values, "o-", color="#3d6fa8")
        axis.set_xlabel("volume, GiB", fontsize=8, color=INK)
        axis.set_ylabel(what, fontsize=8, color=INK)
        axis.set_ylim(0, 1.3 * max(values))
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0, 0].axhline(TARGET, color="#c8553d", linewidth=1)
    save_png(figure, path)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(COMMAND, description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--sizes", type=float, nargs="+", default=[0.1, 1, 8], help="GiB")
    parser.add_argument("--split", action="store_true", help="split objects that touch")
    parser.add_argument("--workers", type=positive, default=1)
    parser.add_argument("--folder", type=Path, help="where volumes are made and removed (default: a temporary folder)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/objects"))
    args = parser.parse_args(argv)
    lines, peaks, times = [], [], []
    for size in args.sizes:
        with tempfile.TemporaryDirectory(dir=args.folder) as scratch:
            shape, source, out = shape_of(size), Path(scratch) / "map.ome.zarr", Path(scratch) / "out"
            make_map(source, shape)
            options = ["--workers", str(args.workers), *(["--split"] if args.split else [])]
            before = cpu_seconds()
            peak, _, seconds = peak_of([sys.executable, "-m", "sccs", "objects", str(source), str(out), *options])
            used = cpu_seconds() - before
            with open(out / "objects.csv", newline="") as file:
                count = sum(1 for _ in csv.reader(file)) - 1
        peaks.append(peak)
        times.append(used)
        shown = [f"{size:g}", " x ".join(map(str, shape)), f"{count}", f"{peak:.2f}"]
        lines.append([*shown, f"{used:.0f}", f"{used / size:.0f}", f"{seconds:.0f}"])
        print(*lines[-1], sep=", ", flush=True)
    notes = (
        f"Synthetic class maps of two classes; objects that touch are {'split' if args.split else 'not split'}. "
        f"{args.workers} worker{'s' if args.workers > 1 else ''}. Largest over smallest peak: "
        f"{max(peaks) / min(peaks):.2f}; target: flat, at most {TARGET:g} GiB a process, CPU seconds linear. "
        "Seconds are wall-clock time, which other work on the machine increases."
    )
    text = f"{notes}\n\n{markdown(HEADER, lines)}"
    _picture(args.sizes, peaks, times, args.out / "objects.png")
    origin = Origin.here(typed(COMMAND, argv))
    print(publish(args.out, "objects", "Time and memory of sccs objects", origin, text, HEADER, lines))
    return 0


if __name__ == "__main__":
    sys.exit(guard(main)())
