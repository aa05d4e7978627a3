"""A segmentation in blocks by any number of processes on any number of machines, any of which may die.

Until it is finished, OUTPUT.partial/ contains job.json (all that a worker must know), the store, the result of each
field of view (FOV), and done/ with a file for each finished block and the checksum of its labels. A block without such
a file is computed again, so a killed job loses only the blocks in progress; a resumed job verifies the checksums. There
are three kinds of stages, each block by block: `fovs` segments, "0" stitches the FOVs of a block and its neighbours
into the finest level, "1" and up are the levels of the pyramid.
A block's content depends only on job.json, not on which worker computes it, or when.
"""

from __future__ import annotations

import functools
import math
import os
import secrets
import shutil
import socket
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from registry.base import UserError
from sccs.data.label_store import cells, create_probabilities, create_store, halve_box, import_zarr, open_level
from sccs.data.mask import Mask
from sccs.data.pyramid import EMPTY, Level, box, grid, pyramid
from sccs.data.volumes import Volume
from sccs.inference.blocks import Place, Plan, make_plan
from sccs.inference.labels import Classes, label_fovs, look_up, sharing
from sccs.inference.partial import MEND, partial_folder
from sccs.inference.source import open_mask, open_volume
from sccs.inference.stitch import stitched
from sccs.inference.workers import cluster, on_cluster
from sccs.model.model import Model
from sccs.recipe.stored import Length, Stored, read_json
from sccs.system import bounds
from sccs.system.archive import UNREADABLE
from sccs.system.files import move_into_place, remove, write_json, write_text
from sccs.system.log import say_error

MADE = ("classes.yaml", *(f"{part}.{kind}" for part in ("edits", "teacher") for kind in ("json", "safetensors")))
CONTENT = ("store", "fovs", "done", "job.json", "probabilities", *MADE)  # of OUTPUT.partial
Natural = Annotated[int, Field(ge=0, lt=2**53)]
STAGES = {"fovs": "segmenting", "0": "stitching"}  # shown as progress
# raised by zarr for a damaged array
DAMAGE = (*UNREADABLE, TypeError, AttributeError)


class Settings(Stored):
    """What to segment, and how."""

    run: str
    model: str
    input: str
    axes: str | None
    level: int | None
    voxel_size: list[Length] | None
    mask: str | None
    region: Annotated[
        list[Annotated[list[Natural], Field(min_length=2, max_length=2)]], Field(min_length=3, max_length=3)
    ]
    fov: Natural | Literal["full"]
    halo: Natural
    block: list[Natural] | None
    kind: Literal["clusters", "classes"]
    ome: Literal["0.4", "0.5"]
    steps: str | None = None
    codes: Annotated[list[Annotated[int, Field(ge=0, le=255)]], Field(max_length=255)] | None = None
    probabilities: str | None = None
    table: list[Annotated[int, Field(ge=0, le=255)]]
    looked_up: Literal["after stitching"] | None = None  # the table; None: a job without named classes


class Content(Stored):
    """job.json."""

    settings: Settings
    statistics: Annotated[list[float], Field(min_length=2, max_length=2)]
    token: str


def begun(output: str | os.PathLike) -> dict | None:
    """job.json of an unfinished segmentation, None if there is none."""
    folder = partial_folder(output)
    return read_job(folder) if (folder / "job.json").exists() else None


def read_job(folder: Path) -> dict[str, Any]:
    """job.json of a folder. Raises FileNotFoundError if it is missing, UserError if it is invalid."""
    path = folder / "job.json"
    path.stat()
    return read_json(path, Content, MEND).model_dump(exclude_unset=True)


def begin(
    output: str | os.PathLike, settings: Mapping[str, Any], statistics: tuple[float, float], model: Model, **store: Any
) -> None:
    """Create OUTPUT.partial, without any block. store: arguments of `create_store` (voxel_size, names, ...).

    model: its current names, edits and teacher are stored and apply to all blocks.
    """
    folder = partial_folder(output)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    plan, levels = layout(settings)
    create_store(
        folder / "store", levels, plan.chunk, settings["kind"], version=settings["ome"], about=settings, **store
    )
    slot = plan.slot
    import_zarr(output).create_array(
        folder / "fovs",
        shape=(plan.shape[0], len(plan.y) * slot[0], len(plan.x) * slot[1], *channels(settings)),
        chunks=(plan.chunk[0], *slot, *channels(settings)),
        dtype="uint8",
        fill_value=EMPTY,
    )
    if model.edits is not None or model.taught is not None:
        model.keep_made(folder)
    if settings.get("probabilities"):
        assert model.taught is not None  # checked with the options
        create_probabilities(folder / "probabilities", plan.shape, plan.chunk, model.taught.names, settings, store)
    for stage in ("fovs", *range(len(levels))):
        (folder / "done" / str(stage)).mkdir(parents=True)
    write_json(folder / "job.json", {"settings": settings, "statistics": statistics, "token": secrets.token_hex(8)})


