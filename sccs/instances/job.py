"""Find a class map's objects in a folder, by any number of processes, any of which may die.

Until it is finished, OUT.partial/ contains objects.json (all that a worker must know), result/ (the future OUT), work/
(arrays and tables of the stages, `sccs.instances.work`) and done/ with a file for each finished task and the checksum
of its voxels. A resumed job repeats only tasks that are unfinished or whose voxels have changed.
"""

from __future__ import annotations

import ctypes
import functools
import os
import secrets
import shutil
import threading
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from registry.base import UserError
from sccs.data.label_store import create_store
from sccs.data.readers import open_image
from sccs.inference.partial import partial_folder
from sccs.inference.workers import cluster, on_cluster
from sccs.instances.stores import DAMAGE, RESULT, Folder
from sccs.instances.work import ALONE, Task, Wishes, Work, file_name
from sccs.recipe.stored import Stored, read_json
from sccs.system import bounds
from sccs.system.files import remove, write_json, write_text
from sccs.system.log import bar, say_error

ABOUT = "objects.json"
ARENA_MAX = -8  # M_ARENA_MAX of malloc.h
CONTENT = (ABOUT, "result", "work", "done")  # of OUT.partial
MEND = "pass --overwrite to start over"
SAID = {
    "codes": "reading",
    "clean": "smoothing",
    "parts": "finding objects",
    "split": "splitting",
    "pieces": "splitting",
}
SAID |= {"holes": "finding holes", "measure": "measuring", "labels": "writing"}


class Content(Stored):
    """objects.json."""

    settings: dict[str, Any]
    token: str


def begin(output: str | os.PathLike, settings: Mapping[str, Any]) -> None:
    """Create OUT.partial, without any block."""
    folder = partial_folder(output)
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("result", "work", "done"):
        (folder / name).mkdir(parents=True)
    write_json(folder / ABOUT, {"settings": settings, "token": secrets.token_hex(8)})


def read_about(folder: Path) -> dict[str, Any]:
    """objects.json of a folder, checked. Raises UserError if it is invalid."""
    return read_json(folder / ABOUT, Content, MEND).model_dump()


class Job:
    """A folder's work, and which of its tasks are done."""

    def __init__(self, folder: str):
        self.folder = Path(folder)
        self.settings = read_about(self.folder)["settings"]
        self.work = make_work(self.settings, Folder(self.folder))
        self.checked = False

    def marker(self, task: Task) -> Path:
        """The file that marks a task as done, with the checksum of its voxels."""
        return self.folder / "done" / task.stage / str(task.number)

    def tasks(self, stage: str, check: bool = False) -> list[Task]:
        """Unfinished tasks of a stage. check: also repeat those whose voxels have changed."""
        tasks, again = [Task(stage, number) for number in range(self.work.count(stage))], 0
        for task in tasks if check else ():
            if self.marker(task).exists() and not self._whole(task):
                again += 1
                remove(self.marker(task))
        if again:
            say_error(f"{self.folder}: {again} damaged block{'s' if again > 1 else ''} will be computed again")
        return [task for task in tasks if not self.marker(task).exists()]

    def _whole(self, task: Task) -> bool:
        try:
            return bounds.read_text(self.marker(task), 100) == self._checksum(task)
        except (UserError, *DAMAGE):
            return False

    def _checksum(self, task: Task) -> str:
        """Checksum of a task's voxels, read back."""
        if (place := self.work.filled(task)) is None:
            return "-"
        name, (z, y, x) = place
        array, crc = self.work.store.open(name), 0
        for start in range(z.start, z.stop, 32):
            crc = zlib.crc32(np.ascontiguousarray(array[start : min(start + 32, z.stop), y, x]).tobytes(), crc)
        return f"{crc:08x}"

    def do(self, task: Task) -> None:
        """Execute a task, unless a worker did so but died before reporting it."""
        if not self.marker(task).exists():
            self.work.do(task)
            _give_back()
            write_text(self.marker(task), self._checksum(task))


def make_work(settings: Mapping[str, Any], store: Folder) -> Work:
    """The work that a job's settings describe."""
    source = open_image(
        settings["input"], axes=settings["axes"], voxel_size=settings["voxel_size"], level=settings["level"], codes=True
    )
    image = settings["image"] and open_image(settings["image"], level=settings["image_level"]).array
    wishes = dict(settings["wishes"])
    if wishes["names"]:
        wishes["names"] = {int(code): name for code, name in wishes["names"].items()}
    if wishes["fill"] is None:
        wishes["fill"] = float("inf")
    return Work(
        source.array, store, Wishes(**wishes), settings["voxel_size"], image, settings["block"], settings["input"]
    )


_one_at_a_time = threading.Lock()


@functools.lru_cache(maxsize=1)
def _job(folder: str, token: str) -> Job:
    _share_memory()
    return Job(folder)


def _share_memory() -> None:
    """Make all threads share one memory arena (GNU C library only): otherwise memory freed by Zarr's threads stays with
    them, up to half a gigabyte."""
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).mallopt(ARENA_MAX, 1)


def _give_back() -> None:
    """Return freed memory to the system (GNU C library only), which would keep 150 MB of a task's for the next."""
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def do(folder: str, token: str, task: Task) -> Task:
    """Execute a task in a worker, which keeps the job open for the next. token: distinguishes jobs of the same name."""
    with _one_at_a_time:
        _job(folder, token).do(task)
    return task


def carry_out(output: str | os.PathLike, workers: int, scheduler: str | None, resumed: bool) -> Job:
    """Do the rest of the job, stage by stage."""
    folder = str(partial_folder(output).absolute())
    token = read_about(Path(folder))["token"]
    _share_memory()
    job = Job(folder)
    with _begun(job, resumed), cluster(workers, scheduler) as client:
        for stage in job.work.stages():
            name = stage.rpartition("/")[2]
            if name == "parts" or name == "holes":
                _lay_out(job)
            job.work.prepare(stage)
            tasks = job.tasks(stage, resumed)
            if not tasks:
                continue
            what = SAID.get(name, "joining" if not name.startswith("level") else f"level {name[5:]}")
            if stage != "codes" and "/" in stage:
                what = f"{list(job.work.classes)[int(stage.partition('/')[0])]}: {what}"
            with bar(len(tasks), what, "block") as progress:
                if client is None or name in ALONE:
                    for task in tasks:
                        job.do(task)
                        progress.update()
                else:
                    for _ in on_cluster(client, functools.partial(do, folder, token), tasks):
                        progress.update()
    return job


@contextmanager
def _begun(job: Job, resumed: bool) -> Iterator[None]:
    """If the class map is invalid, leave nothing behind; after any other interruption the work can be resumed."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, UserError) and not resumed and not (job.folder / "result" / RESULT).exists():
            shutil.rmtree(job.folder)
        else:
            say_error(f"{job.folder} contains the finished part; pass --resume to continue")
        raise


def _lay_out(job: Job) -> None:
    """Create the store of the result, once its classes are known."""
    path = job.folder / "result" / RESULT
    if not path.exists():
        work, settings = job.work, job.settings
        if len(set(map(file_name, work.classes))) < len(work.classes):
            raise UserError(f"{work.path}: two classes would have the same file name; rename them with --class")
        temporary = job.folder / "work" / "store.zarr"
        remove(temporary)
        create_store(
            temporary,
            work.levels,
            work.blocks.chunk,
            *map(file_name, work.classes),
            dtype="uint32",
            fill=0,
            version=settings["ome"],
            voxel_size=settings["voxel_size"],
            translation=settings["translation"],
            about=settings,
        )
        os.replace(temporary, path)
