"""Objects of a class map, block by block: every stage, and the content of its blocks.

Objects are numbered within each block; those that continue beyond its faces are joined (union of touching labels),
and touching objects are split each in its own box, so that results do not depend on the blocks. The stages:

    codes     the class map as uint8, from whatever file it is in
    clean     codes smoothed (only with `smooth`)
    far       distance to classes, in cells (only with `to`)
    and of each class, by its number c:
    c/holes   pieces outside the class; c/holes-faces, c/holes-join: joined, and which of them to fill
    c/parts   pieces of the class; c/faces, c/join: joined to objects
    c/split   objects of several blocks, split; c/pieces: those of each block; c/unite: numbered together
    c/measure sums over each block; c/number: over all blocks, the objects to keep, and their numbers
    c/labels  the result; c/level1 and on: its pyramid
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from registry.base import UserError
from sccs.data.label_store import cells, halve_box
from sccs.data.pyramid import box, grid, pyramid
from sccs.instances import loops
from sccs.instances.blocks import Box, make_blocks, sizes, within
from sccs.instances.geometry import coarse, distances, spread, step_areas
from sccs.instances.masks import bridged, smoothed
from sccs.instances.split import LEAST, MOST, split
from sccs.instances.stores import Folder, Memory
from sccs.system.log import say_error

NOTHING = 255  # code of voxels that were not segmented
NEAR = 16  # distances up to so many (shortest) voxel edges are exact
CELLS = 1 << 25  # of the grid for longer distances
LONGEST_FILE = 200  # bytes of a class's file names; disks allow 255
NUMBERS = 2**32 - 1  # objects, at most
ALONE = ("far", "holes-join", "join", "unite", "number")  # stages with a single task, for the first process


@dataclass(frozen=True)
class Task:
    """Task `number` of a stage."""

    stage: str
    number: int
    size: int = 1


@dataclass(frozen=True)
class Wishes:
    """What to do with a class map; lengths in nm if the voxel size is known, else in voxels. Sizes: in voxels.

    classes: name -> code, None: all present. to: names of the classes to measure contacts and distances to, None: the
    others. connectivity: 6, 18 or 26. smooth: radius. bridge: slices. fill: the largest hole, inf: any. split: depth of
    a peak, None: no splitting. min_size: the smallest object. largest: how many to keep. inside: names of classes that
    more than half of an object's surface must touch, or it is dropped. absent: skip classes that do not occur, instead
    of raising an error.
    """

    classes: Mapping[str, int] | None = None
    names: Mapping[int, str] | None = None
    to: Sequence[str] | None = None
    connectivity: int = 26
    smooth: float = 0.0
    bridge: int = 0
    fill: float = 0.0
    split: float | None = None
    min_size: float = 0.0
    largest: int | None = None
    inside: Sequence[str] = ()
    absent: bool = False


class Work:
    """A class map, and the work on it.

    source: the map (Z, Y, X), integers. store: keeps arrays and tables. voxel_size: (z, y, x) nm or None.
    image: grey values of the same shape. path: of the map, for messages.
    """

    def __init__(
        self,
        source: Any,
        store: Memory | Folder,
        wishes: Wishes,
        voxel_size: Sequence[float] | None = None,
        image: Any = None,
        block: Sequence[int] | None = None,
        path: str = "labels",
    ):
        self.source, self.store, self.wishes, self.image, self.path = source, store, wishes, image, path
        self.blocks = make_blocks(source.shape, block)
        self.voxel_size = voxel_size
        self.edges = tuple(float(size) for size in voxel_size or (1.0, 1.0, 1.0))
        self.levels = pyramid(source.shape, voxel_size)
        if isinstance(store, Memory):
            self.levels = self.levels[:1]

    # ----------------------------------------------------------------------------------------------------- classes
    @functools.cached_property
    def histogram(self) -> np.ndarray:
        """Voxels of each code, (256,)."""
        return sum(self.store.load(f"codes/{n}")["count"] for n in range(self._slabs))  # type: ignore[return-value]

    @functools.cached_property
    def classes(self) -> dict[str, int]:
        """Name -> code of the classes to measure. Raises UserError for a missing class."""
        names, present = self.wishes.names or {}, np.flatnonzero(self.histogram)
        there = ", ".join(f"{code} {names[code]}" if code in names else str(code) for code in present.tolist())
        if self.wishes.classes is None:
            chosen = {names.get(code, f"label_{code}"): code for code in present.tolist() if 0 < code < NOTHING}
            if not chosen:
                raise UserError(f"{self.path}: contains no classes, only {there}; choose one with --class")
            if len(chosen) > 64 and not names:
                raise UserError(
                    f"{self.path}: {len(chosen)} distinct values and no names, so probably not a class map; if it is, "
                    "choose with --class"
                )
            return chosen
        found = {name: code for name, code in self.wishes.classes.items() if self.histogram[code]}
        for name, code in self.wishes.classes.items():
            if name not in found and not (self.wishes.absent and found):
                raise UserError(f"{self.path}: class {name} ({code}) does not occur; the file contains {there}")
        return found

    @functools.cached_property
    def to(self) -> dict[str, int]:
        """Name -> code of the classes to measure contacts and distances to."""
        named = {name: code for code, name in (self.wishes.names or {}).items()} | self.classes
        wished = [*(self.classes if self.wishes.to is None else self.wishes.to), *self.wishes.inside]
        for name in wished:
            if name not in named or not self.histogram[named[name]]:
                there = ", ".join(known for known, code in named.items() if self.histogram[code])
                raise UserError(f"{self.path}: class {name} does not occur; the file contains {there}")
        return {name: named[name] for name in dict.fromkeys(wished)}

    # ------------------------------------------------------------------------------------------------------ stages
    def stages(self) -> Iterator[str]:
        """Stages in order; those of classes once the codes are known."""
        yield "codes"
        if self.wishes.smooth:
            yield "clean"
        if self.to:
            yield "far"
        wishes = self.wishes
        for number in range(len(self.classes)):
            names = ["holes", "holes-faces", "holes-join"] if wishes.fill else []
            names += ["parts", "faces", "join"]
            names += ["split", "pieces", "unite"] if wishes.split is not None else []
            names += ["measure", "number", "labels", *(f"level{n}" for n in range(1, len(self.levels)))]
            yield from (f"{number}/{name}" for name in names)

    def count(self, stage: str) -> int:
        """Tasks of a stage."""
        name = stage.rpartition("/")[2]
        if name == "codes":
            return self._slabs
        if name in ALONE:
            return 1
        if name == "split":
            return len(self._crossing(stage.partition("/")[0])[0])
        if name.startswith("level"):
            return math.prod(grid(self.levels[int(name[5:])].shape, cells(self.blocks.chunk)))
        return self.blocks.count

    def prepare(self, stage: str) -> None:
        """Create the arrays that a stage fills."""
        name, dtype = stage.rpartition("/")[2], {"codes": "uint8", "clean": "uint8"}.get(stage, "uint32")
        if name in ("codes", "clean", "holes", "parts", "pieces"):
            self.store.create(stage, self.blocks.shape, self.blocks.chunk, dtype)
        elif name == "labels" and isinstance(self.store, Memory):
            self.store.create(self.result(stage), self.blocks.shape, self.blocks.chunk, dtype)

    def result(self, stage: str, level: int = 0) -> str:
        """The array of the labels of a stage's class."""
        return f"labels/{file_name(list(self.classes)[int(stage.partition('/')[0])])}/{level}"

    def filled(self, task: Task) -> tuple[str, Box] | None:
        """The array that a task fills, and where."""
        name = task.stage.rpartition("/")[2]
        if name == "codes":
            return task.stage, self._slab(task.number)
        if name in ("clean", "holes", "parts", "pieces"):
            return task.stage, self.blocks.box(task.number)
        if name == "labels":
            return self.result(task.stage), self.blocks.box(task.number)
        if name.startswith("level"):
            level = int(name[5:])
            area = box(self.levels[level].shape, cells(self.blocks.chunk), task.number)
            return self.result(task.stage, level), area
        return None

    def do(self, task: Task) -> None:
        """Execute a task."""
        number, _, name = task.stage.rpartition("/")
        if name.startswith("level"):
            level = int(name[5:])
            before, here = (self.store.open(self.result(task.stage, n)) for n in (level - 1, level))
            halve_box(before, here, self.levels[level].step, self.filled(task)[1])  # type: ignore[index]
        else:
            getattr(self, "_do_" + name.replace("-", "_"))(number, task.number)

    # ------------------------------------------------------------------------------------------------------- codes
    @property
    def _slabs(self) -> int:
        return -(-self.blocks.shape[0] // self.blocks.chunk[0])

    def _slab(self, number: int) -> Box:
        Z, Y, X = self.blocks.shape
        depth = self.blocks.chunk[0]
        return slice(number * depth, min((number + 1) * depth, Z)), slice(0, Y), slice(0, X)

    def _do_codes(self, _: str, number: int) -> None:
        z, _y, _x = self._slab(number)
        array, count = self.store.open("codes"), np.zeros(256, np.int64)
        rows = self.blocks.chunk[1]
        for top in range(0, self.blocks.shape[1], rows):
            area = z, slice(top, min(top + rows, self.blocks.shape[1])), slice(0, self.blocks.shape[2])
            values = np.asarray(self.source[area])
            if values.dtype == bool:
                values = values.view(np.uint8)
            if values.dtype.kind not in "iu":
                raise UserError(f"{self.path}: values are {values.dtype}, not class codes; give whole numbers 0 to 255")
            if values.dtype != np.uint8:
                low, high = int(values.min()), int(values.max())
                if low < 0 or high > 255:
                    raise UserError(
                        f"{self.path}: slices {z.start} to {z.stop - 1} have {low if low < 0 else high}: class codes "
                        "are 0 to 255; give a class map, not objects or grey values"
                    )
            codes = values.astype(np.uint8)
            count += np.bincount(codes.ravel(), minlength=256)
            array[area] = codes
        self.store.save(f"codes/{number}", count=count)

    def _do_clean(self, _: str, number: int) -> None:
        area = self.blocks.box(number)
        radius = [min(int(self.wishes.smooth / e + 1e-9), side) for e, side in zip(self.edges, self.blocks.shape)]
        outer, inner = self.blocks.around(area, radius)
        self.store.open("clean")[area] = smoothed(np.asarray(self.store.open("codes")[outer]), radius)[inner]

    @property
    def _codes(self) -> Any:
        return self.store.open("clean" if self.wishes.smooth else "codes")

    def _mask(self, number: str, area: Box) -> np.ndarray:
        """Bool mask of a class, with gaps bridged but holes unfilled."""
        code, gap = list(self.classes.values())[int(number)], min(self.wishes.bridge, self.blocks.shape[0])
        outer, inner = self.blocks.around(area, (gap, 0, 0))
        mask = np.asarray(self._codes[outer]) == code
        return bridged(mask, gap)[inner] if gap else mask

    # ------------------------------------------------------------------------------------------------------- parts
    def _label(self, stage: str, number: int, mask: np.ndarray, connectivity: Any) -> None:
        """Number the connected components within a block."""
        import cc3d

        labels, n = cc3d.connected_components(mask, connectivity=connectivity, return_N=True, out_dtype=np.uint32)
        area = self.blocks.box(number)
        self.store.open(stage)[area] = labels
        self._describe(stage, number, labels, n)

    def _describe(self, stage: str, number: int, labels: np.ndarray, n: int, **more: np.ndarray) -> None:
        corner = np.array([side.start for side in self.blocks.box(number)])
        count, first, limits = loops.describe(labels, n, corner, np.array(self.blocks.shape))
        self.store.save(f"{stage}/{number}", count=count, first=first, box=limits, **more)

    def _do_holes(self, number: str, block: int) -> None:
        connectivity = 6 if self.wishes.connectivity > 6 else 26
        self._label(f"{number}/holes", block, ~self._mask(number, self.blocks.box(block)), connectivity)

    def _do_parts(self, number: str, block: int) -> None:
        area = self.blocks.box(block)
        mask = self._mask(number, area)
        if self.wishes.fill:
            mask |= self._numbers(f"{number}/holes", area, self.store.kept(f"{number}/filled")) > 0
        self._label(f"{number}/parts", block, mask, self.wishes.connectivity)

    def _offsets(self, stage: str) -> np.ndarray:
        """Index of each block's first piece among all, (blocks + 1,) int64."""
        if stage not in self._known:
            self._known[stage] = np.cumsum([0, *(len(table["count"]) for table in self._tables(stage))])
        return self._known[stage]

    @functools.cached_property
    def _known(self) -> dict[str, np.ndarray]:
        return {}

    def _tables(self, stage: str) -> Iterator[dict[str, np.ndarray]]:
        return (self.store.load(f"{stage}/{block}") for block in range(self.blocks.count))

    def _numbers(self, stage: str, area: Box, table: np.ndarray | None = None) -> np.ndarray:
        """Content of a box in an array numbered by blocks: numbers among all pieces, from 1 (int64), or their entries
        in `table` (pieces,); 0 elsewhere."""
        offsets, labels = self._offsets(stage), np.asarray(self.store.open(stage)[area])
        out = np.zeros(labels.shape, np.int64 if table is None else table.dtype)
        for block, part in self.blocks.meeting(area):
            start, stop = offsets[block], offsets[block + 1]
            own = np.arange(start + 1, stop + 1) if table is None else table[start:stop]
            here = within(part, area)
            out[here] = np.concatenate([np.zeros(1, out.dtype), own])[labels[here]]
        return out

    # -------------------------------------------------------------------------------------------------------- join
    def _do_holes_faces(self, number: str, block: int) -> None:
        self._faces(f"{number}/holes", block, 6 if self.wishes.connectivity > 6 else 26, f"{number}/holes-faces")

    def _do_faces(self, number: str, block: int) -> None:
        self._faces(f"{number}/parts", block, self.wishes.connectivity, f"{number}/faces")

    def _faces(self, stage: str, block: int, connectivity: int, name: str) -> None:
        """Pairs of touching pieces of a block and of later blocks, (pairs, 2)."""
        area, found = self.blocks.box(block), [np.zeros((0, 2), np.int64)]
        most = {6: 0, 18: 1, 26: 2}[connectivity]
        for axis in range(3):
            end = area[axis].stop
            if end == self.blocks.shape[axis]:
                continue
            mine = tuple(slice(end - 1, end) if a == axis else side for a, side in enumerate(area))
            beyond = tuple(slice(end, end + 1) if a == axis else side for a, side in enumerate(area))
            wide, inner = self.blocks.around(beyond, [int(a != axis) for a in range(3)])
            here, there = (self._numbers(stage, each).squeeze(axis) for each in (mine, wide))
            there = np.pad(there, [(1 - s.start, 1 - (n - s.stop)) for s, n in zip(_but(inner, axis), there.shape)])
            h, w = here.shape
            for dy, dx in np.ndindex(3, 3):
                if abs(dy - 1) + abs(dx - 1) <= most:
                    pairs = np.stack([here, there[dy : dy + h, dx : dx + w]], -1)
                    found.append(np.unique(pairs[(pairs > 0).all(-1)], axis=0))
        self.store.save(f"{name}/{block}", pairs=np.unique(np.concatenate(found), axis=0))

    def _joined(self, stage: str, faces: str) -> tuple[np.ndarray, int]:
        """Object of each piece, (pieces,) from 0; and the number of objects."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        total = int(self._offsets(stage)[-1])
        if total > NUMBERS:
            raise UserError(f"{self.path}: more than {NUMBERS:,} pieces; smooth the labels (--smooth) before counting")
        tables = (self.store.load(f"{faces}/{block}")["pairs"] for block in range(self.blocks.count))
        pairs = np.concatenate([*tables, np.zeros((0, 2), np.int64)]) - 1
        links = coo_array((np.ones(len(pairs), bool), pairs.T), shape=(total, total))
        count, objects = connected_components(links, directed=False) if total else (0, np.zeros(0, np.int32))
        return objects, count

    def _do_holes_join(self, number: str, _: int) -> None:
        holes, count = self._joined(f"{number}/holes", f"{number}/holes-faces")
        total, _first, limits = self._described(f"{number}/holes", holes, count)
        enclosed = ~self._at_border(limits) & (total <= self.wishes.fill)
        self.store.keep(f"{number}/filled", enclosed[holes].astype(np.uint32))

    def _do_join(self, number: str, _: int) -> None:
        objects, _count = self._joined(f"{number}/parts", f"{number}/faces")
        self.store.keep(f"{number}/objects", (objects + 1).astype(np.uint32))

    def _described(self, stage: str, objects: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Voxels, first voxel and box of objects, from those of their pieces. objects: (pieces,) from 0."""
        total, first = np.zeros(count, np.int64), np.full(count, np.iinfo(np.int64).max)
        limits = np.tile(np.array([2**62] * 3 + [0] * 3), (count, 1))
        offsets = self._offsets(stage)
        for block, table in enumerate(self._tables(stage)):
            own = objects[offsets[block] : offsets[block + 1]]
            np.add.at(total, own, table["count"])
            np.minimum.at(first, own, table["first"])
            np.minimum.at(limits[:, :3], own, table["box"][:, :3])
            np.maximum.at(limits[:, 3:], own, table["box"][:, 3:])
        return total, first, limits

    def _at_border(self, limits: np.ndarray) -> np.ndarray:
        """Whether boxes touch the image's border, along its axes."""
        shape = np.array(self.blocks.shape)
        return (((limits[:, :3] == 0) | (limits[:, 3:] == shape)) & (shape > 1)).any(1)

    # ------------------------------------------------------------------------------------------------------- split
    @functools.lru_cache(maxsize=1)  # noqa: B019  # one Work per process
    def _crossing(self, number: str) -> tuple[np.ndarray, np.ndarray]:
        """Objects (from 1) that span several blocks or are too large to split at once; and the boxes of all objects."""
        objects = self.store.kept(f"{number}/objects")
        count = int(objects.max(initial=0))
        total, _first, limits = self._described(f"{number}/parts", objects.astype(np.int64) - 1, count)
        several = np.bincount(objects, minlength=count + 1)[1:] > 1
        large = np.prod(limits[:, 3:] - limits[:, :3], axis=1) > MOST
        return np.flatnonzero((several | large) & (total >= LEAST)) + 1, limits

    def _box_of(self, number: str, which: int) -> Box:
        z0, y0, x0, z1, y1, x1 = self._crossing(number)[1][which - 1].tolist()
        return slice(z0, z1), slice(y0, y1), slice(x0, x1)

    def _factors(self, area: Box) -> tuple[int, int, int]:
        """Voxels (z, y, x) of a nearly cubic cell, so that a box has at most `MOST` of them."""
        return coarse(sizes(area), self.edges, MOST)

    def _do_split(self, number: str, index: int) -> None:
        which = int(self._crossing(number)[0][index])
        area = self._box_of(number, which)
        factor, table = self._factors(area), self.store.kept(f"{number}/objects")
        votes = np.zeros(grid(sizes(area), factor), np.uint32)
        for _block, part in self.blocks.meeting(area):
            at = np.nonzero(self._numbers(f"{number}/parts", part, table) == which)
            low = [p.start - a.start for p, a in zip(part, area)]
            np.add.at(votes, tuple((i + o) // f for i, o, f in zip(at, low, factor)), 1)
        parts = self._parted(2 * votes >= math.prod(factor), [e * f for e, f in zip(self.edges, factor)])
        self.store.keep(f"{number}/split-{which}", spread(parts) if max(factor) > 1 else parts)

    def _parted(self, mask: np.ndarray, edges: Sequence[float]) -> np.ndarray:
        assert self.wishes.split is not None
        axes = [axis for axis, n in enumerate(self.blocks.shape) if n > 1] or [1, 2]
        return split(mask, edges, self.wishes.split, self.wishes.connectivity, axes)

    def _do_pieces(self, number: str, block: int) -> None:
        """Renumber the block's pieces with objects split into parts; table: object and part of each piece."""
        area, stage = self.blocks.box(block), f"{number}/parts"
        labels = np.array(self.store.open(stage)[area])
        table, start = self.store.load(f"{stage}/{block}"), int(self._offsets(stage)[block])
        objects = self.store.kept(f"{number}/objects")[start : start + len(table["count"])]
        crossing = set(self._crossing(number)[0].tolist())
        n, object_of, part_of = len(objects), list(objects.tolist()), [1] * len(objects)
        for local, which in enumerate(objects.tolist(), start=1):
            z0, y0, x0, z1, y1, x1 = table["box"][local - 1].tolist()
            own = slice(z0, z1), slice(y0, y1), slice(x0, x1)
            here = labels[within(own, area)]
            mask = here == local
            if which in crossing:
                whole = self._box_of(number, which)
                factor = self._factors(whole)
                at = [np.arange(o.start - w.start, o.stop - w.start) // f for o, w, f in zip(own, whole, factor)]
                parts = self.store.kept(f"{number}/split-{which}")[np.ix_(*at)]
            elif table["count"][local - 1] >= LEAST:
                parts = self._parted(mask, self.edges)
            else:
                continue
            first, *more = np.unique(parts[mask]).tolist()
            part_of[local - 1] = first
            for part in more:
                n += 1
                here[mask & (parts == part)] = n
                object_of.append(which)
                part_of.append(part)
        self.store.open(f"{number}/pieces")[area] = labels
        keys = {"object": np.array(object_of, np.int64), "part": np.array(part_of, np.int64)}
        self._describe(f"{number}/pieces", block, labels, n, **keys)

    def _do_unite(self, number: str, _: int) -> None:
        for which in self._crossing(number)[0].tolist():
            area = self._box_of(number, which)
            if max(factor := self._factors(area)) > 1:
                say_error(
                    f"{self.path}: the object at z, y, x = {', '.join(str(s.start) for s in area)} is split in cells "
                    f"of {' x '.join(map(str, factor))} voxels, as its box has {math.prod(sizes(area)):,} voxels"
                )
        keys = np.concatenate([np.stack([t["object"], t["part"]], 1) for t in self._tables(f"{number}/pieces")])
        found = np.unique(keys, axis=0, return_inverse=True)[1].ravel() if len(keys) else np.zeros(0)
        self.store.keep(f"{number}/united", (found + 1).astype(np.uint32))

    # ----------------------------------------------------------------------------------------------------- measure
    def _last(self, number: str) -> tuple[str, np.ndarray]:
        """The stage whose pieces are measured, and the object of each piece, from 1."""
        if self.wishes.split is None:
            return f"{number}/parts", self.store.kept(f"{number}/objects")
        return f"{number}/pieces", self.store.kept(f"{number}/united")

    @property
    def _factor(self) -> tuple[int, int, int]:
        return coarse(self.blocks.shape, self.edges, CELLS)

    @property
    def precision(self) -> float:
        """Error bound of distances beyond NEAR voxels, in nm (or voxels); 0 if exact."""
        factor = self._factor
        return 0.0 if max(factor) == 1 else math.hypot(*(f * e for f, e in zip(factor, self.edges)))

    @property
    def reach(self) -> float:
        """The distance up to which distances are exact if `precision` is not 0."""
        return NEAR * min(self.edges)

    def _do_far(self, _: str, __: int) -> None:
        factor = self._factor
        for index, code in enumerate(self.to.values()):
            cell = np.zeros(grid(self.blocks.shape, factor), bool)
            for block in range(self.blocks.count):
                area = self.blocks.box(block)
                at = np.nonzero(np.asarray(self._codes[area]) == code)
                cell[tuple((i + s.start) // f for i, s, f in zip(at, area, factor))] = True
            self.store.keep(f"far/{index}", distances(cell, [f * e for f, e in zip(factor, self.edges)]))

    def _do_measure(self, number: str, block: int) -> None:
        stage, objects = self._last(number)
        area = self.blocks.box(block)
        outer, inner = self.blocks.around(area, (1, 1, 1))
        margin = [(1 - i.start, 1 - (o.stop - o.start - i.stop)) for i, o in zip(inner, outer)]
        local = np.asarray(self.store.open(stage)[area])
        ids = np.pad(self._numbers(stage, outer, objects), margin)
        kind = np.ones(256, np.uint8)  # 0: another object of the class; 1: anything else
        kind[list(self.to.values())] = np.arange(len(self.to)) + 2
        what = kind[np.asarray(self._codes[outer])]
        what = np.pad(what, margin, constant_values=loops.OUTSIDE)
        what[ids > 0] = 0
        n = len(self.store.load(f"{stage}/{block}")["count"])
        grey = np.zeros((0, 0, 0), np.uint8) if self.image is None else np.asarray(self.image[area])
        own = list(self.classes.values())[int(number)]
        others = [index for index, code in enumerate(self.to.values()) if code != own]
        far = near = np.zeros((0, 1, 1, 1), np.float32)
        if others and n:
            factor = self._factor
            cell = tuple(slice(s.start // f, -(-s.stop // f)) for s, f in zip(area, factor))
            far = np.stack([self.store.kept(f"far/{index}")[cell] for index in others])
            if self.precision:
                near = self._near(area, local, others)
        corner, factors = np.array([s.start for s in area]), np.array(self._factor)
        middle = np.array(self.blocks.shape) // 2
        sums, steps, shade, *least = loops.measure(
            local, n, ids, what, len(self.to) + 2, corner - middle, grey, near, far, corner % factors, factors
        )
        close, away = (np.full((n, len(self.to)), np.inf) for _ in range(2))
        for whole, found in zip((close, away), least):
            whole[:, others[: found.shape[1]]] = found
        self.store.save(f"{number}/measure/{block}", sums=sums, steps=steps, shade=shade, close=close, away=away)

    def _near(self, area: Box, local: np.ndarray, others: Sequence[int]) -> np.ndarray:
        """Distances (t, Z, Y, X) of a block's voxels to some classes of `to`, exact up to `reach` where there are
        objects, by their labels `local` (Z, Y, X), and inf elsewhere."""
        near = np.full((len(others), *local.shape), np.inf, np.float32)
        there = [np.flatnonzero(local.any(tuple(a for a in range(3) if a != axis))) for axis in range(3)]
        box = tuple(slice(int(at[0]), int(at[-1]) + 1) for at in there)
        inner = tuple(slice(side.start + b.start, side.start + b.stop) for side, b in zip(area, box))
        wide, core = self.blocks.around(inner, [math.ceil(self.reach / edge) for edge in self.edges])
        codes, wanted = np.asarray(self._codes[wide]), list(self.to.values())
        for t, index in enumerate(others):
            near[t][box] = distances(codes == wanted[index], self.edges)[core]
        return near

    def _do_number(self, number: str, _: int) -> None:
        """Measurements of objects over all blocks; which to keep, and their numbers, in the order of first voxels."""
        stage, objects = self._last(number)
        count = int(objects.max(initial=0))
        own = objects.astype(np.int64) - 1
        total, first, limits = self._described(stage, own, count)
        kinds = len(self.to) + 2
        sums, steps = np.zeros((count, 9), np.int64), np.zeros((count, kinds, loops.KINDS), np.int64)
        shade, distance = np.zeros(count), np.full((count, len(self.to)), np.inf)
        offsets, exact = self._offsets(stage), not self.precision
        for block in range(self.blocks.count):
            table, at = self.store.load(f"{number}/measure/{block}"), own[offsets[block] : offsets[block + 1]]
            for whole, name in ((sums, "sums"), (steps, "steps"), (shade, "shade")):
                np.add.at(whole, at, table[name])
            there = table["away"]
            if not exact and self.to:
                close = table["close"]
                there = np.where(close <= self.reach, close, np.maximum(there, self.reach))
            np.minimum.at(distance, at, there)
        kept = total >= self.wishes.min_size
        if self.wishes.inside:
            wished = [list(self.to).index(name) + 2 for name in self.wishes.inside]
            area = steps @ step_areas(self.edges, self.blocks.shape)
            kept &= area[:, wished].sum(1) > area.sum(1) / 2
        order = np.flatnonzero(kept)
        if self.wishes.largest is not None:
            order = order[np.lexsort((first[order], -total[order]))][: self.wishes.largest]
        order = order[np.argsort(first[order])]
        if len(order) > NUMBERS:
            raise UserError(f"{self.path}: more than {NUMBERS:,} objects; drop small ones with --min-size")
        final = np.zeros(count, np.uint32)
        final[order] = np.arange(1, len(order) + 1)
        self.store.keep(f"{number}/final", final[own] if count else np.zeros(0, np.uint32))
        self.store.save(
            f"{number}/table",
            count=total[order],
            first=first[order],
            box=limits[order],
            sums=sums[order],
            steps=steps[order],
            shade=shade[order],
            distance=distance[order],
            left_out=np.array([count - len(order)]),
        )

    def _do_labels(self, number: str, block: int) -> None:
        stage, _objects = self._last(number)
        area = self.blocks.box(block)
        labels = self._numbers(stage, area, self.store.kept(f"{number}/final"))
        if labels.any() or isinstance(self.store, Memory):
            self.store.open(self.result(f"{number}/labels"))[area] = labels

    def table(self, number: int) -> dict[str, np.ndarray]:
        """Measurements of a class's kept objects, in voxels: see `_do_number`."""
        return self.store.load(f"{number}/table")


def file_name(name: str) -> str:
    """Name of a class's files."""
    plain = re.sub(r"[^\w .+-]", "_", name).strip(" .") or "_"
    return plain.encode()[:LONGEST_FILE].decode(errors="ignore")


def _but(area: Box, axis: int) -> Box:
    return tuple(side for a, side in enumerate(area) if a != axis)


def carry_out_here(work: Work) -> Work:
    """Execute every task of a job in memory."""
    for stage in work.stages():
        work.prepare(stage)
        for number in range(work.count(stage)):
            work.do(Task(stage, number))
    return work
