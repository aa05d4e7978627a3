"""Soak test: commands killed at random moments, many at once, a full disk. Is anything lost, wrong, or left over?

    python -m benchmarks.studies.soak [--kills 100] [--full 20] [--together 8] [--minutes 25] [--seed 0]
                                      [--out benchmarks/results/soak]

Small synthetic inputs; every command that writes. Each is first run undisturbed. Killed: it is started again, gets
SIGKILL at a random moment of its run time, and is then completed with the command that a user would type. Full: it runs
on a disk (tmpfs) that is full after a random share of the command's output; if none can be mounted, file sizes are
limited to that share (EFBIG). It must report this in one line, with exit code 2; then the disk grows, and the command
is completed. In both cases, results must equal those of the undisturbed command, and no temporary file or lock may be
left next to them. Together: the same command on the same output, several times at once: one completes, the others name
the process that holds the lock; names for as many clusters: all are kept; as many runs on one cache, empty at first:
all end with the same results. Each command is a separate process, forked by a server that has imported SCCS, so that
work is killed, not imports. minutes: no trial of the first two kinds starts after this time. Writes OUT/soak.md and
.csv: a line for each trial.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tifffile

from benchmarks.pages import ROOT, Origin, markdown, publish, typed
from registry.base import UserError
from registry.spg.dgl_adapter import dgl
from sccs.cli import main as main_of_sccs
from sccs.recipe import history
from sccs.system.exits import guard

COMMAND = "python -m benchmarks.studies.soak"
SMALL = [
    "data.shapes=[[4,160,160],[4,160,160]]",
    "data.train_slices=2",
    "data.test_slices=1",
    "train.checkpoint_every=20",
]
TRAINED = ["features=intensity", *SMALL, "train.iterations=120", "clusterer.warmup=40"]
MAE = """
extends: mae
pretrain:
  data: [{name: phantom, shapes: [[4, 160, 160], [4, 160, 160]]}]
  architecture: {patch: 5, window: 40, width: 16, depth: 1, heads: 1, decoder_width: 16, decoder_depth: 1}
  steps: 60
  max_minutes: null
  batch: 2
  warmup: 10
  checkpoint_every: 10
