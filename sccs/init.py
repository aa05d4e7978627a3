"""`sccs init FOLDER_OR_VOLUME`: looks at images without labels, writes a recipe for them, and says what it will cost.

Nothing is guessed that can be measured: one field of view goes through the recipe's parts on this machine.
"""

from __future__ import annotations

import math
import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry.base import UserError
from sccs.data.loading import stem
from sccs.data.schema import Region
from sccs.data.survey import PIXEL, Found, survey
from sccs.data.tiler import tiles
from sccs.data.volumes import Volume
from sccs.system.files import write_text
from sccs.system.log import clock

if TYPE_CHECKING:
    from sccs.pipeline import Pipeline

PARENT = "sccs_plus"
FOV = 560
MEMORY = 0.5  # share of the free memory that training graphs may take
GRAPHS = 0.4  # share of the time that may go into training graphs
PLAIN = 1.5  # ratio of pixel sizes from which a person is told


@dataclass
class Cost:
    """What one FOV of `pixels` px took: seconds in all and in `connect` alone; bytes of a training graph in memory and
    in the cache, its nodes; peak bytes of this process."""

    pixels: int
    nodes: int
    seconds: float
    connect: float
    graph_bytes: int
    cache_bytes: int
    peak: int
    fit: float = 0.0  # seconds of the training itself, for the planned number of graphs


@dataclass
class Entry:
    """One line of the recipe's `train` or `test`: a volume, or the region of it that is used."""

    found: Found
    region: dict[str, list[int]]

    @property
    def shape(self) -> tuple[int, int, int]:
        ranges = [range(*self.region.get(axis, (0, n))) for axis, n in zip("zyx", self.found.source.shape)]
        return tuple(map(len, ranges))


@dataclass
class Plan:
    """What to learn from and what to segment. slices: `max_test_slices`, None for all."""

    train: list[Entry]
    test: list[Entry]
    slices: int | None

    def fovs(self, part: str) -> int:
        return sum(self._depth(part, entry) * len(tiles(entry.shape[1:], FOV)) for entry in getattr(self, part))

    def pixels(self, part: str) -> int:
        return sum(self._depth(part, entry) * math.prod(entry.shape[1:]) for entry in getattr(self, part))

    def _depth(self, part: str, entry: Entry) -> int:
        return min(entry.shape[0], self.slices or entry.shape[0]) if part == "test" else entry.shape[0]


def init(
    given: str,
    out: str | None = None,
    *,
    overwrite: bool = False,
    axes: str | None = None,
    voxel_size: Sequence[float] | None = None,
    level: int | None = None,
    minutes: float = 30,
    device: str = "auto",
) -> Path:
    """Look at the image or folder `given`, write a recipe to `out` (default: its name with .yaml), print all that.

    minutes: about how long the run may take. axes, voxel_size, level: as in a recipe's `data.train`; voxel_size
    (z, y, x) nm is that of the finest level. Raises UserError for data that cannot be used, and where `out` exists.
    """
    from sccs.pipeline import Pipeline

    if minutes <= 0:
        raise UserError(f"--minutes {minutes:g}: a run takes more than no time; give a positive number")
    volumes, notes = survey(given, axes=axes, voxel_size=voxel_size, level=level)
    path = Path(out or f"{stem(os.path.abspath(given))}.yaml")
    if path.suffix not in (".yaml", ".yml"):
        raise UserError(f"--out {path}: a recipe is a .yaml file")
    if os.path.lexists(path) and not overwrite:
        raise UserError(f"{path}: exists already: choose another name with --out, or say --overwrite")
    for found in volumes:
        print("\n".join(describe(found, axes)), flush=True)
    for note in notes:
        print(note, flush=True)
    print("measuring one field of view ...", flush=True)
    pipeline = Pipeline.from_recipe(PARENT, device=device)
    cost, graph = measure(pipeline, volumes[0])
    free = free_memory()
    plan = make_plan(volumes, most_graphs(pipeline, cost, free, minutes), cost, minutes)
    cost.fit = time_training(pipeline, graph, plan.fovs("train"))
    said = say_cost(plan, cost, volumes, free, pipeline.device, path.parent)
    write_text(path, recipe_text(plan, volumes, notes, said, path.parent, axes, minutes))
    print("\n".join([*said, f"recipe: {path}", f"next: sccs run {path}"]))
    return path


