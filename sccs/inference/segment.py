"""`sccs segment RUN INPUT OUTPUT`: a trained run applied to another image, in bounded memory.

To TIFF slice by slice, to OME-Zarr block by block (sccs/inference/block_job.py), with the same labels. Fields of view overlap,
and are stitched where they agree (sccs/inference/stitch.py).
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from registry.base import UserError
from sccs.inference.blocks import EMPTY, Plan, Span, chosen_level, default_halo, make_plan
from sccs.system.lock import held

if TYPE_CHECKING:
    from sccs.data.readers import ImageSource
    from sccs.data.volumes import Volume
    from sccs.pipeline import Pipeline

UNNAMED = 255  # pixels without a class; class codes are 0 to 254


@dataclass(frozen=True)
class Legend:
    """What the labels of a file mean: names, and colours as (r, g, b)."""

    names: dict[int, str]
    colours: dict[int, tuple[int, int, int]]


def one_at_a_time(function: Callable) -> Callable:
    """`function(run, input, output, ...)`, while no other command writes that output."""

    @functools.wraps(function)
    def alone(run: str, input: str, output: str, **options: Any) -> None:
        from sccs.data.writers import check_output

        check_output(output, options.get("overwrite", False))
        with held(output):
            return function(run, input, output, **options)

    return alone


@one_at_a_time
def segment(
    run: str,
    input: str,
    output: str,
    *,
    level: int | str | None = None,
    voxel_size: Sequence[float] | None = None,
    axes: str | None = None,
    plane: str = "xy",
    depth: float | None = None,
    classes: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    region: str | None = None,
    mask: str | None = None,
    halo: int | None = None,
    block: Sequence[int] | None = None,
    ome: str | None = None,
    workers: int = 1,
    scheduler: str | None = None,
    resume: bool = False,
) -> None:
    """Segment the image `input` with the run's model into `output` (.tif, .tiff or .ome.zarr), uint8 (Z, Y, X).

    Labels are cluster numbers 0 .. k-1, with the names and colours that `sccs name` gave them; with `classes`, class
    codes as `class_codes` gives them. 255: not segmented, as outside of the mask and where a whole field of view has
    one grey value. Images are standardised over the region.

    Arguments
        level: of a pyramid; "auto": that of voxels nearest in size to those trained on.
        voxel_size: (z, y, x) nm, for files that do not say.
        plane: the planes that are segmented, xy, xz or yz; the file is (Z, Y, X) all the same.
        depth: weight of edges between neighbouring slices (sccs.inference.depth); None: slices are segmented one by one.
        region: "z0:z1,y0:y1,x0:x1" in voxels of the level; what is left out is used whole.
        mask: an image of the same shape, or coarser by whole factors; nothing is segmented where it is 0.
        halo: px that neighbouring fields of view see of one another; default 40, a fourteenth of smaller ones.
        block: shape (z, y, x) in voxels of the unit of work; y and x become whole fields of view.
        ome: version of OME-Zarr, "0.5" (default) or "0.4".
        workers, scheduler: processes on this machine, or the address of a Dask scheduler.
        resume: go on with an unfinished segmentation, or begin.

    `block`, `ome`, `workers`, `scheduler` and `resume` are for OME-Zarr. Another `plane` and `depth` go slice by slice,
    with fields of view that only touch: with them, there is none of `halo`, `block`, `workers`, `scheduler` and
    `resume`. Raises UserError for bad input, before anything is written.
    """
    from sccs.data.label_store import import_zarr, write_store
    from sccs.data.writers import ZARR_SUFFIXES, write_labels
    from sccs.evaluation.naming import read_names
    from sccs.inference import block_job
    from sccs.inference.depth import check_depth
    from sccs.pipeline import Pipeline

    by_slices = plane != "xy" or depth is not None
    if by_slices and (halo is not None or block or workers > 1 or scheduler or resume):
        raise UserError(
            "--plane and --depth go slice by slice, in one process, and fields of view only touch; leave "
            "out --halo, --block, --workers, --scheduler and --resume"
        )
    as_zarr = Path(output).suffix.lower() in ZARR_SUFFIXES
    in_blocks = as_zarr and not by_slices
    if as_zarr:
        import_zarr(output)
    if in_blocks:
        block_job.check_partial(output, resume, overwrite)
        if workers > 1 or scheduler is not None:
            block_job.import_distributed()
    if not as_zarr and (block is not None or ome is not None or resume or workers > 1 or scheduler is not None):
        raise UserError(
            f"{output}: --block, --ome, --workers, --scheduler and --resume are for OME-Zarr; name it "
            ".ome.zarr, or leave them out"
        )
    model = Pipeline.load(run, device)
    if depth is not None:
        check_depth(model, depth)
    entries = {cluster: entry for cluster, entry in read_names(run).items() if 0 <= cluster < model.k}
    if classes and not entries:
        raise UserError(f"--classes: clusters of {run} have no names yet; give them with `sccs name {run} 3=nucleus`")
    source, level = open_level(input, level, voxel_size, axes, model.info.get("voxel_size"), model.min_side, plane)
    warn_of_voxels(source.voxel_size, model.info.get("voxel_size"))
    if classes:
        known = {int(code): name for code, name in model.info.get("classes", {}).items()}
        table, legend = class_codes(entries, model.k, known, model.info.get("ignore"), model.recipe.evaluation.rest)
    else:
        table, legend = np.arange(model.k, dtype=np.uint8), cluster_legend(entries, model.k)
    if as_zarr or by_slices or mask is not None:
        legend.names.setdefault(EMPTY, "not segmented")
    settings: dict[str, Any] = {
        "run": absolute(run),
        "model": fingerprint_of(run),
        "input": absolute(input),
        "axes": axes,
        "level": level,
        "voxel_size": source.voxel_size and list(source.voxel_size),
        "mask": mask and absolute(mask),
        "region": whole_region(parse_region(region), source.shape, input),
        "fov": model.fov,
        "halo": default_halo(model.fov) if halo is None else halo,
        "block": block and list(block),
        "kind": "classes" if classes else "clusters",
        "ome": ome or "0.5",
        "table": table.tolist(),
    }
    shape = [stop - start for start, stop in settings["region"]]
    store: dict[str, Any] = {"voxel_size": source.voxel_size, "names": legend.names, "colours": legend.colours}
    first = np.array([start for start, _ in settings["region"]]) * (source.voxel_size or (1.0, 1.0, 1.0))
    translation = (first + source.translation).tolist()
    if by_slices:
        slices = slice_labels(model, settings, plane, depth, table)
        if as_zarr:
            about = {**settings, "halo": 0, "plane": plane, "depth": depth}
            write_store(
                output,
                slices,
                shape,
                settings["kind"],
                version=settings["ome"],
                translation=translation,
                about=about,
                overwrite=overwrite,
                **store,
            )
        else:
            write_labels(output, slices, shape, overwrite=overwrite, **store)
        return report(output, shape, len(table), entries, legend)
    plan = make_plan(shape, settings["fov"], settings["halo"], settings["block"])
    if mask is not None:
        open_mask(settings)
    before = block_job.begun(output) if in_blocks and resume else None
    if before is not None:
        block_job.check_same(before["settings"], settings)
    else:
        volume = open_volume(settings, model.min_side)
    if not in_blocks:
        planes = progress(segmented_planes(model, volume, open_mask(settings), table, plan), shape[0])
        write_labels(output, planes, shape, overwrite=overwrite, **store)
    else:
        del model  # workers have their own
        if before is None:
            block_job.begin(output, settings, (volume.mean, volume.std), translation=translation, **store)
        block_job.carry_out(output, device, workers, scheduler, bar)
        block_job.finish(output)
    report(output, shape, len(table), entries, legend)


def report(output: str, shape: Sequence[int], k: int, entries: Mapping, legend: Legend) -> None:
    labels = f"clusters 0 to {k - 1}"
    if entries:
        labels = ", ".join(f"{label} {name}" for label, name in legend.names.items())
    print(f"{output}: {' x '.join(map(str, shape))} (z, y, x), {labels}")


def slice_labels(
    model: Pipeline, settings: Mapping[str, Any], plane: str, depth: float | None, table: np.ndarray
) -> Iterator[np.ndarray]:
    """Labels (Y, X) of the region's slices, by planes of another axis or with edges between slices.

    As with blocks, `EMPTY` where the mask is 0 and in FOVs of one grey value. A few planes are in memory; labels of
    other planes than xy are gathered in a temporary file.
    """
    from sccs.data.planes import restored, turn_back
    from sccs.inference import depth as slabs

    volume, mask = open_volume(settings, model.min_side, plane=plane), open_mask(settings, plane)
    everything = slice(0, volume.shape[1]), slice(0, volume.shape[2])

    @functools.lru_cache(maxsize=2 * slabs.REACH + 2)  # those that depth looks ahead to
    def inside(z: int) -> np.ndarray:
        if mask is None:
            return np.ones(volume.shape[1:], bool)
        return mask(z - volume.origin[0], *everything)

    clusters = plane_clusters(model, volume, inside)
    if depth is not None:
        clusters = slabs.segment_slices(model, volume, depth, inside=inside)
    codes = np.full(256, EMPTY, np.uint8)
    codes[: len(table)] = table
    labels = (
        np.where(inside(z), codes[found], EMPTY)
        for z, found in zip(volume.z_slices, progress(clusters, len(volume.z_slices)))
    )
    return restored(labels, turn_back(volume.shape, plane), plane)


def plane_clusters(model: Pipeline, volume: Volume, inside: Callable[[int], np.ndarray]) -> Iterator[np.ndarray]:
    """Clusters (H, W) uint8 of every plane; `EMPTY` in FOVs that have no place inside, or one grey value."""
    fovs = volume.fovs()
    for z in volume.z_slices:
        plane = np.full(volume.shape[1:], EMPTY, np.uint8)
        for tile, fov in zip(volume.tiles, fovs):
            if inside(z)[tile.window].any() and fov.image.min() < fov.image.max():
                plane[tile.window] = model.segment_fov(fov.image).clusters
        yield plane


# ------------------------------------------------------------------------------------------------------------ input
def absolute(path: str | os.PathLike) -> str:
    from sccs.data.readers import expand

    return os.path.abspath(expand(path))


def fingerprint_of(run: str) -> str:
    """Of the model's files, or of an export in one file."""
    folder = Path(run, "model") if Path(run, "model").is_dir() else Path(run)
    if folder.is_file():
        return hashlib.sha256(folder.read_bytes()).hexdigest()[:16]
    digest = hashlib.sha256()
    for file in [*sorted(folder.glob("*.safetensors")), folder / "model.json"]:
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def open_level(
    input: str,
    level: int | str | None,
    voxel_size: Sequence[float] | None,
    axes: str | None,
    trained: Sequence[float] | None,
    min_side: int = 1,
    plane: str = "xy",
) -> tuple[ImageSource, int | None]:
    """The image at the level asked for, and its number; `trained`: voxel size (z, y, x) nm that the model knows.

    "auto" leaves out levels whose planes have a side below `min_side` px, as long as there is another.
    """
    from sccs.data.planes import turn
    from sccs.data.readers import level_sizes, open_image

    if level == "auto":
        if voxel_size is not None:
            raise UserError("--level auto goes by the voxel sizes of the file; give --level L beside --voxel-size")
        if trained is None:
            raise UserError("--level auto: the run does not know the voxel size that it was trained at; give --level L")
        sizes = level_sizes(input, axes)
        if None in sizes:
            raise UserError(f"--level auto: {input} does not say its voxel size; give --level L and --voxel-size")
        levels = list(range(len(sizes)))
        if len(levels) > 1:
            shapes = [open_image(input, axes=axes, level=number).shape for number in levels]
            levels = [number for number in levels if min(turn(shapes[number], plane)[1:]) >= min_side] or levels
        level = levels[chosen_level([sizes[number] for number in levels], trained)]
        note = "" if len(levels) == len(sizes) else f", of those with at least {min_side} px a side"
        print(
            f"level {level} of {len(sizes)}: {_nm(sizes[level])}, the nearest to the {_nm(trained)} of the "
            f"training{note}"
        )
        level = level if len(sizes) > 1 else None
    return open_image(input, axes=axes, voxel_size=voxel_size, level=level), level


