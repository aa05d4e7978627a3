"""What a mask of empty background is worth, on training images alone: SCCS+ with and without the masks of `sccs init`.

    python -m benchmarks.studies.masks [--data platelet hela cdeep3m vnc phantom] [--seeds 0 1 2]
                                       [--out benchmarks/results/choosing]

Trained and scored on the same training images. Each cluster, and the masked area as a whole, counts as its most common
class. Sets whose background covers less than `sccs.init.background.LEAST` are left out, and the page lists them. Writes
OUT/masks.md and .csv.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.harness import SETS, expanded, job
from benchmarks.pages import Origin, markdown, mean_sd, named, publish, typed
from sccs.data import load_dataset
from sccs.data.mask import Mask
from sccs.data.volumes import Dataset
from sccs.init.background import find_tissue
from sccs.system.exits import guard

COMMAND = "python -m benchmarks.studies.masks"
SYSTEM = "sccs_plus"
HEADER = ["set", "masked", "seed", "share masked", "class", "dice"]


def training_images(data: str, masked: bool) -> tuple[Dataset, float]:
    """The training volumes of a set, and the share that is masked."""
    of = job(SYSTEM, data, 0, "quick")
    dataset = load_dataset(expanded(of.recipe["data"]), Path.cwd(), 0, of.pipeline.min_side)
    for volume in dataset.train:
        if masked and (tissue := find_tissue(volume.image)) is not None:
            volume.mask = Mask(tissue, volume.file_shape, volume.origin, volume.path)
    inside = [
        volume.mask(z - volume.origin[0], slice(0, volume.shape[1]), slice(0, volume.shape[2])).mean()
        for volume in dataset.train
        if volume.mask is not None
        for z in volume.z_slices
    ]
    return dataset, 1 - float(np.mean(inside or [1.0]))


def dice(data: str, dataset: Dataset, seed: int) -> dict[str, float]:
    """Dice of each class, on the training images."""
    pipeline = job(SYSTEM, data, seed, "quick").pipeline
    pipeline.fit(dataset)
    counts = np.zeros((256, len(dataset.classes)), np.int64)  # pixels by cluster and class
    for volume in dataset.train:
        for z, plane in zip(volume.z_slices, pipeline.segment_slices(volume)):
            labels = volume.read_labels(z)
            for position, code in enumerate(dataset.classes):
                counts[:, position] += np.bincount(plane[labels == code], minlength=256)
    named_as = counts.argmax(1)
    hits = np.array([counts[named_as == position, position].sum() for position in range(counts.shape[1])])
    called = np.array([counts[named_as == position].sum() for position in range(counts.shape[1])])
    return dict(zip(dataset.classes.values(), (2 * hits / (called + counts.sum(0))).tolist()))


def table(rows: Sequence[Sequence[str]]) -> str:
    """Means over seeds."""
    found: dict[tuple[str, str], dict[str, list[float]]] = {}
    for data, masked, _, _, name, value in rows:
        found.setdefault((data, name), {}).setdefault(masked, []).append(float(value))
    lines = [
        [named(data), name, *(mean_sd(ways[way]) for way in ("no", "yes"))] for (data, name), ways in found.items()
    ]
    return markdown(["set", "class", "without a mask", "with it"], lines)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(COMMAND, description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--data", nargs="+", default=list(SETS), choices=SETS, metavar="SET")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/choosing"))
    args = parser.parse_args(argv)
    rows, without = [], []
    for data in args.data:
        bare, (within, share) = training_images(data, False)[0], training_images(data, True)
        if not share:
            without.append(named(data))
            continue
        for seed in args.seeds:
            for masked, dataset in (("no", bare), ("yes", within)):
                for name, value in dice(data, dataset, seed).items():
                    rows.append([data, masked, str(seed), f"{share:.3f}", name, f"{value:.6f}"])
                    print(*rows[-1], sep=", ", flush=True)
    shares = ", ".join(f"{named(data)} {float(share):.0%}" for data, share in {row[0]: row[3] for row in rows}.items())
    text = f"Masked: {shares}; no mask for {', '.join(without) or 'none'}. Training images alone.\n\n{table(rows)}"
    origin = Origin.here(typed(COMMAND, argv), seeds=args.seeds)
    print(publish(args.out, "masks", "Masks of empty background", origin, text, HEADER, rows))
    return 0


if __name__ == "__main__":
    sys.exit(guard(main)())
