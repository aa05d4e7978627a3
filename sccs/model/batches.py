"""Segment batches of fields of view (FOVs) of one size with tensors on a device.

Pixels go in, and clusters, coordinates and assignments come out, through pinned memory; in between, nothing leaves the
device except what `on_cpu` names. Embedders and clusterers that do not take tensors get the DGLGraph of each FOV.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from registry.base import UserError
from sccs.model.segmented import STAGES, Segmented

if TYPE_CHECKING:
    from sccs.model.model import Model

Key = TypeVar("Key")


def segment_all(
    model: Model, images: Iterable[tuple[Key, np.ndarray | None]]
) -> Iterator[tuple[Key, Segmented | None]]:
    """`Model.segment_fovs` in batches."""
    waiting: defaultdict[tuple[int, ...], list[tuple[Key, np.ndarray]]] = defaultdict(list)
    begun: deque[tuple[list[Key], Future[list[Segmented]]]] = deque()
    with ThreadPoolExecutor(1) as thread:

        def begin(shape: tuple[int, ...]) -> None:
            keys, batch = zip(*waiting.pop(shape))
            begun.append((list(keys), thread.submit(segment, model, batch)))

        for key, image in images:
            if image is None:
                yield key, None
                continue
            waiting[image.shape].append((key, image))
            if len(waiting[image.shape]) * image.size + image.size > model.pixels_at_once:
                begin(image.shape)
                if len(begun) > 1:
                    keys, done = begun.popleft()
                    yield from zip(keys, done.result())
        for shape in list(waiting):
            begin(shape)
        for keys, done in begun:
            yield from zip(keys, done.result())


def segment(model: Model, images: Sequence[np.ndarray]) -> list[Segmented]:
    """Segment FOVs (H, W) float32 of one size. Raises UserError if not even one fits into the device's memory.

    A batch that is too large is halved, as are all following ones.
    """
    try:
        return _segment(model, images)
    except torch.cuda.OutOfMemoryError:
        pass  # the failed batch is freed outside this block
    torch.cuda.empty_cache()
    H, W = images[0].shape
    if len(images) == 1:
        raise UserError(
            f"{model.device}: out of memory with one field of view of {H} x {W} px; free its memory, or pass "
            "--device cpu"
        )
    half = len(images) // 2
    model.pixels_at_once = half * H * W
    return segment(model, images[:half]) + segment(model, images[half:])


@torch.no_grad()
def _segment(model: Model, images: Sequence[np.ndarray]) -> list[Segmented]:
    tick = model.clock()
    pixels = to_device(np.stack(images), model.device)
    features = model.features.extract_batch(pixels)
    tick()
    graph: Any = model.graph.build_batch(pixels, features)  # a TensorGraph, used like a RegionGraph
    graphs = [graph.fov(b) for b in range(len(images))]
    tick()
    if model.embedder.takes_tensors and model.clusterer.takes_tensors:
        Z = model.embedder.embed(graph)  # (n, u)
        tick()
        assignment = torch.from_numpy(model.assign(graph, Z)) if model.edits else model.as_clustered(graph, Z)
    else:
        made = [each.to_dgl() for each in graphs]
        parts = [model.embedder.embed(each) for each in made]
        tick()
        assignment = torch.cat([torch.from_numpy(model.assign(*each)) for each in zip(made, parts)])
        Z = torch.cat(parts)
    assignment = assignment.to(model.device)
    clusters, coordinates, of_nodes = to_host(assignment[graph.numbers], Z, assignment)
    seconds = [each / len(images) for each in tick()]
    return [
        Segmented(clusters[b], graphs[b], coordinates[i:j], of_nodes[i:j], dict(zip(STAGES, seconds)))
        for b, (i, j) in enumerate(pairwise(graph.starts))
    ]


def to_device(array: np.ndarray, device: str) -> torch.Tensor:
    """Copy to the device through pinned memory."""
    tensor = torch.from_numpy(array)
    return tensor if device == "cpu" else tensor.pin_memory().to(device, non_blocking=True)


def to_host(*tensors: torch.Tensor) -> list[np.ndarray]:
    """Copy to the host through pinned memory, all at once."""
    if tensors[0].device.type == "cpu":
        return [each.numpy() for each in tensors]
    found = [torch.empty(each.shape, dtype=each.dtype, pin_memory=True) for each in tensors]
    for here, there in zip(found, tensors):
        here.copy_(there, non_blocking=True)
    torch.cuda.synchronize(tensors[0].device)
    return [each.numpy() for each in found]


def on_cpu(model: Model) -> list[str]:
    """Parts of the model's work that stay on the CPU although it runs on another device, in words."""
    if not model.graph.takes_tensors:
        return ["all except the networks (the graph part does not support tensors)"]
    last = [model.name_of(role) for role in ("embedder", "clusterer") if not getattr(model, role).takes_tensors]
    return [*model.features.on_cpu(), *model.graph.on_cpu(), *last]