"""
PRELOADED = ["sccs.run", "sccs.instances.command", "sccs.sharing.export", "sccs.sharing.graphs", "matplotlib.figure"]
SLACK = 1 << 20  # bytes
LEFT = (".????????-*", "*.lock", "*.partial")


@dataclass(frozen=True)
class Writer:
    """A command that writes.

    start: its arguments, given the folder to work in. again: the arguments with which a user would complete it.
    results: patterns of the compared files. prepare: called with the empty folder.
    """

    start: Callable[[Path], list[str]]
    again: Callable[[Path], list[str]]
    results: Sequence[str]
    prepare: Callable[[Path], object] = field(default=lambda folder: None)


def writers(base: Path, parted: Path, image: Path, recipe: Path, points: Path, labels: Path) -> dict[str, Writer]:
    """By name. base: a finished run; parted: the same, after a split; image: a volume; recipe: of a small pre-training;
    points: a table of labels in the image; labels: a class map."""

    def run(name: str, *options: str) -> tuple[Callable[[Path], list[str]], Callable[[Path], list[str]]]:
        def start(at: Path) -> list[str]:
            return ["run", name, *options, "--out", str(at / "run")]

        return start, lambda at: start(at) + ["--resume"] * (at / "run" / "resolved.yaml").is_file()

    def plain(name: str, out: str, *given: str) -> tuple[Callable[[Path], list[str]], Callable[[Path], list[str]]]:
        def start(at: Path) -> list[str]:
            return [name, *given, str(at / out)]

        return start, lambda at: start(at) + ["--overwrite"] * (at / out).exists()

    def blocks(at: Path) -> list[str]:
        return ["segment", str(base), str(image), str(at / "a.ome.zarr")]

    def name(at: Path) -> list[str]:
        return ["name", str(at / "run"), "0=nucleus", "1=granules"]

    def copied(at: Path) -> None:
        shutil.copytree(base, at / "run")

    def split(at: Path) -> None:
        shutil.copytree(parted, at / "run")

    def step(
        name: str, *given: str, after: Callable[[Path], object] = copied
    ) -> tuple[Callable[[Path], list[str]], Callable[[Path], list[str]], Sequence[str], Callable[[Path], object]]:
        def start(at: Path) -> list[str]:
            return [name, str(at / "run"), *given]

        def again(at: Path) -> list[str]:
            """The same step, or any other if it already counts: it draws what is not drawn yet."""
            before = 2 if after is split else 1
            counts = len(history.steps(at / "run")) != before
            return ["name", str(at / "run"), "0=nucleus"] if counts else start(at)

        return start, again, ["run/segmentation/*"], after

    def objects(at: Path) -> list[str]:
        return ["objects", str(labels), str(at / "objects")]

    return {
        "run": Writer(*run("sccs", "--set", *TRAINED), ["run/model/*.safetensors", "run/segmentation/*"]),
        "run, pre-training": Writer(*run(str(recipe)), ["run/model/*.safetensors"]),
        "segment, TIFF": Writer(*plain("segment", "a.tif", str(base), str(image)), ["a.tif"]),
        "segment, OME-Zarr": Writer(
            blocks,
            lambda at: [*blocks(at), "--overwrite" if (at / "a.ome.zarr").exists() else "--resume"],
            ["a.ome.zarr/**/*"],
        ),
        "name": Writer(name, name, ["run/segmentation/*"], copied),
        "export": Writer(*plain("export", "a.zip", str(base)), ["a.zip"]),
        "graphs": Writer(*plain("graphs", "graphs", str(base)), ["graphs/*"]),
        "teach": Writer(*step("teach", str(points), "--image", str(image))),
        "split": Writer(*step("split", "1", "--into", "2")),
        "merge": Writer(*step("merge", "1", "2")),
        "undo": Writer(*step("undo", after=split)),
        "suggest": Writer(*plain("suggest", "s.csv", str(base), "--out"), ["s.csv"]),
        "objects": Writer(
            objects,
            lambda at: [*objects(at), "--overwrite" if (at / "objects").exists() else "--resume"],
            ["objects/*.csv", "objects/objects.ome.zarr/**/*"],
        ),
    }


def command(options: Sequence[str], folder: str, texts: str, limit: int | None) -> None:
    """Run `sccs` with these options in this process, in `folder`, as a child of the soak test alone.

    texts: stem of the files for its output, `texts`.out and .err. limit: bytes of a file.
    """
    os.setsid()
    os.chdir(folder)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{texts}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115  # till the end
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    sys.exit(main_of_sccs(options))


@dataclass
class Begun:
    """A command that was started, and the stem of its output files."""

    process: multiprocessing.process.BaseProcess
    options: Sequence[str]
    texts: Path

    def end(self) -> subprocess.CompletedProcess[str]:
        """Wait for it."""
        self.process.join()
        out, err = (self.texts.with_suffix(suffix) for suffix in (".out", ".err"))
        code = self.process.exitcode
        assert code is not None  # as it has ended
        read = [path.read_text(errors="replace") if path.exists() else "" for path in (out, err)]
        return subprocess.CompletedProcess(list(self.options), code, *read)


def digest(folder: Path, patterns: Sequence[str]) -> str:
    """Hash of names and contents of the files that match the patterns."""
    found = hashlib.sha256()
    for path in sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}):
        found.update(f"{path.relative_to(folder)}\n".encode())
        for part in _content(path):
            found.update(part)
    return found.hexdigest()[:12]


def _content(path: Path) -> Iterator[bytes]:
    """The bytes of a file; for formats whose libraries do not fix order or padding, names and bytes of the arrays."""
    if path.suffix == ".safetensors":
        from safetensors.numpy import load_file

        arrays = load_file(path)
    elif path.name == "graphs.bin":
        graphs, _ = dgl.load_graphs(str(path))
        ends = {f"{i}.{end}": ids.numpy() for i, graph in enumerate(graphs) for end, ids in zip("uv", graph.edges())}
        arrays = {
            f"{i}.{kind}.{name}": values.numpy()
            for i, graph in enumerate(graphs)
            for kind, data in (("node", graph.ndata), ("edge", graph.edata))
            for name, values in data.items()
        } | ends
    else:
        yield path.read_bytes()
        return
    for name in sorted(arrays):
        yield f"{name} {arrays[name].dtype} {arrays[name].shape}\n".encode() + arrays[name].tobytes()


def left(folder: Path) -> list[str]:
    """Temporary files, locks, unfinished work."""
    return sorted(str(path.relative_to(folder)) for pattern in LEFT for path in folder.rglob(pattern))


def said(done: subprocess.CompletedProcess[str]) -> str:
    """What is wrong with the way a rejected command ended; empty if nothing is."""
    errors = [line for line in done.stderr.splitlines() if line.startswith("sccs: error: ")]
    if "Traceback" in done.stderr:
        return f"exit code {done.returncode}, a traceback"
    if done.returncode != 2 or len(errors) != 1:
        last = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        return f"exit code {done.returncode}, {len(errors)} lines of error, last: {last[:120]}"
    return ""


class Soak:
    """Trials in a scratch folder, with a finished run, a volume and their own cache."""

    def __init__(self, scratch: Path, seed: int):
        self.scratch, self.random, self.rows = scratch, random.Random(seed), list[list[str]]()
        os.environ |= {"PYTHONPATH": str(ROOT), "SCCS_CACHE": str(scratch / "cache")}
        self.server, self.begun = multiprocessing.get_context("forkserver"), 0
        self.server.set_forkserver_preload([__name__, *PRELOADED])
        (scratch / "texts").mkdir()
        image, recipe = scratch / "cell.tif", scratch / "mae.yaml"
        points, labels = scratch / "points.csv", scratch / "map.tif"
        noise = np.random.default_rng(seed).normal(128, 40, (4, 200, 200))
        tifffile.imwrite(image, noise.clip(0, 255).astype(np.uint8), photometric="minisblack")
        recipe.write_text(MAE)
        places = [f"{i % 4},{20 + 25 * i},{180 - 25 * i},{('nucleus', 'granules')[i % 2]}" for i in range(7)]
        points.write_text("\n".join(["z,y,x,class", *places, ""]))
        z, y, x = np.ogrid[:8, :96, :96]
        wave = np.sin(x / 7) + np.sin(y / 6 + z / 3)
        tifffile.imwrite(labels, np.select([wave > 0.7, wave < -0.9], [1, 2]).astype(np.uint8))
        base = scratch / "base"
        self.must(["run", "intensity_kmeans", "--set", *SMALL, "--out", str(base)])
        for step in (["name", "0=nucleus"], ["split", "1", "--into", "2"], ["undo"]):  # names stand in all files then
            self.must([step[0], str(base), *step[1:]])
        parted = shutil.copytree(base, scratch / "parted")
        self.must(["split", str(parted), "1", "--into", "2"])
        self.writers = writers(base, parted, image, recipe, points, labels)
        self.whole: dict[str, tuple[float, int, str]] = {}  # seconds, bytes written, digest
        for name, writer in self.writers.items():
            folder = self.fresh(writer)
            before = _size(folder)
            start = time.perf_counter()
            self.must(writer.start(folder))
            seconds = time.perf_counter() - start
            self.whole[name] = (seconds, _size(folder) - before, digest(folder, writer.results))

    def begin(self, options: Sequence[str], limit: int | None = None) -> Begun:
        """Start the command in a separate process. limit: bytes of a file."""
        self.begun += 1
        texts = self.scratch / "texts" / str(self.begun)
        process = self.server.Process(target=command, args=(list(options), str(self.scratch), str(texts), limit))
        process.start()
        return Begun(process, options, texts)

    def run(self, options: Sequence[str], limit: int | None = None) -> subprocess.CompletedProcess[str]:
        """Run the command and wait for it."""
        return self.begin(options, limit).end()

    def must(self, options: Sequence[str]) -> None:
        """Run the command. Raises UserError if it fails."""
        done = self.run(options)
        if done.returncode:
            raise UserError(f"sccs {' '.join(options)}: exit code {done.returncode}: {done.stderr.strip()[-300:]}")

    def fresh(self, writer: Writer, folder: Path | None = None) -> Path:
        """An empty folder, prepared for the command."""
        folder = folder or self.scratch / "work"
        if folder.exists() and not folder.is_mount():
            shutil.rmtree(folder)
        folder.mkdir(exist_ok=True)
        writer.prepare(folder)
        return folder

    def add(self, trial: str, name: str, when: str, wrong: str) -> None:
        """Add a line to the table, and print it."""
        self.rows.append([trial, name, when, wrong])
        print(*self.rows[-1], sep=" | ", flush=True)

    def brought_to_the_end(self, name: str, folder: Path) -> str:
        """Complete the command. Returns what is wrong afterwards."""
        writer = self.writers[name]
        done = self.run(writer.again(folder))
        if done.returncode:
            return f"afterwards exit code {done.returncode}: {(done.stderr.strip().splitlines() or [''])[-1][:160]}"
        if digest(folder, writer.results) != self.whole[name][2]:
            return "other results"
        return f"left: {', '.join(remains)}" if (remains := left(folder)) else ""

    def kill(self, name: str) -> None:
        """One trial of `killed`."""
        writer, folder = self.writers[name], self.fresh(self.writers[name])
        wait = self.random.uniform(0, 1) * self.whole[name][0]
        begun = self.begin(writer.start(folder))
        time.sleep(wait)
        with suppress(ProcessLookupError):  # it has ended, or is not the head of its group yet
            os.killpg(begun.process.pid or 0, signal.SIGKILL)
        begun.process.kill()
        begun.end()
        self.add("killed", name, f"after {wait:.2f} s", self.brought_to_the_end(name, folder))

    def fill(self, name: str) -> None:
        """One trial of `full`."""
        writer, room = self.writers[name], int(self.random.uniform(0, 0.9) * max(0, self.whole[name][1]))
        with disk(self.scratch / "disk") as grow:
            folder = self.fresh(writer, self.scratch / "disk")
            if grow is not None:
                grow(shutil.disk_usage(folder).used + SLACK + room)  # a disk cannot be shrunk to the last page
                with open(folder / "ballast", "wb", buffering=0) as ballast:
                    with suppress(OSError):  # it is full
                        while ballast.write(bytes(4096)):
                            pass
                    ballast.truncate(max(0, ballast.tell() - room))
                done = self.run(writer.start(folder))
                grow(1 << 30)
            else:
                done = self.run(writer.start(folder), room)
            # if the output fits after all, the disk was not full, but the results must be right
            wrong = said(done) if done.returncode else ""
            wrong = wrong or self.brought_to_the_end(name, folder)
            how = "disk" if grow is not None else "files"
            self.add("full", name, f"{how} of {room} bytes, exit code {done.returncode}", wrong)

    def together(self, n: int) -> None:
        """Three trials of n processes at once."""
        for name in ("run", "segment, TIFF", "segment, OME-Zarr", "export", "graphs", "objects"):
            writer, folder = self.writers[name], self.fresh(self.writers[name])
            ended = self.at_once([writer.start(folder)] * n)
            done = sum(each.returncode == 0 for each in ended)
            wrong = next((text for each in ended if each.returncode and (text := said(each))), "")
            if done != 1:
                wrong = wrong or f"{done} of {n} completed"
            elif digest(folder, writer.results) != self.whole[name][2]:
                wrong = wrong or "other results"
            self.add("together", name, f"{n} on one output", wrong or ", ".join(left(folder)))
        folder = self.fresh(self.writers["name"])
        ended = self.at_once([["name", str(folder / "run"), f"{i % 8}=cell{i % 8}"] for i in range(n)])
        kept = (folder / "run" / "classes.yaml").read_text()
        lost = [i for i in range(min(n, 8)) if f"cell{i}" not in kept]
        failed = [said(each) or "refused" for each in ended if each.returncode]
        self.add("together", "name", f"{n} names", ", ".join([*failed, *(f"cell{i} lost" for i in lost)]))
        shutil.rmtree(self.scratch / "cache")
        folder = self.fresh(self.writers["run"])
        for i in range(n):
            (folder / str(i)).mkdir()
        ended = self.at_once([self.writers["run"].start(folder / str(i)) for i in range(n)])
        bytes_of = {digest(folder / str(i), self.writers["run"].results) for i in range(n)}
        wrong = ", ".join(f"exit code {each.returncode}" for each in ended if each.returncode)
        same = bytes_of == {self.whole["run"][2]}
        self.add("together", "run", f"{n} on one cache", wrong or ("" if same else "other results"))

    def at_once(self, commands: Sequence[list[str]]) -> list[subprocess.CompletedProcess[str]]:
        """Start all, then wait for each."""
        return [each.end() for each in [self.begin(options) for options in commands]]


def _size(folder: Path) -> int:
    """Bytes of all files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@contextmanager
