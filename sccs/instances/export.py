"""Export objects as TIFF and Neuroglancer precomputed volumes, and their surfaces as PLY or OBJ."""

from __future__ import annotations

import itertools
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from registry.base import UserError
from registry.requirements import pip_install
from sccs.data.pyramid import CHUNK
from sccs.instances.blocks import Box, sizes
from sccs.instances.geometry import coarse
from sccs.instances.stores import RESULT
from sccs.instances.work import Work, file_name
from sccs.system.files import atomic_path
from sccs.system.log import bar

if TYPE_CHECKING:
    import pandas

SLAB = 1 << 26  # voxels read at once
MESH_CELLS = 1 << 24  # voxels of the box that a mesh is made from


def check_formats(formats: Sequence[str], mesh: str | None) -> None:
    """Raises UserError if a package that the formats need is missing."""
    try:
        if "precomputed" in formats:
            import tensorstore  # noqa: F401
    except ImportError as error:
        raise UserError(f"--format precomputed needs tensorstore: {pip_install('tensorstore')}") from error
    try:
        if mesh is not None:
            import zmesh  # noqa: F401
    except ImportError as error:
        raise UserError(f"--mesh needs zmesh: {pip_install('zmesh')}") from error


def write_formats(work: Work, result: Path, formats: Sequence[str], settings: Mapping[str, Any]) -> None:
    """Write the requested formats next to the Zarr store, which is removed unless it is also requested."""
    for number, name in enumerate(work.classes):
        labels = work.store.open(work.result(f"{number}/"))
        if "tiff" in formats:
            write_tiff(result / f"{file_name(name)}.tif", labels, work.voxel_size)
        if "precomputed" in formats:
            write_precomputed(result / "precomputed" / file_name(name), labels, work.edges, settings["translation"])
    if "zarr" not in formats:
        shutil.rmtree(result / RESULT)


