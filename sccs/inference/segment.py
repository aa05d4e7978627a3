"""`sccs segment RUN INPUT OUTPUT`: apply a trained run to another image, in bounded memory.

Writes TIFF slice by slice and OME-Zarr block by block (sccs/inference/block_job.py), with the same labels as `sccs
run`, Python and napari (sccs/inference/labels.py). Fields of view overlap, and are stitched where they agree
(sccs/inference/stitch.py).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from registry.base import UserError
from sccs.data.label_store import create_probabilities, import_zarr, write_store
from sccs.data.planes import Plane, restored, turn
from sccs.data.pyramid import CHUNK, EMPTY
from sccs.data.readers import ImageSource, files_of
from sccs.data.writers import ZARR_SUFFIXES, check_output, write_labels
from sccs.evaluation.legend import Legend, class_codes, cluster_legend, taught_codes
from sccs.inference import block_job, depth, labels
from sccs.inference.blocks import default_halo, following, make_plan, overlapping
from sccs.inference.labels import Classes
from sccs.inference.partial import check_partial, check_same, partial_folder
from sccs.inference.source import (
    absolute,
    by_planes,
    open_level,
    open_mask,
    open_volume,
    parse_region,
    say_absent,
    warn_of_voxels,
    whole_region,
)
from sccs.inference.workers import import_distributed
from sccs.model import batches
from sccs.model.model import Model
from sccs.system.apart import check_apart
from sccs.system.files import atomic_path, temporary_folder
from sccs.system.lock import held
from sccs.system.log import bar, say, say_error


@dataclass(frozen=True)
class Options:
    """The options of `segment` and of the command.

    Arguments
        level: of a pyramid; "auto": the one whose voxel size is closest to that of the training images.
        voxel_size: (z, y, x) nm, if the file does not give it. axes: order of axes, such as "ZYX", likewise.
        plane: orientation of the planes to segment, xy, xz or yz; the output is (Z, Y, X) in any case.
        depth: weight of edges between neighbouring slices (sccs.inference.depth); None: slice by slice.
        classes: write class codes instead of cluster numbers, by `class_codes`, or for a taught run by its
        teacher.
        probabilities: an additional OME-Zarr for a taught run: 0 .. 255 for the probability of each class.
        region: "z0:z1,y0:y1,x0:x1" in voxels of the level; omitted bounds extend to the border.
        mask: an image of the same shape, or coarser by integer factors; nothing is segmented where it is 0.
        halo: px by which each field of view extends beyond its part; None: `sccs.inference.blocks.default_halo`.
        block: block shape (z, y, x) in voxels; y and x are rounded to whole fields of view.
        ome: version of OME-Zarr, "0.5" (default) or "0.4".
        workers, scheduler: processes on this machine, or the address of a Dask scheduler.
        resume: continue an unfinished segmentation, or start one. overwrite: replace an existing OUTPUT.

    `block`, `ome`, `workers`, `scheduler` and `resume` require OME-Zarr. Another `plane` and `depth` work slice by
    slice, in one process, and exclude `block`, `workers`, `scheduler` and `resume`.
    """

    level: int | str | None = None
    voxel_size: Sequence[float] | None = None
    axes: str | None = None
    plane: Plane = "xy"
    depth: float | None = None
    classes: bool = False
    probabilities: str | None = None
    overwrite: bool = False
    device: str = "auto"
    region: str | None = None
    mask: str | None = None
    halo: int | None = None
    block: Sequence[int] | None = None
    ome: str | None = None
    workers: int = 1
    scheduler: str | None = None
    resume: bool = False

    @property
    def by_slices(self) -> bool:
        """Whether to work slice by slice, even for OME-Zarr."""
        return self.plane != "xy" or self.depth is not None

    def check(self, output: str) -> None:
        """Raises UserError for incompatible options, options that do not fit OUTPUT, and missing packages."""
        shared = self.workers > 1 or self.scheduler is not None
        if self.by_slices and (self.block or shared or self.resume):
            raise UserError(
                "--plane and --depth work slice by slice, in one process; leave out --block, --workers, --scheduler "
                "and --resume"
            )
        if self.probabilities is not None:
            if not is_zarr(self.probabilities) or self.plane != "xy":
                raise UserError(
                    f"--probabilities {self.probabilities}: needs plane xy and a name that ends in .ome.zarr"
                )
            import_zarr(self.probabilities)
        if is_zarr(output):
            import_zarr(output)
            if not self.by_slices:
                check_partial(output, self.resume, self.overwrite, block_job.CONTENT)
                if shared:
                    import_distributed()
        elif self.block is not None or self.ome is not None or self.resume or shared:
            raise UserError(
                f"{output}: --block, --ome, --workers, --scheduler and --resume need OME-Zarr; name it "
                ".ome.zarr, or leave them out"
            )


def is_zarr(output: str) -> bool:
    """Whether OUTPUT has an OME-Zarr's suffix."""
    return Path(output).suffix.lower() in ZARR_SUFFIXES