def disk(folder: Path) -> Iterator[Callable[[int], None] | None]:
    """A tmpfs at `folder`, and the function that sets its size; None if it cannot be mounted."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "soak", str(folder)], capture_output=True, check=False)
    if mounted.returncode:
        yield None
        return

    def grow(size: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={max(size, 4096)}", str(folder)], capture_output=True, check=True)

    try:
        yield grow
    finally:
        subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=True)


def page(rows: Sequence[Sequence[str]]) -> str:
    """Counts by trial and command, and everything that went wrong."""
    kinds = list(dict.fromkeys((row[0], row[1]) for row in rows))
    lines = []
    for trial, name in kinds:
        found = [row[3] for row in rows if (row[0], row[1]) == (trial, name)]
        lines.append([trial, name, str(len(found)), str(sum(map(bool, found)))])
    wrong = [f"- {trial}, {name}, {when}: {text}" for trial, name, when, text in rows if text]
    table = markdown(["trial", "command", "trials", "of which wrong"], lines)
    return f"{table}\n\n" + ("\n".join(["Wrong:", "", *wrong]) if wrong else "Nothing went wrong.")


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Raises UserError if an undisturbed command fails."""
    parser = argparse.ArgumentParser(COMMAND, description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--full", type=int, default=20)
    parser.add_argument("--together", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/soak"))
    args = parser.parse_args(argv)
    end = time.monotonic() + 60 * args.minutes
    with tempfile.TemporaryDirectory(prefix="sccs-soak-") as scratch:
        soak = Soak(Path(scratch), args.seed)
        names = list(soak.writers)
        for i in range(max(args.kills, args.full)):  # in turns, so that --minutes shortens both
            for trial, wished in ((soak.kill, args.kills), (soak.fill, args.full)):
                if i < wished and time.monotonic() < end:
                    trial(names[i % len(names)])
        if args.together > 1:
            soak.together(args.together)
    origin = Origin.here(typed(COMMAND, argv))
    text = f"The script describes each trial.\n\n{page(soak.rows)}"
    heads = ["trial", "command", "when", "wrong"]
    print(publish(args.out, "soak", "Killed, run at once, on a full disk", origin, text, heads, soak.rows))
    return 0


if __name__ == "__main__":
    sys.exit(guard(main)())
