"""Objects in arrays, in memory: `sccs.objects`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from registry.base import UserError
from sccs.instances.command import import_packages
from sccs.instances.split import default_depth
from sccs.instances.stores import Memory
from sccs.instances.table import object_table
from sccs.instances.work import Wishes, Work, carry_out_here

if TYPE_CHECKING:
    import pandas


def objects(
    labels: np.ndarray,
    voxel_size: Sequence[float] | None = None,
    *,
    classes: Mapping[str, int] | None = None,
    image: np.ndarray | None = None,
    to: Sequence[str] | None = None,
    split: float | bool = False,
    min_size: float = 0,
    fill: float = 0,
    bridge: int = 0,
    smooth: float = 0.0,
    largest: int | None = None,
    inside: Sequence[str] = (),
    connectivity: int = 26,
) -> tuple[Any, pandas.DataFrame]:
    """Objects of a class map and their measurements, as `sccs objects` computes them, in memory.

    Parameters
        labels: (Z, Y, X) or (Y, X), class codes 0 .. 255, or bool: one class, "objects".
        voxel_size: (z, y, x) nm, or (y, x) for a 2-D image; None: measure in voxels.
        classes: name -> code; None: all codes except 0 and 255, as "label_<code>".
        image: grey values of the same shape, for `mean_grey`.
        to: names of the classes to measure contacts and distances to; None: the others.
        split: split objects at necks at least that many nm thinner in radius; True: two voxel edges.
        min_size, fill: smallest object to keep, largest hole to fill, in voxels.
        bridge: gaps along z to close, in slices. smooth: radius of the majority filter, nm.
        largest: how many objects of each class to keep. inside: names of classes that most of a surface must touch.
        connectivity: 6, 18 or 26 neighbours (in 2-D 4, or 8 for more than 6).

    Returns
        Labels uint32 in the shape of `labels`, numbered by first voxel, for bool labels or one class; else a dict
    of them by class. A table with a row for each object (docs/objects.md lists its columns).

    Raises UserError for labels that are not class codes, a missing class, and shapes that differ.

    >>> mask = np.zeros((8, 8, 8), bool); mask[1:4, 1:4, 1:4] = mask[5:7, 5:7, 5:7] = True
    >>> found, table = objects(mask, (10, 10, 10))
    >>> int(found.max()), table["volume_nm3"].tolist()
    (2, [27000.0, 8000.0])
    """
    import_packages()
    labels = np.asarray(labels)
    if labels.ndim not in (2, 3) or not labels.size:
        raise UserError(f"labels: shape {labels.shape}; give (Z, Y, X) or (Y, X)")
    if image is not None and np.shape(image) != labels.shape:
        raise UserError(f"image: shape {np.shape(image)}, but labels {labels.shape}; give the image of the labels")
    size = None if voxel_size is None else tuple(float(each) for each in voxel_size)
    if size is not None and len(size) == labels.ndim == 2:
        size = (1.0, *size)
    if size is not None and (len(size) != 3 or not all(0 < each < np.inf for each in size)):
        raise UserError(f"voxel_size {voxel_size!r}: give positive numbers in nm, (z, y, x)")
    if connectivity not in (6, 18, 26):
        raise UserError(f"connectivity {connectivity}: give 6, 18 or 26")
    single = labels.dtype == bool or (classes is not None and len(classes) == 1)
    if labels.dtype == bool and classes is None:
        classes = {"objects": 1}
    volume = labels.reshape((1,) * (3 - labels.ndim) + labels.shape)
    grey = None if image is None else np.asarray(image).reshape(volume.shape)
    depth = None if split is False else float(split)
    if split is True:
        depth = default_depth(size or (1.0, 1.0, 1.0), volume.shape)
    wishes = Wishes(
        classes=classes,
        to=to,
        connectivity=connectivity,
        smooth=smooth,
        bridge=bridge,
        fill=fill,
        split=depth,
        min_size=min_size,
        largest=largest,
        inside=inside,
    )
    work = carry_out_here(Work(volume, Memory(), wishes, size, grey, volume.shape))
    found = {
        name: work.store.open(work.result(f"{number}/")).reshape(labels.shape)
        for number, name in enumerate(work.classes)
    }
    return (next(iter(found.values())) if single else found), object_table(work)
