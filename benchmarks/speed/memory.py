"""Peak memory of `sccs segment` against the size of the volume, on synthetic OME-Zarr volumes.

    python -m benchmarks.speed.memory [--sizes 0.1 0.25 0.5 1 2 4 8] [--textured 32] [--workers N] [--run RUN]
                                      [--folder DIR] [--out benchmarks/results/segment]

Volumes are uint8 of GiB `--sizes`, four times as high and wide as deep, in chunks of 64 x 256 x 256. Every block is
read, and statistics are computed as usual, but only `--textured` fields of view hold noise and go through the model.
Each of the others has a single grey value, different from the rest, and is left empty, so that the run ends in minutes.
Times are therefore those of reading and writing, not of segmentation. Memory is the resident set of the process with
all its children (shared pages count for each), sampled every 50 ms. Without --run, SCCS is trained for a few steps
first.
Writes OUT/memory.md, memory.csv and memory.png. Needs psutil.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.pages import Origin, markdown, publish, typed
from sccs.arguments import positive
from sccs.inference.blocks import make_plan
from sccs.pipeline import Pipeline
from sccs.report.drawing import INK, new_figure, save_png
from sccs.system.exits import guard

COMMAND = "python -m benchmarks.speed.memory"

CHUNK = (64, 256, 256)
TARGET = 2.0  # GiB
HEADER = ["volume, GiB", "shape (z, y, x)", "peak memory, GiB", "seconds"]


def _trained(folder: Path) -> Path:
    from benchmarks.speed.timing import trained as short

    short("sccs").save(folder / "model")
    return folder


def shape_of(size: float) -> tuple[int, int, int]:
    """(z, y, x) of a volume of `size` GiB of bytes, four times as high and wide as deep."""
    depth = round((size * 2**30 / 16) ** (1 / 3))
    return depth, 4 * depth, 4 * depth


def create_volume(path: Path, shape: tuple[int, int, int]) -> Any:
    """The Zarr array, uint8 and empty, of a new OME-Zarr of 16 nm."""
    import zarr

    scale = {"type": "scale", "scale": [16.0] * 3}
    multiscale = {
        "axes": [{"name": axis, "type": "space", "unit": "nanometer"} for axis in "zyx"],
        "datasets": [{"path": "0", "coordinateTransformations": [scale]}],
    }
    attributes: Any = {"ome": {"version": "0.5", "multiscales": [multiscale]}}
    group = zarr.create_group(path, overwrite=True, attributes=attributes)
    chunks = (min(CHUNK[0], shape[0]), *CHUNK[1:])
    return group.create_array("0", shape=shape, chunks=chunks, dtype="uint8")


def _make_volume(path: Path, shape: tuple[int, int, int], fov: int, textured: int) -> None:
    array = create_volume(path, shape)
    plan, rng = make_plan(shape, fov), np.random.default_rng(0)
    columns = np.repeat(np.arange(len(plan.x)), [span.stop - span.start for span in plan.x])
    for z in range(0, shape[0], CHUNK[0]):
        depth = min(CHUNK[0], shape[0] - z)
        for i, span in enumerate(plan.y):
            grey = (80 + (23 * columns + 37 * i) % 90).astype(np.uint8)
            part = np.broadcast_to(grey, (depth, span.stop - span.start, shape[2])).copy()
            if i == 0 and z < textured:
                width = plan.x[0].stop
                part[: textured - z, :, :width] = rng.integers(60, 200, part[: textured - z, :, :width].shape)
            array[z : z + depth, span.start : span.stop] = part


class Peak(NamedTuple):
    """Peak memory, GiB, of a command with all its children, and of the largest of these processes; its seconds."""

    total: float
    largest: float
    seconds: float


def peak_of(command: list[str]) -> Peak:
    """Execute a command. Raises RuntimeError if it fails."""
    import psutil

    start, peak, largest = time.perf_counter(), 0, 0
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    top = psutil.Process(process.pid)
    while process.poll() is None:
        total = 0
        try:
            for each in (top, *top.children(recursive=True)):
                try:
                    size = each.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
                total, largest = total + size, max(largest, size)
        except psutil.NoSuchProcess:
            pass
        peak = max(peak, total)
        time.sleep(0.05)
    if process.returncode:
        assert process.stderr is not None
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {process.stderr.read()[-2000:]}")
    return Peak(peak / 2**30, largest / 2**30, time.perf_counter() - start)


def _picture(sizes: Sequence[float], peaks: Sequence[float], path: Path) -> None:
    figure, axes = new_figure(5, 3)
    axis = axes[0, 0]
    axis.plot(sizes, peaks, "o-", color="#3d6fa8", label="peak memory of sccs segment")
    axis.plot(sizes, sizes, ":", color="#8d8d8d", label="size of the volume")
    axis.axhline(TARGET, color="#c8553d", linewidth=1, label=f"target, {TARGET:g} GiB")
    axis.set(xlabel="volume, GiB", ylabel="GiB", ylim=(0, 1.3 * max(TARGET, *peaks)))
    for label in (axis.xaxis.label, axis.yaxis.label):
        label.set(fontsize=8, color=INK)
    axis.tick_params(labelsize=7)
    axis.legend(fontsize=7, frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    save_png(figure, path)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(COMMAND, description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--sizes", type=float, nargs="+", default=[0.1, 0.25, 0.5, 1, 2, 4, 8], help="GiB")
    parser.add_argument("--textured", type=int, default=32, help="fields of view that go through the model")
    parser.add_argument("--workers", type=positive, default=1)
    parser.add_argument("--run", type=Path, help="a trained run; its model's fields of view have 560 px")
    parser.add_argument("--folder", type=Path, help="where volumes are made and removed (default: a temporary folder)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/segment"))
    args = parser.parse_args(argv)
    lines, peaks = [], []
    with tempfile.TemporaryDirectory(dir=args.folder) as scratch:
        run = args.run or _trained(Path(scratch) / "run")
        fov = Pipeline.load(run, "cpu").fov
        assert isinstance(fov, int)
        for size in args.sizes:
            shape, volume = shape_of(size), Path(scratch) / "volume.ome.zarr"
            _make_volume(volume, shape, fov, args.textured)
            peak, _, seconds = peak_of(
                [
                    sys.executable,
                    "-m",
                    "sccs",
                    "segment",
                    str(run),
                    str(volume),
                    str(Path(scratch) / "labels.ome.zarr"),
                    "--overwrite",
                    "--device",
                    "cpu",
                    "--workers",
                    str(args.workers),
                ]
            )
            peaks.append(peak)
            lines.append([f"{size:g}", " x ".join(map(str, shape)), f"{peak:.2f}", f"{seconds:.0f}"])
            print(*lines[-1], sep=", ", flush=True)
    notes = (
        f"Synthetic volumes, mostly empty: {args.textured} fields of view go through the model, all others are "
        f"read and left out, so that seconds do not measure segmentation. {args.workers} worker"
        f"{'s' if args.workers > 1 else ''}. Largest over smallest peak: {max(peaks) / min(peaks):.2f}; target: "
        f"flat, at most {TARGET:g} GiB."
    )
    text = f"{notes}\n\n{markdown(HEADER, lines)}"
    _picture(args.sizes, peaks, args.out / "memory.png")
    origin = Origin.here(typed(COMMAND, argv))
    print(publish(args.out, "memory", "Peak memory of sccs segment", origin, text, HEADER, lines))
    return 0


if __name__ == "__main__":
    sys.exit(guard(main)())
