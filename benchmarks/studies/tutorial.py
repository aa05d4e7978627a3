"""Pictures of docs/tutorial.md, from a folder in which its commands were run.

python -m benchmarks.studies.tutorial FOLDER     # writes docs/images/tutorial_*.jpg
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tifffile
import zarr
from matplotlib.figure import Figure
from scipy.ndimage import binary_dilation, distance_transform_edt

from benchmarks.pages import ROOT
from sccs.system.colours import class_colours, cluster_colours, colourise
from sccs.system.exits import guard

Z, SIDE, SPOTS = 13, 72, 6  # a slice that was trained on; px
GALLERIES = {0: "nucleus", 3: "granules", 5: "mitochondria", 1: "not named"}


def spots(image: np.ndarray, clusters: np.ndarray, cluster: int) -> list[np.ndarray]:
    """Crops (SIDE, SIDE, 3) around the places deepest within a cluster, its border drawn."""
    found, depth = [], distance_transform_edt(np.pad(clusters == cluster, 1))[1:-1, 1:-1]
    half = SIDE // 2
    depth[:half], depth[-half:], depth[:, :half], depth[:, -half:] = 0, 0, 0, 0
    inside = clusters == cluster
    border = binary_dilation(inside) & ~inside
    while len(found) < SPOTS and depth.max() > 0:
        y, x = np.unravel_index(depth.argmax(), depth.shape)
        here = np.s_[y - half : y + half, x - half : x + half]
        crop = np.repeat(image[here][..., None], 3, axis=2)
        crop[border[here]] = (255, 210, 0)
        found.append(crop)
        depth[max(0, y - half) : y + half, max(0, x - half) : x + half] = 0
    return found


def galleries(image: np.ndarray, clusters: np.ndarray) -> Figure:
    """A row for each cluster."""
    figure = Figure(figsize=(1.35 * SPOTS, 1.5 * len(GALLERIES)), layout="constrained")
    axes = figure.subplots(len(GALLERIES), SPOTS, squeeze=False)
    for row, (cluster, name) in zip(axes, GALLERIES.items()):
        for axis, crop in zip(row, spots(image, clusters, cluster)):
            axis.imshow(crop, interpolation="none")
        row[0].set_title(f"cluster {cluster}: {name}", fontsize=9, loc="left")
        for axis in row:
            axis.axis("off")
    return figure


def stages(panels: dict[str, np.ndarray]) -> Figure:
    """One slice after each step."""
    figure = Figure(figsize=(10.2, 7.2), layout="constrained")
    for axis, (title, picture) in zip(figure.subplots(2, 3).ravel(), panels.items()):
        axis.imshow(picture, cmap="gray", interpolation="none")
        axis.set_title(title, fontsize=10)
        axis.axis("off")
    return figure


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser("python -m benchmarks.studies.tutorial", allow_abbrev=False)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pictures", type=Path, default=ROOT / "docs" / "images", metavar="DIR")
    args = parser.parse_args(argv)
    folder: Path = args.folder
    image = tifffile.imread(folder / "cells/phantom_c1.tif")[Z]
    clusters = tifffile.imread(folder / "runs/cells/segmentation/phantom_c1_clusters.tif")[Z]
    named = tifffile.imread(folder / "c1_named.tif")[Z]
    taught = np.asarray(zarr.open(folder / "c1.ome.zarr", mode="r")["labels/classes/0"][Z])
    mitochondria = np.asarray(zarr.open(folder / "c1_objects/objects.ome.zarr", mode="r")["labels/mitochondria/0"][Z])
    colour = class_colours(["nucleus", "granules", "mitochondria", "cytoplasm", "outside"])
    by_name = dict(enumerate((colour["granules"], colour["mitochondria"], colour["nucleus"]), 1))
    truth = tifffile.imread(folder / "truth/phantom_c1.tif")[Z]
    by_truth = dict(enumerate(colour[n] for n in ("cytoplasm", "nucleus", "granules", "mitochondria")))
    by_teacher = dict(
        enumerate((colour[n] for n in ("cytoplasm", "granules", "mitochondria", "nucleus", "outside")), 1)
    )
    numbers = [n for n in np.unique(mitochondria) if n]
    panels = {
        "image": image,
        "clusters": colourise(clusters, cluster_colours(8), image),
        "named": colourise(named, by_name, image),
        "taught": colourise(taught, by_teacher, image),
        "true classes": colourise(truth, by_truth | {255: colour["outside"]}, image),
        "mitochondria, counted": colourise(
            mitochondria, dict(zip(numbers, (cluster_colours(24)[(7 * i) % 24] for i in range(len(numbers))))), image
        ),
    }
    stages(panels).savefig(args.pictures / "tutorial_stages.jpg", dpi=100, pil_kwargs={"quality": 82})
    galleries(image, clusters).savefig(args.pictures / "tutorial_gallery.jpg", dpi=100, pil_kwargs={"quality": 82})
    return 0


if __name__ == "__main__":
    sys.exit(guard(main)())