# ------------------------------------------------------------------------------------------------------ what is there
def describe(found: Found, axes: str | None = None) -> list[str]:
    """What a person should know of a volume: a line with its facts, then the remarks."""
    source, look = found.source, found.look
    size = f"voxels {_times(found.voxel_size)} nm" if found.voxel_size else "voxel size not in the file"
    order = (axes or source.array.stored.axes or "?" * len(source.array.stored.shape)).upper()
    lines = [
        f"{source.path}: {_times(source.shape)} (z, y, x), {source.dtype}, axes of the file {order}, {size}, "
        f"values {look.low:g} to {look.high:g}"
    ]
    if found.level is not None:
        shown = ", ".join(
            f"{i}: {_times(shape)}" + (f" at {_times(size)} nm" if size else "")
            for i, (shape, size) in enumerate(found.levels)
        )
        lines.append(f"  levels {shown}; level {found.level} is taken: {found.chosen_for}")
    if found.voxel_size is None:
        lines.append(
            "  voxel size unknown: write it into the recipe (voxel_size), so that sccs segment can warn of "
            "images at another resolution"
        )
    elif not 1 / PLAIN < (ratio := found.voxel_size[2] / PIXEL) < PLAIN:
        lines.append(
            f"  pixels of {found.voxel_size[2]:g} nm: the bundled MAE was trained at 10 to 16 nm; expect "
            f"{'coarser' if ratio > 1 else 'other'} clusters"
            + ("" if ratio > 1 else ", or rescale the images by about " + f"{ratio:.2g}")
        )
    return lines + [f"  {remark}" for remark in look.remarks()]


def _times(values: Sequence[float]) -> str:
    return " x ".join(f"{value:g}" for value in values)


def free_memory() -> int:
    """Bytes that a new process may take: of the machine, or of the control group where that has less."""
    lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    free = int(lines["MemAvailable"].split()[0]) * 1024
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
    except OSError:
        return free
    return free if limit == "max" else min(free, max(int(limit) - used, 0))


