"""Everything that a GPU does for SCCS, against the machine's CPU, in a few minutes. Also runs without a GPU.

    python -m benchmarks.speed.gpu [--device auto|cpu|cuda] [--side 560] [--fovs 8] [--repeats 5] [--points 1000000]
                                   [--out benchmarks/results/quick]

Synthetic phantom. `sccs`, `sccs_fast` (both with `graph.slic: grid`) and `sccs_plus` are trained briefly on the CPU and
loaded on the device, where they run as tensor operations (sccs/model/batches.py), even if the device is the CPU.

  parity       tokens of the encoder (float32, bfloat16), superpixels, coordinates, clusters: tensors against CPU
  stages       seconds per FOV by stage, one FOV after the other, CPU and tensors in turn
  steps        each step of the graph, by FOVs in a batch, against the compiled loops of the CPU
  whole        pixels to clusters, by FOVs in a batch: seconds per FOV, Mpx/s
  encoder      the MAE alone, by FOVs in a batch and precision: seconds per FOV
  operators    propagation (CSR, dense), k-means assignment (FAISS, on the GPU if its build can)

Writes OUT/gpu.md and .csv. Without a GPU, the device is the CPU, the report says so, and seconds are CPU time (except
in `stages`), which other work disturbs least.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness import phantom
from benchmarks.pages import Origin, markdown, median_range, publish, typed
from registry.features.mae import MAE
from registry.graph.superpixel import Superpixel
from registry.numeric.nearest import assign
from registry.spg import tensor_graph
from registry.spg.affinity import nearest_pairs
from registry.spg.pieces import connected_batch
from registry.spg.pooling import pool
from registry.spg.propagation import Propagation, product
from registry.spg.slic_grid import assigned, assigned_batch, connected
from sccs.arguments import positive
from sccs.data import load_dataset
from sccs.model.batches import to_device
from sccs.model.segmented import STAGES
from sccs.pipeline import Pipeline
from sccs.system.device import resolve_device
from sccs.system.exits import guard

COMMAND = "python -m benchmarks.speed.gpu"

SHORT = ["graph.slic=grid", "train.iterations=40", "clusterer.warmup=20"]
SYSTEMS = {"sccs": SHORT, "sccs_fast": SHORT, "sccs_plus": ["clusterer.iterations=20"]}
BATCHES = (1, 2, 4, 8)  # FOVs
TARGET = 20  # Mpx/s of the whole, on one H100

Models = dict[str, tuple[Pipeline, Pipeline]]  # of each system, on the CPU and on the device
Rows = list[list[Any]]  # group, what, round, value


class Clock:
    """Repeated calls on a device, timed one by one."""

    def __init__(self, device: str, repeats: int):
        self.device, self.repeats = device, repeats
        self.now = time.process_time if device == "cpu" else time.perf_counter

    def seconds(self, call: Callable[[], Any]) -> list[float]:
        """Seconds of each call, until the device is done. A first call is not timed."""
        values = []
        for _ in range(self.repeats + 1):  # the first warms up
            self._wait()
            start = self.now()
            call()
            self._wait()
            values.append(self.now() - start)
        return values[1:]

    def _wait(self) -> None:
        if self.device != "cpu":
            torch.cuda.synchronize(self.device)


def _models(side: int, device: str, folder: Path) -> Models:
    """For each system the same model on the CPU and on the device."""
    data = phantom(side)
    loaded = {}
    for system, options in SYSTEMS.items():
        pipeline = Pipeline.from_recipe(system, options, device="cpu")
        pipeline.fit(load_dataset(data, Path.cwd(), 0, pipeline.min_side)).save(folder / system)
        loaded[system] = Pipeline.load(folder / system, "cpu"), Pipeline.load(folder / system, device)
        loaded[system][1].tensors = True
    return loaded


def _images(side: int, count: int) -> list[np.ndarray]:
    slices = min(max(count, 4), 8)
    data = phantom(side, depth=slices, test_slices=slices)
    found = [fov.image for fov in load_dataset(data, Path.cwd(), 0).test[0].fovs()]
    return [found[i % len(found)] for i in range(count)]


def _far(a: np.ndarray, b: np.ndarray) -> float:
    """Largest difference, relative to the deviation of `a`."""
    return float(np.abs(a - b).max() / a.std())


def _agreement(pair: tuple[Pipeline, Pipeline], image: np.ndarray) -> tuple[float, float, float]:
    """Share of pixels of equal superpixels, largest relative difference of coordinates where these are all equal (else
    NaN), share of pixels of equal clusters."""
    here, there = (model.segment_fov(image) for model in pair)
    same = here.graph.regions == there.graph.regions
    far = _far(here.Z, there.Z) if same.all() else float("nan")
    return float(same.mean()), far, float((here.clusters == there.clusters).mean())


def _windows(fovs: Sequence[np.ndarray], size: int) -> torch.Tensor:
    """All windows (B, size, size) of some FOVs, side by side without overlap."""
    whole = torch.from_numpy(np.stack(fovs))
    whole = whole[:, : whole.shape[1] // size * size, : whole.shape[2] // size * size]
    return whole.unfold(1, size, size).unfold(2, size, size).reshape(-1, size, size).contiguous()


def _rows(group: str, name: str, values: Sequence[float]) -> Rows:
    return [[group, name, turn, f"{value:.6g}"] for turn, value in enumerate(values)]


def _encoders(device: str) -> dict[str, MAE]:
    """By precision; bfloat16 only on a GPU, since many CPUs emulate it."""
    encoders = {"float32": MAE()} if device == "cpu" else {"float32": MAE(), "bfloat16": MAE(precision="bfloat16")}
    for encoder in encoders.values():
        encoder.device = device
    return encoders


def _grey(image: np.ndarray) -> tuple[np.ndarray, int]:
    """The image that superpixels are computed from, and their number."""
    return np.clip(image / 6 + 0.5, 0, 1).astype(np.float32), max(1, round(image.size / 100))


def _parity(image: np.ndarray, loaded: Models, encoders: dict[str, MAE], device: str) -> tuple[str, Rows]:
    rows, lines = [], []
    plain = MAE()
    batch = _windows([image], plain.window)
    with torch.inference_mode():
        reference = plain.encode(batch).numpy()
        for precision, encoder in encoders.items():
            difference = _far(reference, encoder.encode(batch.to(device)).cpu().numpy())
            rows += _rows("parity", f"tokens {precision}", [difference])
            lines.append([f"tokens, {precision}: largest difference in deviations", f"{difference:.1e}"])
    for system, pair in loaded.items():
        found = dict(zip(("superpixels", "coordinates", "clusters"), _agreement(pair, image)))
        for what, value in found.items():
            rows += _rows("parity", f"{system} {what}", [value])
        lines.append([f"{system}: {', '.join(found)}", ", ".join(f"{value:.2g}" for value in found.values())])
    return "## Parity with the CPU\n\n" + markdown(["what", "device against CPU"], lines), rows


def _stages(fovs: Sequence[np.ndarray], loaded: Models, device: str, repeats: int) -> tuple[str, Rows]:
    rows, lines = [], []
    for system, pair in loaded.items():
        for where, model in zip(("CPU, compiled", f"{device}, tensors"), pair):
            found = [model.segment_fov(fovs[i % len(fovs)]).seconds for i in range(repeats + 1)][1:]
            for stage in STAGES:
                rows += _rows(f"stages {where}", f"{system} {stage}", [each[stage] for each in found])
            medians = (f"{np.median([each[stage] for each in found]):.4f}" for stage in STAGES)
            lines.append([system, where, *medians, median_range([sum(each.values()) for each in found])])
    table = markdown(["system", "where", *STAGES, "total: median (range)"], lines)
    return f"## Seconds per FOV by stage, one after the other\n\n{table}", rows


def _steps(fovs: Sequence[np.ndarray], pair: tuple[Pipeline, Pipeline], clock: Clock) -> tuple[str, Rows]:
    """Each step of one system whose superpixels are the grid's: compiled on the CPU, and by tensors."""
    here, there = pair
    part, image = here.graph, fovs[0]
    assert isinstance(part, Superpixel)
    grey, count = _grey(image)
    clusters, smallest = assigned(grey, count, part.compactness, part.slic_iterations), image.size / count / 4
    features = here.extract(image, keep=False)
    nodes = part.pool(image, features)
    graph, X = part.connect(nodes), part.scaled(nodes.feature)
    with torch.no_grad():
        Z = here.embedder.embed(graph)
        host: dict[str, Callable[[], Any]] = {
            "features": lambda: here.extract(image, keep=False),
            "superpixels, k-means": lambda: assigned(grey, count, part.compactness, part.slic_iterations),
            "superpixels, connected": lambda: connected(clusters, grey, smallest),
            "pooling": lambda: pool(features, nodes.regions),
            "neighbours": lambda: nearest_pairs(X, part.neighbours, precision=part.precision),
            "nodes to graph": lambda: part.connect(nodes),
            "embedding": lambda: here.embedder.embed(graph),
            "clusters": lambda: here.as_clustered(graph, Z),
        }
        found = {name: {"CPU, compiled": Clock("cpu", clock.repeats).seconds(call)} for name, call in host.items()}
        for size in (size for size in BATCHES if size <= len(fovs)):
            for name, call in _tensor_steps(fovs[:size], there).items():
                found[name][f"tensors, {size}"] = [seconds / size for seconds in clock.seconds(call)]
    rows = [row for name, each in found.items() for where in each for row in _rows(f"steps {where}", name, each[where])]
    heads = list(found["features"])
    lines = [[name, *(f"{np.median(each[where]):.4f}" for where in heads)] for name, each in found.items()]
    note = "`nodes to graph` includes the neighbours, touching regions, affinity and, on the CPU, the DGLGraph."
    return "## Each step: seconds per FOV by FOVs in a batch\n\n" + markdown(
        ["step", *heads], lines
    ) + f"\n\n{note}", rows