def segment(run: str, input: str, output: str, **options: Any) -> None:
    """Segment the image `input` with the run's model into `output` (.tif, .tiff or .ome.zarr), uint8 (Z, Y, X).

    options: those of `Options`. Labels are cluster numbers 0 .. k-1, with the names and colours given by `sccs name`,
    or class codes. 255 means not segmented: outside the mask, or in a field of view of a single grey value.
    Images are standardised over the region.

    Raises UserError for bad input, before anything is written, or if another command is writing that output.
    """
    wished = Options(**options)
    check_output(output, wished.overwrite)
    if wished.probabilities is not None:
        _check_beside(wished.probabilities, output)
    with ExitStack() as until_done:
        until_done.enter_context(held(output, "sccs segment"))
        _check_apart(run, input, output, wished.mask)
        wished.check(output)
        if wished.probabilities is not None:
            check_output(wished.probabilities, wished.overwrite)
            check_apart(wished.probabilities, {"OUTPUT": [absolute(output)]})
            _check_apart(run, input, wished.probabilities, wished.mask)
            until_done.enter_context(held(wished.probabilities, "sccs segment"))
        _segment(run, input, output, wished)


def _check_beside(probabilities: str, output: str) -> None:
    """Raises UserError if one of the two would lie inside the other, even if that does not exist yet."""
    one, other = (Path(os.path.realpath(each)) for each in (probabilities, output))
    if one in other.parents or other in one.parents:
        raise UserError(f"--probabilities {probabilities}: overlaps with OUTPUT {output}; choose a separate path")


def _check_apart(run: str, input: str, output: str, mask: str | None, companions: Sequence[str] = ()) -> None:
    """Raises UserError if OUTPUT, or anything written beside it, overlaps with an input."""
    given = {
        "INPUT": [absolute(input), *companions],
        "the mask": [] if mask is None else [absolute(mask)],
        "RUN": [absolute(run)],
    }
    check_apart(output, given, beside=[partial_folder(output)] if is_zarr(output) else [])