def finish(output: str | os.PathLike) -> None:
    """Give the store its final name, replacing what was there."""
    folder = partial_folder(output)
    wished = read_job(folder)["settings"].get("probabilities")
    if wished and (folder / "probabilities").exists():
        move_into_place(folder / "probabilities", Path(wished))
    move_into_place(folder / "store", Path(output))
    shutil.rmtree(folder)


def channels(settings: Mapping[str, Any]) -> tuple[int, ...]:
    """Values per pixel of a FOV, the first being the label that stitching uses: () for labels only, (1 + channels,)."""
    shown = shown_of(settings)
    return () if shown is None else (1 + len(shown.empty),)


def shown_of(settings: Mapping[str, Any]) -> Classes | None:
    """What a job writes for a taught model."""
    codes = settings.get("codes")
    return None if codes is None else Classes(np.array(codes, np.uint8), bool(settings.get("probabilities")))


def layout(settings: Mapping[str, Any]) -> tuple[Plan, list[Level]]:
    """The plan of FOVs and blocks, and the levels of the pyramid, from a job's settings."""
    shape = [stop - start for start, stop in settings["region"]]
    plan = make_plan(shape, settings["fov"], settings["halo"], settings["block"])
    return plan, pyramid(shape, settings["voxel_size"])


# ------------------------------------------------------------------------------------------------------------- work
@dataclass(frozen=True)
class Task:
    """Block `number` of a stage: "fovs", or the number of a level. size: number of FOVs, for progress."""

    stage: str
    number: int
    size: int = 1