def _tensor_steps(fovs: Sequence[np.ndarray], model: Pipeline) -> dict[str, Callable[[], Any]]:
    part = model.graph
    assert isinstance(part, Superpixel)
    images = to_device(np.stack(fovs), model.device)
    grey, count = (images / 6 + 0.5).clamp(0, 1), _grey(fovs[0])[1]
    clusters, smallest = assigned_batch(grey, count, part.compactness, part.slic_iterations), fovs[0].size / count / 4
    maps, regions = model.features.extract_batch(images), part.decompose_batch(images)
    graph = part.build_batch(images, maps)
    area, Z = graph.area.double(), model.embedder.embed(graph)

    def pooled() -> torch.Tensor:
        return torch.cat([tensor_graph.pool(each, regions, area, graph.starts) for each in maps], 1)

    F = pooled()
    return {
        "features": lambda: model.features.extract_batch(images),
        "superpixels, k-means": lambda: assigned_batch(grey, count, part.compactness, part.slic_iterations),
        "superpixels, connected": lambda: connected_batch(clusters, grey, smallest),
        "pooling": pooled,
        "neighbours": lambda: tensor_graph.nearest(graph.feature, graph.starts, part.neighbours),
        "nodes to graph": lambda: tensor_graph.joined(part, regions, F, graph.starts),
        "embedding": lambda: model.embedder.embed(replace(graph)),
        "clusters": lambda: model.as_clustered(graph, Z),
    }


