"""Convert between napari's layers and SCCS: sample data, reader, writer, colours, voxel sizes. Imports no napari."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from registry.base import UserError
from sccs.evaluation.legend import Legend

SAMPLE = (12, 560, 560)  # (Z, Y, X) of the synthetic volume
TRUTH = "true classes (synthetic)"


def phantom() -> list[tuple]:
    """Sample data: the image of a synthetic cell and its true labels, as napari layer tuples; generated once."""
    import json

    from sccs.data.loading import CELL_CLASSES, phantom_folder
    from sccs.evaluation.legend import class_legend

    folder = phantom_folder({"seed": 0, "shapes": [list(SAMPLE)]})
    (cell,) = json.loads((folder / "cells.json").read_text(encoding="utf-8"))
    image, labels = (np.load(folder / f"{cell['name']}_{kind}.npy") for kind in ("image", "labels"))
    place = placed(cell["voxel_size"])
    return [
        (image, {"name": "cell (synthetic)", "colormap": "gray", **place}, "image"),
        (
            labels,
            {"name": TRUTH, "opacity": 0.5, "visible": False, **place, **look(class_legend(CELL_CLASSES))},
            "labels",
        ),
    ]


def get_reader(path: str | list[str]) -> Callable[[str], list[tuple]] | None:
    """Napari's reader for one image in a format that SCCS reads; None for several at once."""
    return read if isinstance(path, str) else None


def read(path: str) -> list[tuple]:
    """An image as a lazy layer with its voxel size. Raises UserError if `sccs.data.readers` cannot open it."""
    import dask.array  # comes with napari

    from sccs.data.loading import stem
    from sccs.data.readers import open_image

    source = open_image(path)
    image = dask.array.from_array(source.array, chunks=(1, *source.shape[1:]), name=False, asarray=False)
    place = placed(source.voxel_size) if source.voxel_size else {}
    return [(image, {"name": stem(path), "colormap": "gray", **place}, "image")]


def write_labels_layer(path: str, data: Any, attributes: dict) -> list[str]:
    """Napari's writer for a Labels layer: .tif or .ome.zarr, with voxel size, and names and colours if SCCS made it."""
    from sccs.napari.session import save

    size = voxel_size(attributes.get("scale"), attributes.get("units"))
    legend = attributes.get("metadata", {}).get("sccs", {}).get("legend", Legend({}, {}))
    return [str(save(path, data, voxel_size=size, legend=legend, overwrite=True))]


@dataclass(frozen=True)
class Given:
    """What the user chose to work on: a region of a level of an image layer.

    array: (Z, Y, X) or (Y, X), lazy if the layer's is. voxel_size: (z, y, x) nm of the level, None if unknown. like:
    scale, translate and units for layers on top. name: of the image and region, for files.
    """

    layer: Any
    array: Any
    voxel_size: tuple[float, ...] | None
    like: dict[str, Any]
    name: str


def given(layer: Any, level: int, region: str, size: tuple[float, ...] | None) -> Given:
    """A region of a level of an image layer, written as for `sccs segment --region`; size: (z, y, x) nm of its
    finest voxels. Raises UserError for colour images, and for a region outside the level."""
    from sccs.inference.source import parse_region, whole_region

    if layer.rgb:
        raise UserError(f"{layer.name}: is a colour image, but SCCS needs greyscale; split or convert it")
    finest, array = (layer.data[0], layer.data[level]) if layer.multiscale else (layer.data, layer.data)
    scale, translate = np.array(layer.scale, float), np.array(layer.translate, float)
    factor = np.array([_factor(n, m) for n, m in zip(finest.shape, array.shape)])
    translate, scale = translate + scale * (factor - 1) / 2, scale * factor
    if size is not None:
        size = tuple(float(s * f) for s, f in zip(size, [1.0] * (3 - len(factor[-3:])) + factor[-3:].tolist()))
    name = layer.name + (f"-level{level}" if level else "")
    if region.strip():
        whole = [1] * (3 - array.ndim) + list(array.shape)
        spans = whole_region(parse_region(region), whole, layer.name)[-array.ndim :]
        array = array[tuple(slice(*span) for span in spans)]
        translate = translate + scale * [start for start, _ in spans]
        name += "-" + "-".join(str(start) for start, _ in spans)
    return Given(layer, array, size, {"scale": scale, "translate": translate, "units": layer.units}, name)


def _factor(fine: int, coarse: int) -> float:
    """Downsampling factor between two levels; a whole number if the shapes allow it."""
    whole = round(fine / coarse)
    return float(whole) if abs(fine - whole * coarse) < whole else fine / coarse


def placed(size: Sequence[float]) -> dict[str, Any]:
    """Scale and units of a layer with voxels of `size`, (z, y, x) nm."""
    return {"scale": tuple(size), "units": ("nm",) * len(size)}


def look(legend: Legend) -> dict[str, Any]:
    """Colours and, for the status bar, names of a Labels layer; labels without a colour are transparent."""
    colours = {label: np.array([*colour, 255]) / 255 for label, colour in legend.colours.items()}
    features = {"index": list(legend.names), "name": list(legend.names.values())}
    return {"colormap": {**colours, None: np.zeros(4)}, "features": features, "metadata": {"sccs": {"legend": legend}}}


def voxel_size(scale: Sequence[float] | None, units: Sequence[Any] | None) -> tuple[float, ...] | None:
    """(z, y, x) nm of a layer's last axes, from napari's scale and pint units; None if the units are not lengths.

    A single slice is assumed to be as thick as its pixels are high.
    """
    if scale is None or units is None:
        return None
    import pint  # comes with napari

    registry = pint.get_application_registry()
    quantities = [float(step) * registry.Unit(str(unit)) for step, unit in zip(scale, units)][-3:]
    if len(quantities) < 2 or not all(quantity.is_compatible_with("nm") for quantity in quantities):
        return None
    sizes = [float(f"{quantity.to('nm').magnitude:.9g}") for quantity in quantities]
    return tuple(sizes if len(sizes) == 3 else [sizes[0], *sizes])
