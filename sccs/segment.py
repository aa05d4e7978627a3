"""`sccs segment RUN INPUT OUTPUT`: a trained run applied to another image, slice by slice, in bounded memory."""
from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Mapping, Sequence

import numpy as np

from registry.base import UserError

UNNAMED = 255  # pixels without a class; class codes are 0 to 254


@dataclass(frozen=True)
class Legend:
    """What the labels of a file mean: names, and colours as (r, g, b)."""

    names: dict[int, str]
    colours: dict[int, tuple[int, int, int]]


def segment(run: str, input: str, output: str, *, level: int | None = None, voxel_size: Sequence[float] | None = None,
            axes: str | None = None, plane: str = "xy", depth: float | None = None, classes: bool = False,
            overwrite: bool = False, device: str = "auto") -> None:
    """Segment the image `input` with the run's model into `output` (.tif, .tiff or .ome.zarr), uint8 (Z, Y, X).

    Labels are cluster numbers 0 .. k-1, with the names and colours that `sccs name` gave them; with `classes`, class
    codes as `class_codes` gives them. voxel_size: (z, y, x) nm, for files that do not say. plane: the planes that are
    segmented, xy, xz or yz; the file is (Z, Y, X) all the same. depth: weight of edges between neighbouring slices
    (sccs.depth); None: slices are segmented one by one. Raises UserError for bad
    input, before anything is written.
    """
    from sccs import depth as slabs
    from sccs.data.planes import restored
    from sccs.data.readers import open_image
    from sccs.data.volumes import Volume
    from sccs.data.writers import check_output, write_labels
    from sccs.naming import read_names
    from sccs.pipeline import Pipeline

    check_output(output, overwrite)
    source = open_image(input, axes=axes, voxel_size=voxel_size, level=level)
    model = Pipeline.load(run, device)
    if depth is not None:
        slabs.check_depth(model, depth)
    entries = {cluster: entry for cluster, entry in read_names(run).items() if 0 <= cluster < model.k}
    if classes and not entries:
        raise UserError(f"--classes: clusters of {run} have no names yet; give them with `sccs name {run} 3=nucleus`")
    volume = Volume(Path(output).stem, source.array, path=str(input), voxel_size=source.voxel_size, fov=model.fov,
                    min_side=model.min_side, plane=plane)
    warn_of_voxels(source.voxel_size, model.info.get("voxel_size"))
    if classes:
        known = {int(code): name for code, name in model.info.get("classes", {}).items()}
        table, legend = class_codes(entries, model.k, known, model.info.get("ignore"), model.recipe.evaluation.rest)
    else:
        table, legend = np.arange(256, dtype=np.uint8), cluster_legend(entries, model.k)
    clusters = model.segment_slices(volume) if depth is None else slabs.segment_slices(model, volume, depth)
    slices = (table[labels] for labels in progress(clusters, len(volume.z_slices)))
    write_labels(output, restored(slices, volume.file_shape, plane), volume.file_shape, source.voxel_size,
                 names=legend.names, overwrite=overwrite, colours=legend.colours)
    labels = f"clusters 0 to {model.k - 1}"
    if entries:
        labels = ", ".join(f"{label} {name}" for label, name in legend.names.items())
    print(f"{output}: {' x '.join(map(str, volume.file_shape))} (z, y, x), {labels}")


def cluster_legend(entries: Mapping[int, Mapping[str, str]], k: int) -> Legend:
    """Of files with cluster numbers; `entries` as `sccs.naming.read_names` gives them, {} where nobody named any."""
    from sccs.colours import cluster_colours, rgb
    from sccs.naming import cluster_names

    colours = {**dict(enumerate(cluster_colours(k))), **{c: entry["colour"] for c, entry in entries.items()}}
    return Legend(dict(enumerate(cluster_names(entries, k))), {c: rgb(colour) for c, colour in colours.items()})


def class_legend(classes: Mapping[int, str], chosen: Mapping[str, str] | None = None) -> Legend:
    """Of files with class codes; chosen: name -> "#rrggbb" where a person has chosen one."""
    from sccs.colours import class_colours, rgb

    colours = class_colours(list(classes.values()), chosen)
    return Legend(dict(classes), {code: rgb(colours[name]) for code, name in classes.items()})


def class_codes(entries: Mapping[int, Mapping[str, str]], k: int, classes: Mapping[int, str],
                ignore: int | None = None, rest: str | None = None) -> tuple[np.ndarray, Legend]:
    """Table (k,) uint8 from clusters to class codes, and what the codes mean.

    entries: the named ones of the k clusters. classes, ignore: codes and names of the run's data set. rest: its
    `evaluation.rest`.

    A name of the data set's (in whatever case) has the code that it has there. Further names take, in alphabetical
    order, the codes that follow the data set's, from 1 where it has none. Clusters without a name count as the rest
    class, as they do in the scores; where there is none they are 255, "unnamed".
    """
    from sccs.evaluation import rest_position

    code_of = {name.strip().lower(): code for code, name in reversed(classes.items())}
    further = {}
    for name in sorted(entry["name"] for entry in entries.values()):
        if (plain := name.strip().lower()) not in code_of:
            further.setdefault(plain, name)
    top = max(classes, default=0)
    free = [code for code in (*range(top + 1, UNNAMED), *range(top)) if code not in classes and code != ignore]
    if len(further) > len(free):
        raise UserError(f"--classes: {len(further)} names that are no class of the data, but {len(free)} free codes; "
                        "give clusters the same name, or leave --classes out")
    numbered = {**classes, **dict(zip(free, further.values()))}
    code_of |= dict(zip(further, free))
    position = rest_position(list(classes.values()), rest)
    default = UNNAMED if position is None else list(classes)[position]
    table = np.full(k, default, np.uint8)
    for cluster, entry in entries.items():
        table[cluster] = code_of[entry["name"].strip().lower()]
    present = {code: numbered.get(code, "unnamed") for code in np.unique(table).tolist()}
    chosen = {numbered[int(table[cluster])]: entry["colour"] for cluster, entry in entries.items()}
    return table, class_legend(present, chosen)


def warn_of_voxels(here: Sequence[float] | None, trained: Sequence[float] | None) -> None:
    """Say it on stderr where `sccs.data.volumes.voxel_mismatch` has something to say."""
    from sccs.data.volumes import voxel_mismatch

    if (note := voxel_mismatch(here, trained)) is not None:
        print(f"sccs: warning: {note}", file=sys.stderr)


def progress(planes, total: int):
    from tqdm import tqdm

    return tqdm(planes, total=total, desc="segmenting", unit="slice", disable=None)