def _whole(fovs: Sequence[np.ndarray], loaded: Models, clock: Clock) -> tuple[str, Rows]:
    rows, lines = [], []
    for system, (here, there) in loaded.items():
        sizes = [size for size in BATCHES if size <= len(fovs)]
        for where, model, size in [("CPU, compiled", here, 1), *(("tensors", there, size) for size in sizes)]:
            model.pixels_at_once = size * fovs[0].size
            some = fovs[:size]
            timer = Clock("cpu", clock.repeats) if model is here else clock
            values = [v / size for v in timer.seconds(lambda m=model, s=some: list(m.segment_fovs(enumerate(s))))]
            rows += _rows(f"whole {where}", f"{system} {size}", values)
            speed = fovs[0].size / float(np.median(values)) / 1e6
            lines.append([system, where, str(size), median_range(values), f"{speed:.2f}"])
    table = markdown(["system", "where", "FOVs at once", "seconds per FOV: median (range)", "Mpx/s"], lines)
    return f"## Pixels to clusters\n\n{table}\n\nTarget on one H100: {TARGET} Mpx/s.", rows


def _throughput(fovs: Sequence[np.ndarray], encoders: dict[str, MAE], clock: Clock) -> tuple[str, Rows]:
    rows, lines = [], []
    with torch.inference_mode():
        for precision, encoder in encoders.items():
            for size in (size for size in BATCHES if size <= len(fovs)):
                batch = _windows(fovs[:size], encoder.window).to(clock.device)
                values = [v / size for v in clock.seconds(lambda: encoder.encode(batch))]
                rows += _rows("throughput", f"encoder {precision} {size}", values)
                lines.append([precision, str(size), str(len(batch)), median_range(values)])
    head = f"## Encoder: seconds per FOV of {len(fovs[0])} x {len(fovs[0])} px"
    table = markdown(["precision", "FOVs at once", "windows", "seconds per FOV: median (range)"], lines)
    return f"{head}\n\n{table}", rows