def _segment(run: str, input: str, output: str, options: Options) -> None:
    model = Model.load(run, options.device)
    if options.depth is not None:
        depth.check_depth(model, options.depth)
    if model.device != "cpu" and (left := batches.on_cpu(model)):
        say_error(f"{model.device}: steps that stay on the CPU: {', '.join(left)}")
    entries = {cluster: entry for cluster, entry in model.names.items() if cluster < model.k}
    if options.probabilities is not None and model.taught is None:
        raise UserError(
            f"--probabilities: {run} has not been taught; label a few pixels, then `sccs teach {run} LABELS`"
        )
    if options.classes and not entries and model.taught is None:
        raise UserError(f"--classes: clusters of {run} have no names yet; name them with `sccs name {run} 3=nucleus`")
    trained = model.info.get("voxel_size")
    source, level = open_level(
        input, options.level, options.voxel_size, options.axes, trained, model.min_side, options.plane
    )
    _check_apart(run, input, output, options.mask, files_of(source))
    warn_of_voxels(source.voxel_size, trained)
    if model.info.get("masked") and options.mask is None:
        say_error(f"{run} was trained within masks; without --mask, empty background is labelled as tissue, too")
    shown, table = None, np.arange(model.k, dtype=np.uint8)
    if options.probabilities is not None or (options.classes and model.taught is not None):
        shown, legend = taught_meaning(model, options.probabilities is not None)
    elif options.classes:
        table, legend = named_meaning(model)
    else:
        legend = cluster_legend(entries, model.k, model.gone)
    if is_zarr(output) or options.by_slices or options.mask is not None:
        legend.names.setdefault(EMPTY, "not segmented")
    region = whole_region(parse_region(options.region), source.shape, input)
    sides = turn([stop - start for start, stop in region], options.plane)[1:]
    halo = default_halo(sides, model.fov, model.features.context) if options.halo is None else options.halo
    chunk = source.array.chunk_depth
    settings: dict[str, Any] = {
        "run": absolute(run),
        "model": fingerprint_of(run),
        "input": absolute(input),
        "axes": options.axes,
        "level": level,
        "voxel_size": source.voxel_size and list(source.voxel_size),
        "mask": options.mask and absolute(options.mask),
        "region": region,
        "fov": model.fov,
        "halo": halo,
        "block": list(options.block) if options.block else following(chunk, source.shape, model.fov, halo),
        "kind": "classes" if options.classes or shown is not None else "clusters",
        "ome": options.ome or "0.5",
        "table": table.tolist(),
    }
    if model.edits is not None or shown is not None:
        settings["steps"] = _steps(model)
    if shown is not None:
        settings |= {"codes": shown.codes.tolist()}
        settings |= {"probabilities": absolute(options.probabilities)} if options.probabilities else {}
    elif options.classes:
        settings["looked_up"] = "after stitching"  # jobs of earlier versions, which did it before, are not resumed
    write = _in_blocks if is_zarr(output) and not options.by_slices else _by_slices
    write(model, output, options, settings, table, _store(source, legend, settings))
    say_absent(source, settings["region"])
    shape = _shape(settings)
    said = f"clusters 0 to {len(table) - 1}"
    if entries or shown is not None:
        said = ", ".join(f"{label} {name}" for label, name in legend.names.items())
    say(f"{output}: {' x '.join(map(str, shape))} (z, y, x), {said}")


def named_meaning(model: Model) -> tuple[np.ndarray, Legend]:
    """Table (k,) uint8 from clusters to class codes, by the clusters' names, and the codes' meaning."""
    entries = {cluster: entry for cluster, entry in model.names.items() if cluster < model.k}
    known = {int(code): name for code, name in model.info.get("classes", {}).items()}
    return class_codes(entries, model.k, known, model.info.get("ignore"), model.recipe.evaluation.rest)


def taught_meaning(model: Model, probabilities: bool = False) -> tuple[Classes, Legend]:
    """What to write for a taught model, and the meaning of its class codes. Raises UserError for too many classes."""
    assert model.taught is not None  # checked by the caller
    known = {int(code): name for code, name in model.info.get("classes", {}).items()}
    taught = model.taught
    codes, legend = taught_codes(taught.names, taught.colours, known, model.info.get("ignore"), taught.teacher.codes)
    return Classes(codes, probabilities), legend


def _steps(model: Model) -> str:
    """Digest of the user's edits to the model, so that blocks of two states are never mixed."""
    with temporary_folder() as folder:
        model.keep_made(folder)
        digest = hashlib.sha256()
        for file in sorted(folder.iterdir()):
            digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def _shape(settings: Mapping[str, Any]) -> list[int]:
    return [stop - start for start, stop in settings["region"]]


def _store(source: ImageSource, legend: Legend, settings: Mapping[str, Any]) -> dict[str, Any]:
    """OUTPUT's metadata: voxel size and position of its first voxel (nm), names and colours of labels."""
    first = np.array([start for start, _ in settings["region"]]) * (source.voxel_size or (1.0, 1.0, 1.0))
    return {
        "voxel_size": source.voxel_size,
        "names": legend.names,
        "colours": legend.colours,
        "translation": (first + source.translation).tolist(),
    }