# -------------------------------------------------------------------------------------------------------- measurement
def measure(pipeline: Pipeline, found: Found) -> tuple[Cost, Any]:
    """One FOV of the slice of most contrast, through every part, nothing from the cache; and its graph."""
    import torch

    z = found.look.busiest
    y, x = (((n - min(n, FOV)) // 2, (n - min(n, FOV)) // 2 + min(n, FOV)) for n in found.source.shape[1:])
    volume = Volume(
        found.name,
        found.source.array,
        path=found.path,
        min_side=pipeline.min_side,
        region=Region(z=[z, z + 1], y=list(y), x=list(x)),
    )
    image = volume.read_slice(z)
    pipeline.features.fit([image])
    nodes = pipeline.pool(image, keep=False)  # the first time also loads libraries
    pipeline.graph.fit([nodes])
    graph = pipeline.graph.connect(nodes).to(pipeline.device)
    pipeline.embedder.fit([graph])
    with torch.no_grad():
        pipeline.clusterer.fit([graph], [pipeline.embedder.embed(graph)])
    start = time.perf_counter()
    pipeline.graph.connect(nodes)
    connect = time.perf_counter() - start
    # the faster of two: what else runs on the machine only adds
    seconds = min(sum(pipeline.segment_fov(image).seconds.values()) for _ in range(2))
    arrays = sum(array.nbytes for array in nodes.to_arrays().values())
    # beside its nodes, a graph keeps ends, affinity, normalised weights and the sparse matrix of its edges
    edges = graph.affinity.numel() * (2 * 8 + 4 + 4 + 8 + 4)
    return Cost(image.size, nodes.n, seconds, connect, arrays + edges, arrays, peak_memory()), graph


def peak_memory() -> int:
    """Bytes that this process has had in memory at most; a gibibyte, about what it takes, where nobody counts."""
    try:
        import resource
    except ImportError:  # Windows
        return 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def time_training(pipeline: Pipeline, graph, count: int) -> float:
    """Seconds that the embedder and the clusterer take to learn from `count` graphs as large as this one."""
    import torch

    start = time.perf_counter()
    pipeline.embedder.fit([graph])
    each = time.perf_counter() - start
    with torch.no_grad():
        Z = pipeline.embedder.embed(graph)
        start = time.perf_counter()
        pipeline.clusterer.fit([graph] * count, [Z] * count)
    return each * count + time.perf_counter() - start


def most_graphs(pipeline: Pipeline, cost: Cost, free: int, minutes: float) -> int:
    """How many FOVs to learn from: no more than the clusterer looks at, than fit into memory, than time allows."""
    seen = (pipeline.clusterer.max_points + cost.nodes - 1) // cost.nodes
    fit = int(MEMORY * free / cost.graph_bytes)
    affordable = int(GRAPHS * 60 * minutes / (cost.seconds + cost.connect))
    return max(1, min(seen, fit, affordable))


# --------------------------------------------------------------------------------------------------------------- plan
def make_plan(volumes: list[Found], most: int, cost: Cost, minutes: float) -> Plan:
    """Of several volumes the last quarter, one at least, is only segmented; of each other one evenly spaced slices are
    learnt from, `most` FOVs in all; of a slice of more FOVs the middle."""
    last = max(1, len(volumes) // 4) if len(volumes) > 1 else 0
    learnt = volumes[: max(1, min(len(volumes) - last, most))]
    train = [Entry(found, region_of(found, max(1, most // len(learnt)))) for found in learnt]
    rest = [Entry(found, {}) for found in volumes[len(learnt) :]]
    if not rest and train[0].shape != train[0].found.source.shape:
        rest = [Entry(train[0].found, {})]
    left = Plan(train, rest, None)
    if not rest:
        return left
    budget = 60 * minutes * cost.pixels / cost.seconds - left.pixels("train")  # pixels
    area = sum(math.prod(entry.shape[1:]) for entry in rest)
    if area > budget:
        for entry in rest:
            entry.region |= middle(entry.found, max(1, int(budget / len(rest) / FOV**2)))
        area = sum(math.prod(entry.shape[1:]) for entry in rest)
    slices = max(1, int(budget / area))
    left.slices = slices if slices < max(entry.shape[0] for entry in rest) else None
    return left


def region_of(found: Found, most: int) -> dict[str, list[int]]:
    """The region to learn from: empty slices at either end left out, at most `most` FOVs."""
    region = middle(found, most)
    inside = [z for z in found.look.slices if z not in found.look.empty]
    depth = found.source.shape[0]
    first = 0 if found.look.slices[0] not in found.look.empty else inside[0]
    end = depth if found.look.slices[-1] not in found.look.empty else inside[-1] + 1
    ranges = [range(*region.get(axis, (0, n))) for axis, n in zip("yx", found.source.shape[1:])]
    count = max(1, most // len(tiles(tuple(map(len, ranges)), FOV)))
    step = -(-(end - first) // count)
    if step > 1:
        return {"z": [first + (step - 1) // 2, end, step], **region}
    return {"z": [first, end], **region} if (first, end) != (0, depth) else region


def middle(found: Found, most: int) -> dict[str, list[int]]:
    """{} where a slice has no more than `most` FOVs, else the square in its middle that has."""
    if len(tiles(found.source.shape[1:], FOV)) <= most:
        return {}
    side = FOV * math.isqrt(most)
    return {
        axis: [max(0, (n - side) // 2), min(n, max(0, (n - side) // 2) + side)]
        for axis, n in zip("yx", found.source.shape[1:])
    }


# --------------------------------------------------------------------------------------------------------------- cost
def say_cost(plan: Plan, cost: Cost, volumes: list[Found], free: int, device: str, folder: Path) -> list[str]:
    """Lines on time, memory and disk of the run, and of segmenting everything; from one measured FOV."""
    from sccs.products import TIMED_FOVS

    each = cost.seconds / cost.pixels
    learnt, segmented = plan.pixels("train") * each, plan.pixels("test") * each
    # training FOVs are segmented, too, with their nodes from the cache; and a few FOVs are timed for the report
    again = plan.fovs("train") * cost.connect + (TIMED_FOVS + 1) * cost.seconds
    whole = sum(math.prod(found.source.shape) for found in volumes)
    memory = cost.peak + plan.fovs("train") * cost.graph_bytes
    fovs = plan.fovs("train") + plan.fovs("test")
    labels = sum(math.prod(entry.found.source.shape) for entry in plan.train + plan.test)
    cache = (plan.pixels("train") + plan.pixels("test")) / cost.pixels * cost.cache_bytes
    room = shutil.disk_usage(folder if folder.is_dir() else Path.cwd()).free
    return [
        f"measured here, on {device}: {cost.seconds:.2f} s for a field of view of {cost.pixels / 1e6:.2f} megapixels "
        f"({cost.nodes} superpixels)",
        f"time of this run: about {clock(learnt + cost.fit + segmented + again)}: {plan.fovs('train')} FOVs to learn "
        f"from {clock(learnt)}, training {clock(cost.fit)}, {plan.fovs('test')} FOVs to segment "
        f"{clock(segmented + again)}",
        f"memory: about {memory / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free",
        f"disk: labels up to {labels / 2**30:.2g} GiB before compression, cache about {cache / 2**30:.2g} GiB "
        f"({fovs} FOVs; SCCS_CACHE=off keeps none), {room / 2**30:.0f} GiB are free",
        f"every slice of everything: about {clock(whole * each)} with sccs segment",
    ]


# ------------------------------------------------------------------------------------------------------------- recipe
def recipe_text(
    plan: Plan, volumes: list[Found], notes: list[str], said: list[str], folder: Path, axes: str | None, minutes: float
) -> str:
    """The recipe as YAML, with what was seen as comments."""
    seen = [line for found in volumes for line in describe(found, axes)]
    size = volumes[0].voxel_size
    lines = [
        "# Written by sccs init, which looked at:",
        *(f"#   {line}" for line in [*seen, *notes]),
        "# What it costs, estimated from one field of view:",
        *(f"#   {line}" for line in said),
        f"extends: {PARENT}",
        "data:",
        "  name: volumes",
        f"  fov: {FOV}                    # px, longest side of a field of view",
        f"  train:                      # to learn from: {plan.fovs('train')} FOVs; more cost time and memory",
    ]
    for entry in plan.train:
        lines += _entry(entry, folder, axes)
    if plan.test:
        lines.append("  test:                       # only segmented")
        for entry in plan.test:
            lines += _entry(entry, folder, axes)
    if plan.slices:
        lines.append(
            f"  max_test_slices: {plan.slices}          # evenly spaced, for a run of about {minutes:g} "
            "minutes; sccs segment does the rest"
        )
    area = f"{10 * size[1]:.0f} x {10 * size[2]:.0f} nm" if size else "10 x 10 px"
    lines += [
        f"graph:\n  pixels_per_superpixel: 100  # about {area}: smaller structures are not told apart",
        "clusterer:\n  k: 8                        # clusters; more of them find rarer structures, and take more "
        "naming",
    ]
    return "\n".join(lines) + "\n"


def _entry(entry: Entry, folder: Path, axes: str | None) -> list[str]:
    import yaml

    found = entry.found
    lines = [("image", shown_path(found.path, folder), "")]
    if found.voxel_size:
        lines.append(("voxel_size", list(found.voxel_size), "(z, y, x) nm"))
    else:
        lines.append(("# voxel_size", ["Z", "Y", "X"], "nm: the file does not say; fill in, and remove the #"))
    if axes:
        lines.append(("axes", axes, ""))
    if found.level is not None:
        lines.append(("level", found.level, found.chosen_for))
    if entry.region:
        lines.append(("region", entry.region, f"{_times(entry.shape)} of {_times(found.source.shape)} voxels"))
    written = []
    for key, value, comment in lines:
        text = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True)
        text = text.removesuffix("...\n").strip()
        written.append(f"{key}: {text}" + (f"  # {comment}" if comment else ""))
    return [f"    {'- ' if i == 0 else '  '}{line}" for i, line in enumerate(written)]


def shown_path(path: str, folder: Path) -> str:
    """As the recipe in `folder` should name it: relative where it lies below the folder, so that both can move."""
    if path.startswith(("$", "~")):
        return path
    whole, base = os.path.abspath(path), os.path.abspath(folder)
    return os.path.relpath(whole, base) if os.path.commonpath([whole, base]) == base else whole