def _operators(image: np.ndarray, model: Pipeline, count: int, clock: Clock) -> tuple[str, Rows]:
    """Each operator on the CPU and on the clock's device; `count` points to assign."""
    device, host = clock.device, Clock("cpu", clock.repeats)
    rng = np.random.default_rng(0)
    points, centroids = (rng.standard_normal((n, 192), np.float32) for n in (count, 8))
    graph = model.graph.connect(model.graph.pool(image, model.extract(image, keep=False)))
    moved = graph.to(device)
    X = torch.randn(graph.n, 12)
    operators: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {}
    modes: tuple[Propagation, ...] = ("csr", "dense")
    for mode in modes:
        a, b = (product(each.graph, each.normalised, mode) for each in (graph, moved))
        Y = X.to(device)
        operators[f"propagation, {mode}, {graph.n} nodes"] = partial(a, X), partial(b, Y)
    operators[f"assignment, {count:,} x 192"] = (
        (lambda: assign(points, centroids)),
        (lambda: assign(points, centroids, device)),
    )
    rows, lines = [], []
    for name, (on_host, on_device) in operators.items():
        values = host.seconds(on_host), clock.seconds(on_device)
        rows += _rows("operators cpu", name, values[0]) + _rows(f"operators {device}", name, values[1])
        lines.append([name, *(median_range(v) for v in values)])
    equal = float((assign(points, centroids)[0] == assign(points, centroids, device)[0]).mean())
    return (
        "## Operators\n\n"
        + markdown(["what", "CPU, s", f"{device}, s"], lines)
        + f"\n\nAssignment on the device: {equal:.6f} of labels equal to the CPU's."
    ), rows + _rows("parity", "assignment", [equal])


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(COMMAND, description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--side", type=positive, default=560, help="px of a FOV")
    parser.add_argument("--fovs", type=positive, default=8, help="FOVs of the longest batch")
    parser.add_argument("--repeats", type=positive, default=5)
    parser.add_argument("--points", type=positive, default=10**6)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/quick"))
    args = parser.parse_args(argv)
    device = resolve_device(args.device)
    clock, fovs, encoders = Clock(device, args.repeats), _images(args.side, args.fovs), _encoders(device)
    with tempfile.TemporaryDirectory() as folder:
        loaded = _models(args.side, device, Path(folder))
    sections = [
        _parity(fovs[0], loaded, encoders, device),
        _stages(fovs, loaded, device, args.repeats),
        _steps(fovs, loaded["sccs_fast"], clock),
        _whole(fovs, loaded, clock),
        _throughput(fovs, encoders, clock),
        _operators(fovs[0], loaded["sccs"][0], args.points, clock),
    ]
    title = "GPU" if device != "cpu" else "GPU script, run on the CPU (no GPU available)"
    sections_text = "\n\n".join(section for section, _ in sections)
    text = f"Synthetic phantom; medians of {args.repeats}.\n\n{sections_text}"
    origin = Origin.here(typed(COMMAND, argv), device)
    rows = [row for _, part in sections for row in part]
    print(publish(args.out, "gpu", title, origin, text, ["group", "what", "round", "value"], rows))
    return 0


if __name__ == "__main__":
    sys.exit(guard(main)())
