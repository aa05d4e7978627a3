"""The cost of a run on this machine: one field of view goes through the recipe's parts, the rest is arithmetic."""

from __future__ import annotations

import math
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sccs.data.schema import Region
from sccs.data.survey import Found
from sccs.data.volumes import Volume
from sccs.inference.blocks import overlapping
from sccs.init.plan import FOV, Cost, Plan
from sccs.system.log import clock

if TYPE_CHECKING:
    import numpy as np

    from registry.base import Features
    from registry.spg.graphs import RegionGraph
    from sccs.pipeline import Pipeline

MEMORY = 0.5  # share of the free memory that training graphs may take
WITHIN = 1.5  # factor by which a run may be faster or slower than estimated
DRAWING = 2.5  # time to draw a slice and to put it into the report, per time to segment its pixels once
TRIED = 5  # steps of features that learn
PARTS = (200, 40)  # of all iterations, in two short trainings
MOST_NODES = 200_000  # of all training graphs, if the clusterer sets no limit
GRAPHS = 0.4  # share of the time that may go into training graphs


def measure(pipeline: Pipeline, found: Found) -> tuple[Cost, RegionGraph]:
    """Measure one FOV of the slice of highest contrast in every part, without the cache; also returns its graph."""
    begun, start = time.process_time(), time.perf_counter()
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
    learning, tried = time_learning(pipeline.features, image)
    nodes = pipeline.pool(image, keep=False)  # the first time also loads libraries
    pipeline.graph.fit([nodes])
    graph = pipeline.graph.connect(nodes).to(pipeline.device)
    time_training(pipeline, graph, 1)
    first = time.perf_counter()
    pipeline.graph.connect(nodes)
    connect = time.perf_counter() - first
    # the faster of two: other programs only add time
    seconds = min(sum(pipeline.segment_fov(image).seconds.values()) for _ in range(2))
    arrays = sum(array.nbytes for array in nodes.to_arrays().values())
    # besides its nodes, a graph stores ends, affinity, normalised weights and the sparse matrix of its edges
    edges = graph.affinity.numel() * (2 * 8 + 4 + 4 + 8 + 4)
    begun += max(0.0, first - start - tried - seconds)  # compiled code and models are loaded with the first FOV
    return Cost(image.size, nodes.n, seconds, connect, begun, arrays + edges, arrays, peak_memory(), learning), graph


def time_learning(features: Features, image: np.ndarray) -> tuple[float, float]:
    """Seconds in which features learn from training images, extrapolated from a few steps, and those of the trial.

    Afterwards the features have learned a little from this image. Features without steps only fit, in no time.
    """
    steps = {part: part.steps for part in (features, *features.parts) if hasattr(part, "steps")}
    if not steps:
        features.fit([image])
        return 0.0, 0.0
    times = []
    for tried in (1, TRIED):  # the first one loads libraries
        for part in steps:
            part.steps = tried
        start = time.perf_counter()
        features.fit([image])
        times.append(time.perf_counter() - start)
    for part, number in steps.items():
        part.steps = number
    return times[-1] * max(steps.values()) / TRIED, sum(times)


def peak_memory() -> int:
    """Peak memory of this process in bytes; 1 GiB, a typical value, where the system does not report it."""
    try:
        import resource
    except ImportError:  # Windows
        return 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def time_training(pipeline: Pipeline, graph: RegionGraph, count: int) -> float:
    """Seconds that embedder and clusterer need to train on `count` graphs of this size. Both are trained then, for a
    part of the iterations if they train by iterations."""
    import torch

    start = time.perf_counter()
    pipeline.embedder.fit([graph])
    each = time.perf_counter() - start
    if pipeline.clusterer.trainable:
        return each * count + _time_iterations(pipeline, [graph] * count)
    with torch.no_grad():
        Z = pipeline.embedder.embed(graph)
        start = time.perf_counter()
        pipeline.clusterer.fit([graph] * count, [Z] * count)
    return each * count + time.perf_counter() - start


