"""`sccs objects LABELS OUT`: the objects in a class map, their measurements, and a report page."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry.base import UserError
from registry.requirements import pip_install
from sccs.data.label_store import import_zarr
from sccs.data.readers import ImageSource, expand, files_of, open_image
from sccs.inference.partial import check_partial, check_same, partial_folder
from sccs.inference.source import absolute
from sccs.inference.workers import import_distributed
from sccs.instances import job as jobs
from sccs.instances.blocks import make_blocks
from sccs.instances.classes import chosen, stored_names, voxels_of
from sccs.instances.export import check_formats, write_formats, write_meshes
from sccs.instances.page import write_page
from sccs.instances.split import default_depth
from sccs.instances.table import object_table, summary_table
from sccs.instances.work import Work
from sccs.system.apart import check_apart
from sccs.system.files import atomic_path, move_into_place, write_json
from sccs.system.lock import held
from sccs.system.log import say, say_error

if TYPE_CHECKING:
    import pandas

SMALL = 27  # voxels; smaller objects are suspicious


@dataclass(frozen=True)
class Options:
    """The options of the command; lengths in nm if the voxel size is known, else in voxels.

    Arguments
        classes: names, codes, or "name=code"; none: all that the file names, or contains. to: names of the classes to
        measure contacts and distances to; none: the other chosen ones.
        image: grey values of the same shape, for `mean_grey` and pictures.
        split: depth of the necks at which objects are split; "auto": two voxel edges; None: no splitting.
        min_size, fill: smallest object to keep, largest hole to fill: "500" voxels, "1e6nm3"; fill "all".
        bridge: gaps along z to bridge, in slices. smooth: radius of the majority filter.
        largest: how many objects of a class to keep. inside: names of classes; keep an object if more than half
        of its surface touches them. connectivity: 6, 18, 26.
        formats: of the labels, "zarr", "tiff", "precomputed". mesh: "object" or "class"; simplify: error allowed in
        meshes. The others are those of `sccs segment`.
    """

    classes: Sequence[str] = ()
    to: Sequence[str] | None = None
    image: str | None = None
    level: int | None = None
    voxel_size: Sequence[float] | None = None
    axes: str | None = None
    split: float | str | None = None
    min_size: str = "0"
    fill: str = "0"
    bridge: int = 0
    smooth: float = 0.0
    largest: int | None = None
    inside: Sequence[str] = ()
    connectivity: int = 26
    formats: Sequence[str] = ("zarr",)
    mesh: str | None = None
    mesh_format: str = "ply"
    simplify: float | None = None
    block: Sequence[int] | None = None
    ome: str | None = None
    workers: int = 1
    scheduler: str | None = None
    resume: bool = False
    overwrite: bool = False


def objects(labels: str, out: str, **options: Any) -> None:
    """Find and measure the objects of the class map `labels`, a file or a run, into the folder `out`.

    options: those of `Options`. Raises UserError for bad input, with nothing written.
    """
    wished = Options(**options)
    check_output(Path(out), wished.overwrite)
    with held(out, "sccs objects"):
        _objects(labels, out, wished)


def check_output(out: Path, overwrite: bool, remedy: str = "pass --overwrite") -> None:
    """Raises UserError if `out` exists, or, with `overwrite`, was not written by this command. remedy: how the caller's
    interface sets `overwrite`."""
    if out.suffix.lower() in (".tif", ".tiff", ".zarr", ".csv"):
        raise UserError(f"{out}: OUT is a folder for labels and tables: name it without {out.suffix}")
    if not os.path.lexists(out):
        return
    if not overwrite:
        raise UserError(f"{out}: already exists; choose another name, or {remedy}")
    if out.is_symlink() or not (out / jobs.ABOUT).is_file():
        raise UserError(f"{out}: not written by `sccs objects`, so it will not be replaced; choose another name")


def import_packages() -> None:
    """Raises UserError if a required package is missing."""
    try:
        import cc3d  # noqa: F401
        import edt  # noqa: F401
    except ImportError as error:
        raise UserError(f"sccs objects needs more packages: {pip_install('connected-components-3d', 'edt')}") from error


def class_map_of(path: str) -> str:
    """The class map of a run, if it has exactly one; other paths unchanged."""
    folder = Path(expand(path))
    if not (folder / "resolved.yaml").is_file():
        return path
    maps = sorted((folder / "segmentation").glob("*_classes.tif"))
    if len(maps) != 1:
        there = ", ".join(map(str, maps)) or "none: name its clusters (sccs name), then `sccs segment --classes`"
        raise UserError(f"{path}: is a run; give one of its class maps: {there}")
    return str(maps[0])


def _objects(labels: str, out: str, options: Options) -> None:
    path = class_map_of(labels)
    source = open_image(path, axes=options.axes, voxel_size=options.voxel_size, level=options.level, codes=True)
    image = options.image and _matching_image(options.image, source, options)
    given = {"LABELS": [absolute(labels), absolute(path), *files_of(source)]}
    if image:
        given["the image"] = [absolute(str(options.image)), *files_of(image)]
    check_apart(out, given, beside=[partial_folder(out)])
    import_packages()
    import_zarr(out)
    if options.workers > 1 or options.scheduler is not None:
        import_distributed()
    check_formats(options.formats, options.mesh)
    check_partial(out, options.resume, options.overwrite, jobs.CONTENT)
    settings = _settings(path, source, options)
    before = _begun(out) if options.resume else None
    if before is None:
        jobs.begin(out, settings)
    else:
        check_same(before["settings"], settings)
    if source.voxel_size is None:
        say_error(f"{source.path}: voxel size unknown, so all measurements are in voxels; give it with --voxel-size")
    if min(source.shape) == 1:
        say_error(f"{source.path}: a 2-D image, so areas and perimeters are measured instead of volumes and surfaces")
    job = jobs.carry_out(out, options.workers, options.scheduler, before is not None)
    _write(job, out, options)


def _begun(out: str) -> dict[str, Any] | None:
    folder = partial_folder(out)
    return jobs.read_about(folder) if (folder / jobs.ABOUT).exists() else None


def _matching_image(path: str, source: ImageSource, options: Options) -> ImageSource:
    image = open_image(path, level=options.level)
    if image.shape != source.shape:
        raise UserError(
            f"--image {path}: has shape {image.shape} (z, y, x), but the labels have {source.shape}; give their image"
        )
    return image


def _settings(path: str, source: ImageSource, options: Options) -> dict[str, Any]:
    """All that the result depends on and workers must know, as JSON."""
    size, flat = source.voxel_size, min(source.shape) == 1
    names = stored_names(expand(path))
    classes, names = chosen(options.classes, names, path)
    for option, value in (("--smooth", options.smooth), ("--simplify", options.simplify)):
        if value is not None and not 0 <= value < 1e9:
            raise UserError(f"{option} {value}: write a length in nm, from 0 to below 1e9")
    depth = options.split
    if depth == "auto":
        depth = default_depth(size or (1.0, 1.0, 1.0), source.shape)
    if depth is not None and not 0 < float(depth) < 1e9:
        raise UserError(f"--split {depth}: write a depth in nm, above 0 and below 1e9")
    fill = math.inf if options.fill == "all" else voxels_of(options.fill, "--fill", size, flat)
    known = {name.lower(): name for name in [*names.values(), *(classes or {})]}

    def spelt(wished: Sequence[str], option: str) -> list[str]:
        for name in wished:
            if known and name.lower() not in known:
                raise UserError(f"{option} {name}: no class has that name; the classes are {', '.join(known.values())}")
        return [known.get(name.lower(), name) for name in wished]

    return {
        "input": absolute(path),
        "axes": options.axes,
        "level": options.level,
        "voxel_size": size and list(size),
        "translation": list(source.translation),
        "image": options.image and absolute(options.image),
        "image_level": options.level,
        "block": list(make_blocks(source.shape, options.block).block),  # also the default, which may change
        "ome": options.ome or "0.5",
        "wishes": {
            "classes": classes,
            "names": {str(code): name for code, name in names.items()},
            "to": None if options.to is None else spelt(options.to, "--to"),
            "connectivity": options.connectivity,
            "smooth": options.smooth,
            "bridge": options.bridge,
            "fill": None if math.isinf(fill) else fill,
            "split": depth,
            "min_size": voxels_of(options.min_size, "--min-size", size, flat),
            "largest": options.largest,
            "inside": spelt(options.inside, "--inside"),
            "absent": not options.classes,
        },
    }


def _write(job: jobs.Job, out: str, options: Options) -> None:
    """Write tables, page and further formats next to the labels; then rename the folder to its final name."""
    work, result = job.work, job.folder / "result"
    table = object_table(work, job.settings["translation"])
    summary = summary_table(table, work)
    for name, each in (("objects", table), ("summary", summary)):
        with atomic_path(result / f"{name}.csv") as path:
            each.to_csv(path, index=False, float_format="%.7g")
    if find_spec("pyarrow"):
        with atomic_path(result / "objects.parquet") as path:
            table.to_parquet(path, index=False)
    about = {"settings": job.settings, "token": jobs.read_about(job.folder)["token"], "classes": work.classes}
    write_json(result / jobs.ABOUT, about)
    left, notes = list(_left_out(work)), list(_notes(work, table))
    write_page(result, work, table, summary, job.settings, [*left, *notes], options.mesh is not None)
    if options.mesh is not None:
        how: dict[str, Any] = {"each": options.mesh, "kind": options.mesh_format, "simplify": options.simplify}
        write_meshes(work, result, table, job.settings, **how)
    write_formats(work, result, options.formats, job.settings)
    move_into_place(result, Path(out))
    shutil.rmtree(job.folder)
    for note in notes:
        say_error(note)
    for line in left:
        say(line)
    counts = [f"{(table['class'] == name).sum()} {name}" for name in work.classes]
    say(f"{out}: {', '.join(counts)}")


def _left_out(work: Work) -> Iterator[str]:
    for number, name in enumerate(work.classes):
        if left := int(work.table(number)["left_out"][0]):
            yield f"{name}: {left} object{'s' if left > 1 else ''} left out by --min-size, --largest or --inside"


def _notes(work: Work, table: pandas.DataFrame) -> Iterator[str]:
    """Remarks on the objects for the user."""
    for name in work.classes:
        voxels = table.loc[table["class"] == name, "voxels"]
        if (small := int((voxels < SMALL).sum())) > len(voxels) / 2:
            yield f"{name}: {small} of {len(voxels)} objects have fewer than {SMALL} voxels; --min-size drops them"
    if work.to and work.precision:
        unit = "voxels" if work.voxel_size is None else "nm"
        yield f"distances up to {work.reach:.4g} {unit} are exact, longer ones to within {work.precision:.4g} {unit}"