def _nm(size: Sequence[float]) -> str:
    return " x ".join(f"{s:.4g}" for s in size) + " nm"


def parse_region(text: str | None) -> list[tuple[int | None, int | None]]:
    """ "z0:z1,y0:y1,x0:x1", each number optional -> three pairs."""
    if text is None:
        return [(None, None)] * 3
    parts = [re.fullmatch(r"(\d*):(\d*)", part.strip()) for part in text.split(",")]
    if len(parts) != 3 or None in parts:
        raise UserError(f"--region {text}: write z0:z1,y0:y1,x0:x1 in voxels of the level, such as 0:100,:,512:1536")
    return [tuple(int(number) if number else None for number in part.groups()) for part in parts]


def whole_region(region: Sequence[tuple[int | None, int | None]], shape: Sequence[int], path: str) -> list[list[int]]:
    """[[z0, z1], [y0, y1], [x0, x1]], half-open, within an image of that shape (Z, Y, X)."""
    found = []
    for axis, (start, stop), size in zip("zyx", region, shape):
        start, stop = start or 0, size if stop is None else stop
        if not 0 <= start < stop <= size:
            raise UserError(f"--region: {axis} {start}:{stop} is not within {path}, which has {size}")
        found.append([start, stop])
    return found


def open_volume(
    settings: Mapping[str, Any], min_side: int, statistics: tuple[float, float] | None = None, plane: str = "xy"
) -> Volume:
    """The region of the image as standardised slices; statistics: its mean and deviation, where they are known."""
    from sccs.data.readers import open_image
    from sccs.data.volumes import Region, Volume

    source = open_image(
        settings["input"], axes=settings["axes"], voxel_size=settings["voxel_size"], level=settings["level"]
    )
    z, y, x = settings["region"]
    return Volume(
        "volume",
        source.array,
        path=source.path,
        voxel_size=source.voxel_size,
        fov=settings["fov"],
        region=Region(z=z, y=y, x=x),
        min_side=min_side,
        statistics=statistics,
        plane=plane,
    )