def _time_iterations(pipeline: Pipeline, graphs: list[RegionGraph]) -> float:
    """Seconds of all iterations of the trainer, from two short trainings."""
    from sccs.system.log import quiet_log
    from sccs.training.trainer import Trainer

    clusterer: Any = pipeline.clusterer
    total, warmup = pipeline.recipe.train.iterations, clusterer.warmup
    numbers = [max(2, total // parts) for parts in PARTS]
    times = []
    for number in numbers:
        clusterer.warmup = warmup * number // total
        options = pipeline.recipe.train.model_copy(update={"iterations": number})
        start = time.perf_counter()
        Trainer(pipeline.embedder, clusterer, graphs, options, seed=0, log=quiet_log()).run()
        times.append(time.perf_counter() - start)
    clusterer.warmup = warmup
    each = (times[1] - times[0]) / (numbers[1] - numbers[0])
    return max(times) + max(0.0, each) * (total - numbers[1])


def most_graphs(pipeline: Pipeline, cost: Cost, free: int, minutes: float) -> int:
    """Number of FOVs to train on, limited by what the clusterer uses, by memory and by time."""
    seen = math.ceil(getattr(pipeline.clusterer, "max_points", MOST_NODES) / cost.nodes)
    fit = int(MEMORY * free / cost.graph_bytes)
    affordable = int(GRAPHS * 60 * minutes / (cost.seconds + cost.connect))
    return max(1, min(seen, fit, affordable))


def span(seconds: float) -> str:
    """An estimate from one field of view, as a range."""
    return f"{clock(seconds / WITHIN)} to {clock(seconds * WITHIN)}"


def say_cost(plan: Plan, cost: Cost, volumes: list[Found], free: int, device: str, folder: Path) -> list[str]:
    """Lines on the time, memory and disk space for the run and for segmenting everything, from one measured FOV."""
    from sccs.products import TIMED_FOVS, VIEWS

    each = cost.seconds / cost.pixels
    learnt, segmented = plan.pixels("train") * each, plan.seen("test") * each
    # training slices are segmented, too, and a few FOVs are timed for the report
    again = plan.seen("train") * each + plan.fovs("train") * cost.connect + (TIMED_FOVS + 1) * cost.seconds
    drawn = DRAWING * plan.drawn(VIEWS) * each
    whole = sum(found.source.shape[0] * overlapping(found.source.shape[1:], FOV).seen for found in volumes)
    memory = cost.peak + plan.fovs("train") * cost.graph_bytes
    fovs = plan.fovs("train") + plan.fovs("test")
    labels = sum(math.prod(entry.found.source.shape) for entry in plan.train + plan.test)
    cache = (plan.pixels("train") + plan.seen("train") + plan.seen("test")) / cost.pixels * cost.cache_bytes
    learning = f"learning features {clock(cost.learning)}, " if cost.learning else ""
    total = cost.start + cost.learning + learnt + cost.fit + segmented + again + drawn
    room = shutil.disk_usage(folder if folder.is_dir() else Path.cwd()).free
    return [
        f"measured here, on {device}: {cost.seconds:.2f} s for a field of view of {cost.pixels / 1e6:.2f} megapixels "
        f"({cost.nodes} superpixels)",
        f"time of this run: {span(total)}: starting {clock(cost.start)}, {learning}{plan.fovs('train')} FOVs to train "
        f"on {clock(learnt)}, training {clock(cost.fit)}, {plan.segmented()} FOVs to segment "
        f"{clock(segmented + again)}, pictures and report {clock(drawn)}",
        f"memory: about {memory / 2**30:.1f} GiB of {free / 2**30:.1f} GiB free",
        f"disk: labels up to {labels / 2**30:.2g} GiB before compression, cache about {cache / 2**30:.2g} GiB "
        f"({fovs} FOVs; SCCS_CACHE=off disables it), {room / 2**30:.0f} GiB free",
        f"to segment all slices of all volumes with sccs segment: {span(whole * each)}",
    ]
