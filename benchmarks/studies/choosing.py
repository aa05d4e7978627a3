"""Pictures of docs/choosing.md: what pixel size, superpixel size and k do to a slice of the synthetic cells.

    python -m benchmarks.studies.choosing    # writes docs/images/choosing_*.jpg and benchmarks/results/choosing

SCCS+ is trained, without labels, on one slice each of phantom_c1 and phantom_c2; a slice of phantom_c4 is shown and
scored. Clusters get their classes from the true labels of the training slices (mapping `train`), as in all tables.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from skimage.segmentation import find_boundaries
from skimage.transform import resize

from benchmarks.pages import ROOT, Origin, markdown, publish, typed
from sccs.data.phantom import CLASSES, IGNORE, PhantomVolume, make_phantom
from sccs.evaluation.mappings import fit_mapping
from sccs.evaluation.scores import scores
from sccs.evaluation.tables import confusion, rest_position
from sccs.pipeline import Pipeline, as_volume
from sccs.system.colours import class_colours, colourise
from sccs.system.exits import guard

COMMAND = "python -m benchmarks.studies.choosing"
Z = 12
NM = 16.0  # of the phantom's pixels
SETTINGS: dict[str, dict[str, tuple[list[str], float]]] = {  # picture: {panel: changes of the recipe, pixel size in nm}
    "pixel": {f"{nm:g} nm": ([], nm) for nm in (8.0, 16.0, 32.0)},
    "superpixel": {f"{area} px": ([f"graph.pixels_per_superpixel={area}"], NM) for area in (25, 100, 400)},
    "k": {f"k = {k}": ([f"clusterer.k={k}"], NM) for k in (4, 8, 32)},
}
SHOWN = np.s_[150:410, 150:410]  # px of the slice


def resized(image: np.ndarray, shape: Sequence[int], order: int) -> np.ndarray:
    """An image (Y, X) at another resolution; order 0 for labels."""
    if image.shape == tuple(shape):
        return image
    return resize(image, shape, order=order, preserve_range=True, anti_aliasing=order > 0).astype(image.dtype)


def tried(cells: Sequence[PhantomVolume], changes: list[str], nm: float) -> tuple[np.ndarray, np.ndarray, dict]:
    """Superpixels and classes (Y, X) of the last cell's slice at the phantom's resolution, and its scores."""
    slices = [cell.image[Z] for cell in cells]
    truth = [cell.labels[Z] for cell in cells]
    images = [resized(each, [round(n * NM / nm) for n in each.shape], 1) for each in slices]
    size = (NM, nm, nm)
    pipeline = Pipeline.from_recipe("sccs_plus", changes, device="cpu").fit(images[:-1], voxel_size=size)
    found = [resized(pipeline.segment(image, voxel_size=size), each.shape, 0) for image, each in zip(images, slices)]
    tables = [confusion(a, b, pipeline.k, list(CLASSES), IGNORE) for a, b in zip(found, truth)]
    names = list(CLASSES.values())
    mapping = fit_mapping("train", np.sum(tables[:-1], axis=0), rest=rest_position(names))
    regions = pipeline.pool(as_volume(images[-1], "shown", size).read_slice(0), keep=False).regions
    return (resized(np.asarray(regions), slices[-1].shape, 0), mapping[found[-1]], scores(tables[-1], mapping, names))


def drawn(cells: Sequence[PhantomVolume], panels: dict[str, tuple[np.ndarray, np.ndarray, dict]]) -> Figure:
    """Superpixels above, classes below, one column per setting; the ground truth on the right."""
    colours = list(class_colours(list(CLASSES.values())).values())
    image, truth = cells[-1].image[Z][SHOWN], cells[-1].labels[Z][SHOWN]
    figure = Figure(figsize=(2.2 * (len(panels) + 1), 4.7), layout="constrained")
    axes = figure.subplots(2, len(panels) + 1)
    for column, (title, (regions, classes, score)) in zip(axes.T, panels.items()):
        outlined = np.repeat(image[..., None], 3, axis=2)
        outlined[find_boundaries(regions[SHOWN], mode="inner")] = (255, 210, 0)
        column[0].imshow(outlined, interpolation="none")
        column[0].set_title(title, fontsize=9)
        column[1].imshow(colourise(classes[SHOWN], colours, image), interpolation="none")
        column[1].set_title(f"mean DSC {score['mean']['dsc']:.2f}", fontsize=9)
    axes[0, -1].imshow(image, cmap="gray", interpolation="none")
    axes[0, -1].set_title("image", fontsize=9)
    axes[1, -1].imshow(colourise(truth, dict(enumerate(colours)), image), interpolation="none")
    axes[1, -1].set_title("true classes", fontsize=9)
    for axis in axes.ravel():
        axis.axis("off")
    return figure


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(COMMAND, description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--only", nargs="+", choices=SETTINGS, default=list(SETTINGS), metavar="PICTURE")
    parser.add_argument("--pictures", type=Path, default=ROOT / "docs" / "images", metavar="DIR")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "choosing", metavar="DIR")
    args = parser.parse_args(argv)
    cells = [make_phantom(seed=0)[i] for i in (0, 1, 3)]
    rows = []
    for name in args.only:
        panels = {title: tried(cells, *setting) for title, setting in SETTINGS[name].items()}
        drawn(cells, panels).savefig(args.pictures / f"choosing_{name}.jpg", dpi=110, pil_kwargs={"quality": 80})
        for title, (_, _, score) in panels.items():
            values = {"mean": score["mean"]["dsc"]} | {c: s["dsc"] for c, s in score["classes"].items()}
            rows += [[name, title, what, f"{value:.4f}"] for what, value in values.items()]
    heads = ["setting", "mean DSC", *CLASSES.values()]
    found = {(title, what): value for _, title, what, value in rows}
    lines = [
        [title, *(f"{float(found[title, what]):.2f}" for what in ("mean", *CLASSES.values()))]
        for title in dict.fromkeys(title for _, title, _, _ in rows)
    ]
    said = f"Synthetic cells; one slice of {cells[-1].name}, not used in training.\n\n{markdown(heads, lines)}"
    origin = Origin.here(typed(COMMAND, argv))
    publish(
        args.out,
        "choosing",
        "Pixel size, superpixel size, k",
        origin,
        said,
        ["picture", "setting", "class", "dsc"],
        rows,
    )
    return 0


if __name__ == "__main__":
    sys.exit(guard(main)())