class Mask:
    """Where to segment, read in voxels of the region from an image that may be coarser.

    array, shape, origin: (z, y, x) of the file, as the mask, the image and the region have them.
    """

    def __init__(self, array, shape: Sequence[int], origin: Sequence[int], path: str, plane: str = "xy"):
        from sccs.data.planes import turn, turned

        self.array, self.origin = turned(array, plane), turn(origin, plane)
        self.factors = [max(1, round(n / m)) for n, m in zip(shape, array.shape)]
        if any(abs(n - m * f) >= f for n, m, f in zip(shape, array.shape, self.factors)):
            raise UserError(
                f"--mask {path}: has shape {tuple(array.shape)} (z, y, x), the image {tuple(shape)}; make "
                "it of that shape, or coarser by whole factors"
            )
        self.factors = turn(self.factors, plane)

    def __call__(self, z: int, y: slice, x: slice) -> np.ndarray:
        """(h, w) bool of a window of slice z, rows y, columns x of the plane."""
        index = []
        for axis, (start, stop) in enumerate(((z, z + 1), (y.start, y.stop), (x.start, x.stop))):
            at = (np.arange(start, stop) + self.origin[axis]) // self.factors[axis]
            index.append(np.minimum(at, self.array.shape[axis] - 1))
        part = self.array[index[0][0], index[1][0] : index[1][-1] + 1, index[2][0] : index[2][-1] + 1] != 0
        return part[index[1] - index[1][0]][:, index[2] - index[2][0]]


