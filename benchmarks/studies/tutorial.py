"""Pictures of docs/tutorial.md, from a folder in which its commands were run.

python -m benchmarks.studies.tutorial FOLDER     # writes docs/images/tutorial_*.jpg and objects.jpg
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
from mpl_toolkits.mplot3d.art3d import Poly3DCollection
from scipy.ndimage import binary_dilation, distance_transform_edt, find_objects

from benchmarks.pages import ROOT
from sccs.instances.export import object_mesh
from sccs.system.colours import class_colours, cluster_colours, colourise
from sccs.system.exits import guard

Z, SIDE, SPOTS = 12, 72, 6  # a slice that was trained on; px
VOXEL, DRAWN = 16.0, 40  # nm; objects of each class
GALLERIES = {3: "nucleus", 2: "granules", 4: "mitochondria", 1: "not named"}


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


def in_colours(labels: np.ndarray, image: np.ndarray) -> np.ndarray:
    """A slice of objects, one colour per object."""
    numbers = [int(n) for n in np.unique(labels) if n]
    colours = cluster_colours(24)
    return colourise(labels, {n: colours[7 * i % 24] for i, n in enumerate(numbers)}, image)


def objects(kinds: dict[str, np.ndarray], image: np.ndarray) -> Figure:
    """Objects (Z, Y, X) of each class: slice Z, and surfaces of the `DRAWN` largest."""
    figure = Figure(figsize=(4.6 * (len(kinds) + 1), 4.6), layout="constrained")
    colour = class_colours(list(kinds))
    solid = figure.add_subplot(1, len(kinds) + 1, len(kinds) + 1, projection="3d")
    for n, (name, labels) in enumerate(kinds.items(), 1):
        axis = figure.add_subplot(1, len(kinds) + 1, n)
        axis.imshow(in_colours(labels[Z], image), interpolation="none")
        axis.set_title(name, fontsize=10)
        axis.axis("off")
        boxes, size = find_objects(labels), np.bincount(labels.ravel())
        for number in np.argsort(-size[1:])[:DRAWN] + 1:
            mesh = object_mesh(labels, number, boxes[number - 1], (VOXEL,) * 3, most=40_000)
            surface = np.asarray(mesh.vertices)[np.asarray(mesh.faces)]
            solid.add_collection3d(Poly3DCollection(surface, shade=True, facecolors=colour[name]))
    depth, height, width = (n * VOXEL for n in labels.shape)
    solid.set(xlim=(0, width), ylim=(height, 0), zlim=(depth, 0), xlabel="x, nm", ylabel="y, nm", zticks=[])
    solid.set_aspect("equal")
    solid.set_title(f"surfaces of the {DRAWN} largest of each", fontsize=10)
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
    labels = zarr.open(folder / "c1_objects/objects.ome.zarr", mode="r")["labels"]
    kinds = {name: np.asarray(labels[f"{name}/0"]) for name in ("granules", "mitochondria")}
    colour = class_colours(["nucleus", "granules", "mitochondria", "cytoplasm", "outside"])
    by_name = dict(enumerate((colour["granules"], colour["mitochondria"], colour["nucleus"]), 1))
    truth = tifffile.imread(folder / "truth/phantom_c1.tif")[Z]
    by_truth = dict(enumerate(colour[n] for n in ("cytoplasm", "nucleus", "granules", "mitochondria")))
    by_teacher = dict(
        enumerate((colour[n] for n in ("cytoplasm", "granules", "mitochondria", "nucleus", "outside")), 1)
    )
    panels = {
        "image": image,
        "clusters": colourise(clusters, cluster_colours(8), image),
        "named": colourise(named, by_name, image),
        "taught": colourise(taught, by_teacher, image),
        "true classes": colourise(truth, by_truth | {255: colour["outside"]}, image),
        "mitochondria, counted": in_colours(kinds["mitochondria"][Z], image),
    }
    stages(panels).savefig(args.pictures / "tutorial_stages.jpg", dpi=100, pil_kwargs={"quality": 82})
    galleries(image, clusters).savefig(args.pictures / "tutorial_gallery.jpg", dpi=100, pil_kwargs={"quality": 82})
    objects(kinds, image).savefig(args.pictures / "objects.jpg", dpi=100, pil_kwargs={"quality": 82})
    return 0


if __name__ == "__main__":
    sys.exit(guard(main)())