class Job:
    """What a process keeps open for a segmentation: model, volume, mask and arrays, each opened on first use."""

    def __init__(self, folder: str, device: str):
        about = read_job(Path(folder))
        self.folder, self.device = Path(folder), device
        self.settings, self.statistics = about["settings"], tuple(about["statistics"])
        self.plan, self.levels = layout(self.settings)
        self.stages = ["fovs", *map(str, range(len(self.levels)))]

    @functools.cached_property
    def model(self) -> Model:
        """The run's model, loaded on first use."""
        return Model.load(self.settings["run"], self.device, made=self.folder)

    @functools.cached_property
    def volume(self) -> Volume:
        """The region of the image, standardised by the statistics of the whole region."""
        return open_volume(self.settings, self.model.min_side, self.statistics)

    @functools.cached_property
    def mask(self) -> Mask | None:
        """Where to segment; None: everywhere."""
        return open_mask(self.settings)

    @functools.cached_property
    def fovs(self) -> Any:
        """The results of all FOVs, side by side: (Z, rows * slot, columns * slot)."""
        return import_zarr(self.folder).open_array(self.folder / "fovs", mode="r+")

    @functools.cached_property
    def probabilities(self) -> Any:
        """The Zarr array (C + 1, Z, Y, X) uint8 of the class probabilities and the uncertainty."""
        return import_zarr(self.folder).open_array(self.folder / "probabilities" / "0", mode="r+")

    def level(self, number: int) -> Any:
        """The Zarr array (Z, Y, X) uint8 of a level of the pyramid."""
        return open_level(self.folder / "store", self.settings["kind"], number)

    def marker(self, task: Task) -> Path:
        """The file that marks a task as done, with the checksum of its labels."""
        return self.folder / "done" / task.stage / str(task.number)

    def tasks(self, stage: str) -> list[Task]:
        """Unfinished blocks of a stage."""
        done = self._done(stage)
        left = [number for number in range(self._count(stage)) if str(number) not in done]
        if stage == "fovs":
            return [Task(stage, number, math.prod(map(len, self.plan.within(number)))) for number in left]
        return [Task(stage, number) for number in left]

    def _done(self, stage: str) -> set[str]:
        try:
            return set(os.listdir(self.folder / "done" / stage))
        except OSError as error:
            raise self._damaged(error) from None

    def _count(self, stage: str) -> int:
        if stage in ("fovs", "0"):
            return self.plan.count
        return math.prod(grid(self.levels[int(stage)].shape, self._cells))

    def _damaged(self, error: Exception) -> UserError:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        return UserError(f"{self.folder}: the unfinished segmentation is damaged ({reason}); {MEND}")

    def check(self) -> None:
        """Mark blocks as unfinished if their labels do not match their checksum. Raises UserError if more than
        blocks was lost."""
        again = 0
        for stage in self.stages:
            self._place(Task(stage, 0))
            for name in sorted(self._done(stage)):
                known = name.isdecimal() and len(name) < 10 and int(name) < self._count(stage)
                if not known or not self._whole(Task(stage, int(name))):
                    again += known
                    remove(self.folder / "done" / stage / name)
        if again:
            say_error(f"{self.folder}: {again} damaged block{'s' if again > 1 else ''} will be computed again")

    def _whole(self, task: Task) -> bool:
        array, area = self._place(task)
        try:
            if bounds.read_text(self.marker(task), 100) == self._checksum(task):
                return True
        except (UserError, *DAMAGE):
            pass
        array[area] = EMPTY  # empty chunks are not written again
        return False

    def _checksum(self, task: Task) -> str:
        """Checksum of a task's labels, read back."""
        array, (z, y, x) = self._place(task)
        crc, depth = 0, self.plan.chunk[0]
        for start in range(z.start, z.stop, depth):
            crc = zlib.crc32(np.ascontiguousarray(array[start : min(start + depth, z.stop), y, x]).tobytes(), crc)
        return f"{crc:08x}"

    def _place(self, task: Task) -> tuple[Any, tuple[slice, ...]]:
        """The array that a task fills, and its voxels there."""
        area: tuple[slice, ...]
        try:
            if task.stage == "fovs":
                zs, rows, columns = self.plan.within(task.number)
                (top, left), (h, w) = self.plan.corner(rows[0], columns[0]), self.plan.slot
                sides = slice(top, top + len(rows) * h), slice(left, left + len(columns) * w)
                array, area = self.fovs, (slice(zs.start, zs.stop), *sides)
                shape = (self.plan.shape[0], len(self.plan.y) * h, len(self.plan.x) * w, *channels(self.settings))
            else:
                level = int(task.stage)
                array, shape = self.level(level), self.levels[level].shape
                area = self.plan.box(task.number) if level == 0 else box(shape, self._cells, task.number)
            if array.shape != shape or array.dtype != np.uint8:
                raise ValueError(f"expected uint8 {shape}, found {array.dtype} {array.shape}")
        except DAMAGE as error:
            raise self._damaged(error) from None
        return array, area

    def do(self, task: Task, tick: Callable[[], Any] = lambda: None) -> None:
        """Execute a task. tick: called after every FOV."""
        if self.marker(task).exists():  # done by a worker that died before reporting it
            return
        if task.stage == "fovs":
            self._segment(task.number, tick)
        elif task.stage == "0":
            self._stitch(task.number)
        else:
            self._halve(int(task.stage), task.number)
        write_text(self.marker(task), self._checksum(task))

    def _segment(self, number: int, tick: Callable[[], Any]) -> None:
        zs, rows, columns = self.plan.within(number)
        places = [(i, j) for i in rows for j in columns]
        depth = self.plan.chunk[0]
        for start in range(zs.start, zs.stop, depth):  # written at once, chunk by chunk
            some = range(start, min(start + depth, zs.stop))
            found = self._layer(some, places, tick)
            for (i, j), labels in found.items():
                top, left = self.plan.corner(i, j)
                self.fovs[some.start : some.stop, top : top + labels.shape[1], left : left + labels.shape[2]] = labels

    def _layer(self, zs: range, places: Sequence[Place], tick: Callable[[], Any]) -> dict[Place, np.ndarray]:
        """Labels of some slices, for each FOV of a block: (slices, *slot).

        Works slice by slice, as the FOVs of a slice share features; but reads the pixels of all slices together, so
        that a chunk, which spans many slices, is read once.
        """
        shown = shown_of(self.settings)
        shape = (len(zs), *self.plan.slot, *channels(self.settings))
        layer = {place: np.full(shape, EMPTY, np.uint8) for place in places}
        wanted = {z: [place for place in places if self._inside(z, *place)] for z in zs}
        seen = [(self.plan.y[i], self.plan.x[j]) for i, j in {place for some in wanted.values() for place in some}]
        top, left = (min((fov[axis].low for fov in seen), default=0) for axis in (0, 1))
        rows, columns = (
            slice(low, max((fov[axis].high for fov in seen), default=0)) for axis, low in ((0, top), (1, left))
        )
        for z in zs:
            image = np.empty((0, 0), np.float32)  # if all is outside the mask
            if wanted[z]:
                image = self.volume.read_window(self.volume.origin[0] + z, rows, columns)
            with sharing(self.model, len(wanted[z])):
                fovs = [((i, j), self.plan.y[i], self.plan.x[j]) for i, j in places]
                views = (
                    (place, y, x, image[y.low - top : y.high - top, x.low - left : x.high - left])
                    for place, y, x in fovs
                )
                for place, found, result in label_fovs(self.model, self.mask, z, views):
                    if shown is not None:
                        found = np.concatenate([found[..., None], shown.of(self.model, result, found)], 2)
                    layer[place][z - zs.start, : found.shape[0], : found.shape[1]] = found
                    tick()
        return layer

    def _inside(self, z: int, i: int, j: int) -> bool:
        """Whether FOV (i, j) contains anything to segment."""
        y, x = self.plan.y[i], self.plan.x[j]
        return self.mask is None or bool(self.mask(z, slice(y.start, y.stop), slice(x.start, x.stop)).any())

    @functools.cached_property
    def table(self) -> np.ndarray:
        """Table from clusters to labels, (256,) uint8."""
        return look_up(np.array(self.settings["table"], np.uint8))

    def _stitch(self, number: int) -> None:
        area, (zs, rows, columns) = self.plan.box(number), self.plan.within(number)

        def read(i: int, j: int, y: slice, x: slice) -> np.ndarray:
            top, left = self.plan.corner(i, j)
            down, right = top - self.plan.y[i].low, left - self.plan.x[j].low
            return self.fovs[zs.start : zs.stop, y.start + down : y.stop + down, x.start + right : x.stop + right]

        shown = channels(self.settings)
        labels = np.empty([*(side.stop - side.start for side in area), *(n - 1 for n in shown)], np.uint8)
        for i in rows:
            for j in columns:
                y, x = (span.start - side.start for span, side in zip((self.plan.y[i], self.plan.x[j]), area[1:]))
                fields = (self.plan.y, self.plan.x, self.plan.halo)
                if shown:
                    clusters, values = lambda *at: read(*at)[..., 0], lambda *at: read(*at)[..., 1:]
                    found = stitched(i, j, *fields, clusters, EMPTY, values)
                else:
                    found = stitched(i, j, *fields, read, EMPTY)
                labels[:, y : y + found.shape[1], x : x + found.shape[2]] = found
        if shown:
            if self.settings.get("probabilities"):
                self.probabilities[(slice(None), *area)] = np.moveaxis(labels[..., 1:], -1, 0)
            labels = labels[..., 0]
        else:
            labels = self.table[labels]
        self.level(0)[area] = labels

    @property
    def _cells(self) -> list[int]:
        return cells(self.plan.chunk)

    def _halve(self, level: int, number: int) -> None:
        here = self.levels[level]
        halve_box(self.level(level - 1), self.level(level), here.step, box(here.shape, self._cells, number))