def open_mask(settings: Mapping[str, Any], plane: str = "xy") -> Mask | None:
    from sccs.data.readers import open_image

    if settings["mask"] is None:
        return None
    source = open_image(
        settings["input"], axes=settings["axes"], voxel_size=settings["voxel_size"], level=settings["level"]
    )
    mask = open_image(settings["mask"])
    return Mask(mask.array, source.shape, [start for start, _ in settings["region"]], settings["mask"], plane)


# ----------------------------------------------------------------------------------------------------------- labels
def label_fov(
    model: Pipeline,
    volume: Volume,
    mask: Mask | None,
    table: np.ndarray,
    z: int,
    y: Span,
    x: Span,
    image: np.ndarray | None = None,
) -> np.ndarray:
    """Labels (h, w) uint8 of all that one FOV sees of slice z of the region; `image`: its pixels, if they are there.

    `EMPTY` where the mask is 0, and throughout where nothing is to be written at the FOV's centre: it is outside of
    the mask or of one grey value.
    """
    inside = None if mask is None else mask(z, slice(y.low, y.high), slice(x.low, x.high))
    empty = np.full((y.high - y.low, x.high - x.low), EMPTY, np.uint8)
    if inside is not None and not inside[y.core, x.core].any():
        return empty
    if image is None:
        image = volume.read_window(volume.origin[0] + z, slice(y.low, y.high), slice(x.low, x.high))
    core = image[y.core, x.core]
    if core.min() == core.max():
        return empty
    labels = table[model.segment_fov(np.ascontiguousarray(image)).clusters]
    return labels if inside is None else np.where(inside, labels, empty)


