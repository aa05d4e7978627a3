"""`sccs segment RUN INPUT OUTPUT`: a trained run applied to another image, slice by slice, in bounded memory."""
from __future__ import annotations

import sys
from pathlib import Path
from typing import Sequence

import numpy as np

MISMATCH = 1.5  # ratio of voxel sizes from which a person is told


def segment(run: str, input: str, output: str, *, level: int | None = None, voxel_size: Sequence[float] | None = None,
            axes: str | None = None, classes: bool = False, overwrite: bool = False, device: str = "auto") -> None:
    """Segment the image `input` with the run's model into `output` (.tif, .tiff or .ome.zarr), uint8 (Z, Y, X).

    Labels are cluster numbers 0 .. k-1, with the names and colours that `sccs name` gave them; with `classes`, the
    number of each cluster's name in alphabetical order from 1, and 0 for clusters without a name.
    voxel_size: (z, y, x) nm, for files that do not say. Raises UserError for bad input, before anything is written.
    """
    from sccs.colours import cluster_colours
    from sccs.data.readers import open_image
    from sccs.data.volumes import Volume
    from sccs.data.writers import check_output, write_labels
    from sccs.naming import cluster_names, read_names
    from sccs.pipeline import Pipeline
    from registry.base import UserError

    check_output(output, overwrite)
    source = open_image(input, axes=axes, voxel_size=voxel_size, level=level)
    model = Pipeline.load(run, device)
    entries = read_names(run)
    if classes and not entries:
        raise UserError(f"--classes: clusters of {run} have no names yet; give them with `sccs name {run} 3=nucleus`")
    volume = Volume(Path(output).stem, source.array, path=str(input), voxel_size=source.voxel_size, fov=model.fov)
    warn_of_voxels(source.voxel_size, model.info.get("voxel_size"))
    if classes:
        distinct = sorted({entry["name"] for entry in entries.values()})
        table = np.zeros(256, np.uint8)
        for cluster, entry in entries.items():
            table[cluster] = 1 + distinct.index(entry["name"])
        names = {0: "unnamed", **{1 + i: name for i, name in enumerate(distinct)}}
        colours = {1 + distinct.index(entry["name"]): entry["colour"] for entry in entries.values()}
    else:
        table = np.arange(256, dtype=np.uint8)
        names = dict(enumerate(cluster_names(entries, model.k)))
        colours = {**dict(enumerate(cluster_colours(model.k))), **{c: entry["colour"] for c, entry in entries.items()}}
    write_labels(output, (table[plane] for plane in progress(model.segment_slices(volume), len(volume.z_slices))),
                 volume.shape, source.voxel_size, names=names, overwrite=overwrite,
                 colours={label: rgb(colour) for label, colour in colours.items()})
    labels = ", ".join(f"{label} {name}" for label, name in names.items()) if entries else f"clusters 0 to {model.k - 1}"
    print(f"{output}: {' x '.join(map(str, volume.shape))} (z, y, x), {labels}")


def warn_of_voxels(here: Sequence[float] | None, trained: Sequence[float] | None) -> None:
    """Say it where the image's pixels are of another size than those that the model was trained on."""
    if here is None or trained is None:
        return
    ratio = here[-1] / trained[-1]
    if not 1 / MISMATCH < ratio < MISMATCH:
        print(f"sccs: warning: the image has {here[-1]:.4g} nm pixels, the model was trained at {trained[-1]:.4g} nm: "
              "expect worse results; choose another --level or rescale the image", file=sys.stderr)


def progress(planes, total: int):
    from tqdm import tqdm

    return tqdm(planes, total=total, desc="segmenting", unit="slice", disable=None)


def rgb(colour: str) -> tuple[int, int, int]:
    """'#f5c518' -> (245, 197, 24)."""
    return tuple(int(colour[i:i + 2], 16) for i in (1, 3, 5))
