"""Objects edited by the user: measured again, and written as `sccs objects` writes them."""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from registry.base import UserError
from sccs.data.label_store import cells, create_store, halve_box, open_level
from sccs.data.pyramid import box, grid, pyramid
from sccs.data.writers import IN_PYTHON
from sccs.instances.command import check_output
from sccs.instances.job import ABOUT
from sccs.instances.stores import RESULT, Memory
from sccs.instances.table import object_table, summary_table
from sccs.instances.work import Wishes, Work, carry_out_here, file_name
from sccs.system.files import atomic_path, write_json
from sccs.system.lock import held

if TYPE_CHECKING:
    import pandas


class Known(Work):
    """Work with given objects, by class (Z, Y, X) uint32: nothing is searched for, everything is measured."""

    known: Mapping[str, np.ndarray]

    def stages(self) -> Iterator[str]:
        yield "codes"
        if self.to:
            yield "far"
        for number in range(len(self.classes)):
            yield from (f"{number}/{name}" for name in ("parts", "measure", "number", "labels"))

    def _do_parts(self, number: str, block: int) -> None:
        labels = self.known[list(self.classes)[int(number)]]
        n = int(labels.max(initial=0))
        self.store.open(f"{number}/parts")[self.blocks.box(block)] = labels
        self._describe(f"{number}/parts", block, labels, n)
        self.store.keep(f"{number}/objects", np.arange(1, n + 1, dtype=np.uint32))


class Edited:
    """Objects of several classes, and their measurements.

    found: by class (Z, Y, X) or (Y, X) uint32; numbers may be missing, and an object may be in pieces. labels: their
    class map, of the same shape; classes: name -> code, for all classes in `found`. voxel_size: (z, y, x) nm or None.
    image: grey values. translation: (z, y, x) nm of the first voxel.

    Afterwards `found` is renumbered, by first voxels, and `table` has a row for each object (docs/objects.md).
    """

    def __init__(
        self,
        found: Mapping[str, np.ndarray],
        labels: np.ndarray,
        classes: Mapping[str, int],
        voxel_size: Sequence[float] | None = None,
        image: np.ndarray | None = None,
        translation: Sequence[float] = (0.0, 0.0, 0.0),
    ):
        shape = (1,) * (3 - labels.ndim) + labels.shape
        size = None if voxel_size is None else tuple(map(float, voxel_size))
        grey = None if image is None else image.reshape(shape)
        wishes = Wishes(classes=dict(classes), min_size=1)
        work = Known(labels.reshape(shape), Memory(), wishes, size, grey, shape)
        work.known = {name: np.ascontiguousarray(each.reshape(shape), np.uint32) for name, each in found.items()}
        carry_out_here(work)
        self.work, self.translation = work, tuple(map(float, translation))
        self.found = {
            name: work.store.open(work.result(f"{number}/")).reshape(labels.shape)
            for number, name in enumerate(work.classes)
        }
        self.table: pandas.DataFrame = object_table(work, self.translation)

    def write(self, out: str | Path, overwrite: bool = False) -> None:
        """Write `objects.ome.zarr`, `objects.csv`, `summary.csv` and `objects.json` to the folder `out`, atomically.

        Raises UserError if `out` exists, or, with `overwrite`, is not such a folder.
        """
        out = Path(out).expanduser()
        check_output(out, overwrite, IN_PYTHON)
        if len(set(map(file_name, self.found))) < len(self.found):
            raise UserError(f"{out}: two classes would have the same file name; rename one")
        size = self.work.voxel_size
        about: dict[str, Any] = {
            "voxel_size": size and list(size),
            "translation": list(self.translation),
            "edited": True,
        }
        with held(out, "napari"), atomic_path(out) as scratch:
            scratch.mkdir(parents=True)
            self._write_labels(scratch / RESULT, about)
            for name, table in (("objects", self.table), ("summary", summary_table(self.table, self.work))):
                table.to_csv(scratch / f"{name}.csv", index=False, float_format="%.7g")
            content = {"settings": about, "token": secrets.token_hex(8), "classes": self.work.classes}
            write_json(scratch / ABOUT, content)

    def _write_labels(self, path: Path, about: Mapping[str, Any]) -> None:
        size, chunk = self.work.voxel_size, self.work.blocks.chunk
        levels = pyramid(self.work.blocks.shape, size)
        kinds = [file_name(name) for name in self.found]
        options: dict[str, Any] = {"voxel_size": size, "translation": self.translation, "about": about}
        create_store(path, levels, chunk, *kinds, dtype="uint32", fill=0, **options)
        for kind, labels in zip(kinds, self.found.values()):
            arrays = [open_level(path, kind, number) for number in range(len(levels))]
            arrays[0][:] = labels.reshape(self.work.blocks.shape)
            for number, level in enumerate(levels[1:], start=1):
                for cell in range(math.prod(grid(level.shape, cells(chunk)))):
                    area = box(level.shape, cells(chunk), cell)
                    halve_box(arrays[number - 1], arrays[number], level.step, area)