_one_at_a_time = threading.Lock()  # even in a worker with several threads, as a task uses its own threads


@functools.lru_cache(maxsize=1)
def _job(folder: str, device: str, token: str) -> Job:
    try:
        return Job(folder, device)
    except FileNotFoundError:
        raise UserError(
            f"{folder}: missing on {socket.gethostname()}, where a worker runs; put OUTPUT, INPUT and "
            "RUN on a disk that all machines see under the same path"
        ) from None


def do(folder: str, device: str, token: str, task: Task) -> Task:
    """Execute a task in a worker, which keeps the job open for the next. token: distinguishes jobs of the same name."""
    with _one_at_a_time:
        _job(folder, device, token).do(task)
    return task


def carry_out(
    output: str | os.PathLike, device: str, workers: int, scheduler: str | None, progress: Callable[[int, str], Any]
) -> None:
    """Do the rest of the job, stage by stage. progress(total, what) is a context whose value has update(n)."""
    folder = str(partial_folder(output).absolute())
    token = read_job(Path(folder))["token"]
    job = Job(folder, device)
    job.check()
    with kept(folder), cluster(workers, scheduler) as client:
        for stage in job.stages:
            tasks = job.tasks(stage)
            if not tasks:
                continue
            with progress(sum(task.size for task in tasks), STAGES.get(stage, f"level {stage}")) as bar:
                if client is not None:
                    for task in on_cluster(client, functools.partial(do, folder, device, token), tasks):
                        bar.update(task.size)
                else:
                    for task in tasks:
                        job.do(task, bar.update)
                        if stage != "fovs":
                            bar.update()


@contextmanager
def kept(folder: str) -> Iterator[None]:
    """If the work ends early, print where the finished part is."""
    try:
        yield
    except BaseException:
        say_error(f"{folder} contains the finished part; pass --resume to continue")
        raise