def segmented_planes(
    model: Pipeline, volume: Volume, mask: Mask | None, table: np.ndarray, plan: Plan
) -> Iterator[np.ndarray]:
    """Labels (Y, X) of every slice, one after the other: what the blocks of `sccs.inference.block_job` hold."""
    from sccs.data.volumes import PLANE_AT_ONCE
    from sccs.inference.stitch import stitched

    everything = slice(0, plan.shape[1]), slice(0, plan.shape[2])
    for z in range(plan.shape[0]):
        whole = plan.shape[1] * plan.shape[2] <= PLANE_AT_ONCE
        image, top = volume.read_window(volume.origin[0] + z, *everything) if whole else None, 0
        fovs = {}
        for i, y in enumerate(plan.y):
            if not whole:
                image, top = volume.read_window(volume.origin[0] + z, slice(y.low, y.high), everything[1]), y.low
            for j, x in enumerate(plan.x):
                view = image[y.low - top : y.high - top, x.low : x.high]
                fovs[i, j] = label_fov(model, volume, mask, table, z, y, x, view)[None]

        def read(i: int, j: int, rows: slice, columns: slice) -> np.ndarray:
            top, left = plan.y[i].low, plan.x[j].low
            return fovs[i, j][:, rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]

        plane = np.empty(plan.shape[1:], np.uint8)
        for i, j in fovs:
            y, x = plan.y[i], plan.x[j]
            plane[y.start : y.stop, x.start : x.stop] = stitched(i, j, plan.y, plan.x, plan.halo, read, EMPTY)[0]
        yield plane


def cluster_legend(entries: Mapping[int, Mapping[str, str]], k: int) -> Legend:
    """Of files with cluster numbers; `entries` as `sccs.evaluation.naming.read_names` gives them, {} where nobody named any."""
    from sccs.evaluation.naming import cluster_names
    from sccs.system.colours import cluster_colours, rgb

    colours = {**dict(enumerate(cluster_colours(k))), **{c: entry["colour"] for c, entry in entries.items()}}
    return Legend(dict(enumerate(cluster_names(entries, k))), {c: rgb(colour) for c, colour in colours.items()})


def class_legend(classes: Mapping[int, str], chosen: Mapping[str, str] | None = None) -> Legend:
    """Of files with class codes; chosen: name -> "#rrggbb" where a person has chosen one."""
    from sccs.system.colours import class_colours, rgb

    colours = class_colours(list(classes.values()), chosen)
    return Legend(dict(classes), {code: rgb(colours[name]) for code, name in classes.items()})


def class_codes(
    entries: Mapping[int, Mapping[str, str]],
    k: int,
    classes: Mapping[int, str],
    ignore: int | None = None,
    rest: str | None = None,
) -> tuple[np.ndarray, Legend]:
    """Table (k,) uint8 from clusters to class codes, and what the codes mean.

    entries: the named ones of the k clusters. classes, ignore: codes and names of the run's data set. rest: its
    `evaluation.rest`.

    A name of the data set's (in whatever case) has the code that it has there. Further names take, in alphabetical
    order, the codes that follow the data set's, from 1 where it has none. Clusters without a name count as the rest
    class, as they do in the scores; where there is none they are 255, "unnamed".
    """
    from sccs.evaluation.scores import rest_position

    code_of = {name.strip().lower(): code for code, name in reversed(classes.items())}
    further = {}
    for name in sorted(entry["name"] for entry in entries.values()):
        if (plain := name.strip().lower()) not in code_of:
            further.setdefault(plain, name)
    top = max(classes, default=0)
    free = [code for code in (*range(top + 1, UNNAMED), *range(top)) if code not in classes and code != ignore]
    if len(further) > len(free):
        raise UserError(
            f"--classes: {len(further)} names that are no class of the data, but {len(free)} free codes; "
            "give clusters the same name, or leave --classes out"
        )
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


def bar(total: int, what: str):
    from tqdm import tqdm

    return tqdm(total=total, desc=what, unit="FOV" if what == "segmenting" else "block", disable=None)
