"""Seam rate of `sccs segment`: how often neighbouring pixels have different labels across the borders of fields of
view, and how often inside them, by halo and by the way in which fields of view are joined.

    [SCCS_DATA=DIR] python -m benchmarks.studies.seams [RUN IMAGE ...] [--data phantom vnc] [--system sccs_plus]
                                                       [--halo 0 20 40] [--slices 2] [--out benchmarks/results/segment]

`--data` names sets of the tables: the system is trained on the set (size `quick`, without labels, seed 0), and applied
to its first test volume; the synthetic phantom has slices of 1200 x 1200 px here. RUN IMAGE is a trained run and a file
to apply it to. "Cut straight" puts each field of view's centre beside the next one's; "stitched" is what `sccs
segment` does. Borders are where the owner of neighbouring pixels changes, as stitched. A ratio of 1 is parity: no step.
Cost: pixels that go through the model per written pixel, and the time to stitch a slice. Writes
OUT/seams.md and seams.csv.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.harness import SETS, expanded, job
from benchmarks.pages import Origin, markdown, named, publish, typed
from sccs.arguments import positive
from sccs.data import load_dataset
from sccs.data.readers import open_image
from sccs.data.volumes import Volume, evenly
from sccs.inference.blocks import overlapping
from sccs.inference.labels import Slice, segment_slice
from sccs.pipeline import Pipeline
from sccs.system.exits import guard
from sccs.system.log import quiet_log

COMMAND = "python -m benchmarks.studies.seams"
# Several FOVs a slice, and all slices of a test volume.
CHANGED = {
    "phantom": ["data.shapes=[[4,1200,1200],[4,1200,1200]]"],
    "cdeep3m": ["data.max_test_slices=null"],
    "vnc": ["data.max_test_slices=null"],
}
HEADER = [
    "image",
    "model",
    "halo, px",
    "put together",
    "FOVs a slice",
    "differ across borders",
    "differ inside",
    "ratio",
    "pixels computed / written",
    "stitching, s a slice",
]


@dataclass
class Subject:
    """The subject of a measurement: a model, described by `trained`, and a volume."""

    name: str
    trained: str
    model: Pipeline
    volume: Volume


def of_set(data: str, system: str) -> Subject:
    """A system trained on a set of the tables, and the set's first test volume."""
    work = job(system, data, 0, "quick", CHANGED.get(data, ()))
    dataset = load_dataset(expanded(work.recipe["data"]), Path.cwd(), 0, work.pipeline.min_side)
    work.pipeline.fit(dataset, log=quiet_log())
    return Subject(named(data), f"{system}, trained on other slices", work.pipeline, dataset.test[0])


def of_run(run: str, image: str) -> Subject:
    """A trained run, and a file to apply it to."""
    model = Pipeline.load(run)
    volume = Volume("seams", open_image(image).array, path=image, fov=model.fov, min_side=model.min_side)
    return Subject(Path(image).parent.name + "/" + Path(image).name, Path(run).name, model, volume)


def _put_together(found: Slice, halo: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Labels (Y, X) as stitched within `halo` px, the FOV that each comes from, and seconds."""
    found = replace(found, fields=replace(found.fields, halo=halo))
    numbers = {place: np.full(part.shape, n) for n, (place, part) in enumerate(found.labels.items())}
    start = time.perf_counter()
    labels = found.plane()
    seconds = time.perf_counter() - start
    return labels, found.plane(numbers), seconds


def rates(labels: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Pairs across borders: those that differ, and all; the same for pairs inside."""
    counts = np.zeros(4, np.int64)
    for axis in (0, 1):
        differ, border = (np.diff(each.astype(np.int64), axis=axis) != 0 for each in (labels, owner))
        counts += [(differ & border).sum(), border.sum(), (differ & ~border).sum(), (~border).sum()]
    return counts


def measure(subject: Subject, halos: Sequence[int], slices: int) -> list[list[str]]:
    """Lines of the table: each halo, and each way to join FOVs."""
    model, volume = subject.model, subject.volume
    used = evenly(volume.z_slices, slices)
    lines = []
    for halo in halos:
        ways = {"cut straight": 0, "stitched": halo} if halo else {"cut straight": 0}
        counts, seconds = {way: np.zeros(4, np.int64) for way in ways}, dict.fromkeys(ways, 0.0)
        for z in used:
            parts = segment_slice(model, volume, z, overlapping(volume.shape[1:], model.fov, halo))
            for way, reach in ways.items():
                found, owner, took = _put_together(parts, reach)
                counts[way] += rates(found, owner)
                seconds[way] += took / len(used)
        cost = parts.fields.seen / (volume.shape[1] * volume.shape[2])
        for way, (across, borders, inside, others) in counts.items():
            ratio = across / borders / (inside / others)
            lines.append(
                [
                    subject.name,
                    subject.trained,
                    str(halo),
                    way,
                    str(len(parts.fields)),
                    f"{across / borders:.4f}",
                    f"{inside / others:.4f}",
                    f"{ratio:.2f}",
                    f"{cost:.2f}",
                    f"{seconds[way]:.2f}" if way == "stitched" else "-",
                ]
            )
            print(*lines[-1], sep=", ", flush=True)
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(COMMAND, description=__doc__.partition("\n\n")[0], allow_abbrev=False)
    parser.add_argument("pairs", nargs="*", metavar="RUN IMAGE", default=[])
    parser.add_argument("--data", nargs="+", choices=SETS, default=[], help="sets to train on and to measure")
    parser.add_argument("--system", default="sccs_plus", help="recipe that is trained on sets")
    parser.add_argument("--halo", type=int, nargs="+", default=[0, 20, 40])
    parser.add_argument("--slices", type=positive, default=2, help="of each image, evenly spaced")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/segment"))
    args = parser.parse_args(argv)
    if len(args.pairs) % 2 or not (args.pairs or args.data):
        parser.error("give --data, or pairs of a run and an image")
    lines = []
    for data in args.data:
        lines += measure(of_set(data, args.system), args.halo, args.slices)
    for run, image in zip(args.pairs[::2], args.pairs[1::2]):
        lines += measure(of_run(run, image), args.halo, args.slices)
    text = f"Up to {args.slices} slices of each image.\n\n{markdown(HEADER, lines)}"
    origin = Origin.here(typed(COMMAND, argv))
    print(publish(args.out, "seams", "Seams between fields of view", origin, text, HEADER, lines))
    return 0


if __name__ == "__main__":
    sys.exit(guard(main)())
