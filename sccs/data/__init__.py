"""Data: readers and writers, volumes, the tiler, and the data sets that a recipe's `data` block can name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sccs.data.volumes import Dataset

# Values of `data.name`, for `sccs list datasets`.
DATASETS = {
    "phantom": "synthetic FIB-SEM of beta-like cells with exact labels, generated and cached; c1-c3 train, c4 test",
    "betaseg": "BetaSeg (FIB-SEM of beta cells) as published, under data.root; c1-c3 train, c4 test",
    "volumes": "your own volumes: data.train and data.test list images and, where you have them, labels",
}


def load_dataset(data: Mapping[str, Any], base: Path, seed: int = 0, min_side: int = 80) -> Dataset:
    """Open the data set described by a recipe's `data` block; images stay on disk until they are read.

    Arguments
        data: the block (see the models in sccs.data.schema); images and labels may be numpy arrays.
        base: folder of relative paths (the recipe's).
        seed: the run's seed, used by a phantom with `seed: null`.
        min_side: shortest side of a volume, px (the MAE's window).

    Raises UserError if anything is wrong with the block or the files.
    """
    from sccs.data.loading import load

    return load(data, Path(base), seed, min_side)


def describe(dataset: Dataset) -> str:
    """A line per volume: the part used, its tiling, intensities and labels."""
    from sccs.data.loading import summary

    return summary(dataset)