def _slabs(shape: Sequence[int]) -> Iterator[slice]:
    depth = max(1, min(CHUNK[0], SLAB // math.prod(shape[1:])))
    return (slice(start, min(start + depth, shape[0])) for start in range(0, shape[0], depth))


def write_tiff(path: Path, labels: Any, voxel_size: Sequence[float] | None) -> None:
    """Objects (Z, Y, X) uint32 as OME-TIFF, with the voxel size (z, y, x) nm; Fiji reads it through Bio-Formats."""
    import tifffile

    metadata: dict[str, Any] = {"axes": "ZYX"}
    for axis, size in zip("ZYX", voxel_size or ()):
        metadata |= {f"PhysicalSize{axis}": float(size), f"PhysicalSize{axis}Unit": "nm"}
    planes = itertools.chain.from_iterable(np.asarray(labels[slab]) for slab in _slabs(labels.shape))
    with atomic_path(path) as temporary, tifffile.TiffWriter(temporary, bigtiff=True, ome=True) as tif:
        tif.write(
            planes,
            shape=labels.shape,
            dtype=np.uint32,
            photometric="minisblack",
            compression="zlib",
            metadata=metadata,
            maxworkers=1,
        )


def write_precomputed(path: Path, labels: Any, edges: Sequence[float], translation: Sequence[float]) -> None:
    """Objects as a segmentation in Neuroglancer's precomputed format, at full resolution; edges: (z, y, x) nm."""
    import tensorstore

    with atomic_path(path) as temporary:
        volume = tensorstore.open(
            {
                "driver": "neuroglancer_precomputed",
                "kvstore": {"driver": "file", "path": f"{temporary}/"},
                "multiscale_metadata": {"type": "segmentation", "data_type": "uint32", "num_channels": 1},
                "scale_metadata": {
                    "size": list(labels.shape[::-1]),
                    "resolution": list(edges[::-1]),
                    "voxel_offset": [round(t / e) for t, e in zip(translation, edges)][::-1],
                    "chunk_size": [64, 64, 64],
                    "encoding": "compressed_segmentation",
                    "compressed_segmentation_block_size": [8, 8, 8],
                },
            },
            create=True,
            open=True,
        ).result()
        first = volume.domain.origin
        z, y, x = labels.shape
        depth = 64
        for start in range(0, z, depth):
            for top in range(0, y, 640):
                area = slice(start, min(start + depth, z)), slice(top, min(top + 640, y)), slice(0, x)
                place = tuple(slice(s.start + o, s.stop + o) for s, o in zip(area[::-1], first))
                volume[(*place, 0)].write(  # type: ignore[index]  # slices, all of them
                    np.asarray(labels[area]).transpose()
                ).result()


# --------------------------------------------------------------------------------------------------------------- meshes
def write_meshes(
    work: Work,
    result: Path,
    objects: pandas.DataFrame,
    settings: Mapping[str, Any],
    *,
    each: str = "object",
    kind: str = "ply",
    simplify: float | None = None,
) -> None:
    """Write meshes/<class>/<object>.ply, or meshes/<class>.ply with `each` "class": in nm (else voxels), x, y, z.

    simplify: error allowed in a surface, nm; None: unsimplified marching cubes. Objects in large boxes are meshed from
    coarser voxels.
    """
    with bar(len(objects), "meshes", "mesh") as progress:
        for number, name in enumerate(work.classes):
            labels, found = work.store.open(work.result(f"{number}/")), []
            for row in objects[objects["class"] == name].to_dict("records"):
                box = tuple(slice(row[f"box_{axis}0"], row[f"box_{axis}1"]) for axis in "zyx")
                mesh = object_mesh(labels, row["object"], box, work.edges, settings["translation"], simplify)
                if each == "class":
                    found.append(mesh)
                else:
                    _write_mesh(result / "meshes" / file_name(name) / f"{row['object']}.{kind}", mesh)
                progress.update()
            if found:
                _write_mesh(result / "meshes" / f"{file_name(name)}.{kind}", joined(found))


def object_mesh(
    labels: Any,
    number: int,
    box: Box,
    edges: Sequence[float],
    translation: Sequence[float] = (0.0, 0.0, 0.0),
    simplify: float | None = None,
    most: int = MESH_CELLS,
) -> Any:
    """A closed `zmesh.Mesh` of one object: vertices (n, 3) x, y, z in nm, faces (m, 3) that turn outwards.

    labels: (Z, Y, X). box: of the object. edges, translation: (z, y, x) nm of a voxel, and of the first one's centre.
    """
    import zmesh

    factor = coarse(sizes(box), edges, most)
    mask = np.zeros([-(-n // f) for n, f in zip(sizes(box), factor)], bool)
    for slab in _slabs(sizes(box)):
        part = np.asarray(labels[slice(box[0].start + slab.start, box[0].start + slab.stop), box[1], box[2]]) == number
        at = np.nonzero(part)
        mask[(at[0] + slab.start) // factor[0], at[1] // factor[1], at[2] // factor[2]] = True
    cell = np.array(factor) * edges
    mesher = zmesh.Mesher(tuple(cell[::-1]))
    mesher.mesh(np.pad(mask, 1).transpose().astype(np.uint8, order="F"))
    mesh = mesher.get(1, normals=False, reduction_factor=0 if simplify is None else 100, max_error=simplify or 0)
    # centre of the first padded cell, from that of the image's first voxel
    first = np.array([s.start for s in box]) * edges + (cell - edges) / 2 - cell + np.array(translation)
    low = np.asarray(mesh.vertices)
    return zmesh.Mesh((low + first[::-1]).astype(np.float32), np.asarray(mesh.faces), None)


def joined(meshes: Sequence[Any]) -> Any:
    """Several meshes as one."""
    import zmesh

    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    faces = [mesh.faces + start for mesh, start in zip(meshes, starts)]
    return zmesh.Mesh(np.concatenate([mesh.vertices for mesh in meshes]), np.concatenate(faces), None)


def _write_mesh(path: Path, mesh: Any) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(mesh.to_ply() if path.suffix == ".ply" else mesh.to_obj())