def _by_slices(
    model: Model, output: str, options: Options, settings: dict[str, Any], table: np.ndarray, store: dict[str, Any]
) -> None:
    volume, mask = open_volume(settings, model.min_side, plane=options.plane), open_mask(settings, options.plane)
    fields = overlapping(volume.shape[1:], settings["fov"], settings["halo"])
    where = None if mask is None else by_planes(mask, volume.shape[1:], 2 * depth.REACH + 2)
    shown = block_job.shown_of(settings)
    if options.depth is None:
        planes = labels.segment_slices(model, volume, fields, where, shown=shown)
    else:
        planes = depth.segment_slices(model, volume, options.depth, fields=fields, mask=where, shown=shown)
    shape = _shape(settings)
    planes = bar(len(volume.z_slices), "segmenting", "slice", planes)
    with ExitStack() as until_done:
        if shown is not None:
            planes = _classes_alone(planes, _probabilities(model, shape, settings, store, until_done))
        else:
            planes = map(labels.look_up(table).__getitem__, planes)
        _write_slices(output, options, settings, restored(planes, shape, options.plane), shape, store)


def _probabilities(
    model: Model, shape: Sequence[int], settings: dict[str, Any], store: dict[str, Any], until_done: ExitStack
) -> Any:
    """The array (C + 1, Z, Y, X) for them, or None if not requested; it gets its final name at the end."""
    if not settings.get("probabilities"):
        return None
    assert model.taught is not None  # or there were none to ask for
    scratch = until_done.enter_context(atomic_path(settings["probabilities"]))
    return create_probabilities(scratch, shape, (1, *CHUNK[1:]), model.taught.names, settings, store)


def _classes_alone(planes: Iterable[np.ndarray], probabilities: Any) -> Iterator[np.ndarray]:
    """Class codes (Y, X) of planes (Y, X, channels); the other channels go to the array."""
    for z, plane in enumerate(planes):
        if probabilities is not None:
            probabilities[:, z] = np.moveaxis(plane[..., 1:], -1, 0)
        yield np.ascontiguousarray(plane[..., 0])


def _write_slices(
    output: str,
    options: Options,
    settings: dict[str, Any],
    slices: Iterable[np.ndarray],
    shape: list[int],
    store: dict[str, Any],
) -> None:
    if is_zarr(output):
        about = {**settings, "plane": options.plane, "depth": options.depth}
        kind, version = settings["kind"], settings["ome"]
        write_store(output, slices, shape, kind, version=version, about=about, overwrite=options.overwrite, **store)
    else:
        told = {key: value for key, value in store.items() if key != "translation"}
        write_labels(output, slices, shape, overwrite=options.overwrite, **told)


def _in_blocks(
    model: Model, output: str, options: Options, settings: dict[str, Any], table: np.ndarray, store: dict[str, Any]
) -> None:
    make_plan(_shape(settings), settings["fov"], settings["halo"], settings["block"])  # raises early
    open_mask(settings)
    before = block_job.begun(output) if options.resume else None
    if before is not None:
        check_same(before["settings"], settings)
    else:
        volume = open_volume(settings, model.min_side)
        block_job.begin(output, settings, (volume.mean, volume.std), model, **store)
    block_job.carry_out(output, options.device, options.workers, options.scheduler, _blocks)
    block_job.finish(output)


def fingerprint_of(run: str) -> str:
    """Fingerprint of the model's files, or of an export in one file."""
    folder = Path(run, "model") if Path(run, "model").is_dir() else Path(run)
    if folder.is_file():
        return hashlib.sha256(folder.read_bytes()).hexdigest()[:16]
    digest = hashlib.sha256()
    for file in [*sorted(folder.glob("*.safetensors")), folder / "model.json"]:
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def _blocks(total: int, what: str) -> Any:
    return bar(total, what, "FOV" if what == "segmenting" else "block")
