"""All that a GPU does for SCCS, against the same on the CPU of the machine, in a few minutes. Runs without a GPU, too.

    python benchmarks/speed/gpu.py [--device auto|cpu|cuda] [--side 560] [--fovs 8] [--repeats 5] [--points 1000000]
                             [--out benchmarks/results/quick]

Synthetic phantom. One `sccs` and one `sccs_plus` model are trained on the CPU, shortly, and loaded on the device.

  parity       tokens of the encoder (float32, bfloat16), superpixels, coordinates, clusters: device against CPU
  stages       seconds per FOV by stage, one FOV after the other, device and CPU in turn
  throughput   encoder alone, by FOVs in a batch and precision: seconds per FOV
  operators    superpixels, propagation (CSR, dense), k-means assignment (FAISS, on the GPU if its build can)

Writes OUT/gpu.md and .csv. Without a GPU the device is the CPU, and the report says so.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from harness import describe, markdown, median_range, publish

from registry.features.mae import MAE
from registry.numeric.nearest import assign
from registry.spg.slic_grid import grid_slic
from sccs.cli import guard
from sccs.data import load_dataset
from sccs.pipeline import STAGES, Pipeline
from sccs.run import environment
from sccs.system.device import resolve_device

SYSTEMS = {"sccs": ["train.iterations=40", "clusterer.warmup=20"], "sccs_plus": ["clusterer.iterations=20"]}
BATCHES = (1, 2, 4, 8)  # FOVs
TARGET = 0.01  # s per FOV in throughput, on one H100


class Clock:
    def __init__(self, device: str, repeats: int):
        self.device, self.repeats = device, repeats

    def seconds(self, call: Callable[[], Any]) -> list[float]:
        values = []
        for _ in range(self.repeats + 1):  # the first warms up
            self._wait()
            start = time.perf_counter()
            call()
            self._wait()
            values.append(time.perf_counter() - start)
        return values[1:]

    def _wait(self) -> None:
        if self.device != "cpu":
            torch.cuda.synchronize(self.device)


def models(side: int, device: str, folder: Path) -> dict[str, tuple[Pipeline, Pipeline]]:
    """For each system the same model on the CPU and on the device."""
    data = {"name": "phantom", "shapes": [[4, side, side]] * 2, "train_slices": 1, "test_slices": 1}
    loaded = {}
    for system, options in SYSTEMS.items():
        pipeline = Pipeline.from_recipe(system, options, device="cpu")
        pipeline.fit(load_dataset(data, Path.cwd(), 0, pipeline.min_side)).save(folder / system)
        loaded[system] = Pipeline.load(folder / system, "cpu"), Pipeline.load(folder / system, device)
    return loaded


def images(side: int, count: int) -> list[np.ndarray]:
    slices = min(max(count, 4), 8)
    data = {"name": "phantom", "shapes": [[slices, side, side]] * 2, "train_slices": 1, "test_slices": slices}
    found = [fov.image for fov in load_dataset(data, Path.cwd(), 0).test[0].fovs()]
    return [found[i % len(found)] for i in range(count)]


def far(a: np.ndarray, b: np.ndarray) -> float:
    """Largest difference, relative to the deviation of `a`."""
    return float(np.abs(a - b).max() / a.std())


def parity(pair: tuple[Pipeline, Pipeline], image: np.ndarray) -> tuple[float, float]:
    """Largest relative difference of coordinates, and share of equal pixels, from the same nodes."""
    here, there = pair
    nodes = here.graph.pool(image, here.extract(image, keep=False))
    labels = []
    for model in pair:
        graph = model.graph.connect(nodes).to(model.device)
        with torch.no_grad():
            Z = model.embedder.embed(graph)
            labels.append((Z.cpu().numpy(), model.clusterer.predict(graph, Z).argmax(1).cpu().numpy()[graph.regions]))
    return far(labels[0][0], labels[1][0]), float((labels[0][1] == labels[1][1]).mean())


def windows(fovs: Sequence[np.ndarray], size: int) -> torch.Tensor:
    """All windows (B, size, size) of some FOVs, side by side without overlap."""
    whole = torch.from_numpy(np.stack(fovs))
    whole = whole[:, : whole.shape[1] // size * size, : whole.shape[2] // size * size]
    return whole.unfold(1, size, size).unfold(2, size, size).reshape(-1, size, size).contiguous()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--side", type=int, default=560, help="px of a FOV")
    parser.add_argument("--fovs", type=int, default=8, help="FOVs of the longest batch")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--points", type=int, default=10**6)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/quick"))
    args = parser.parse_args(argv)
    device = resolve_device(args.device)
    clock, host = Clock(device, args.repeats), Clock("cpu", args.repeats)
    fovs = images(args.side, args.fovs)
    rows: list[list] = []
    sections = []

    def note(group: str, name: str, values: Sequence[float]) -> None:
        rows.extend([group, name, turn, f"{value:.6g}"] for turn, value in enumerate(values))

    with tempfile.TemporaryDirectory() as folder:
        loaded = models(args.side, device, Path(folder))
    encoders = {precision: MAE(precision=precision) for precision in ("float32", "bfloat16")}
    if device == "cpu":
        del encoders["bfloat16"]  # many CPUs emulate it
    plain = MAE()
    batch = windows(fovs[:1], plain.window)
    with torch.inference_mode():
        reference = plain.encode(batch).numpy()
        lines = []
        for precision, encoder in encoders.items():
            encoder.device = device
            difference = far(reference, encoder.encode(batch.to(device)).cpu().numpy())
            note("parity", f"tokens {precision}", [difference])
            lines.append([f"tokens, {precision}: largest difference in deviations", f"{difference:.1e}"])
    count = max(1, round(fovs[0].size / 100))
    grey = np.clip(fovs[0] / 6 + 0.5, 0, 1).astype(np.float32)
    same = float((grid_slic(grey, count, 0.2, 5, device) == grid_slic(grey, count, 0.2, 5)).mean())
    note("parity", "superpixels", [same])
    lines.append(["superpixels: pixels with the same label", f"{same:.4f}"])
    for system, pair in loaded.items():
        difference, equal = parity(pair, fovs[0])
        note("parity", f"{system} coordinates", [difference])
        note("parity", f"{system} clusters", [equal])
        lines.append([f"{system}: coordinates, clusters", f"{difference:.1e}, {equal:.4f} of pixels equal"])
    sections.append("## Parity with the CPU\n\n" + markdown(["what", "device against CPU"], lines))

    lines = []
    for system, pair in loaded.items():
        for where, model in zip(dict.fromkeys(["cpu", device]), pair):
            found = [model.segment_fov(fovs[i % len(fovs)]).seconds for i in range(args.repeats + 1)][1:]
            for stage in STAGES:
                note(f"stages {where}", f"{system} {stage}", [each[stage] for each in found])
            lines.append(
                [
                    system,
                    where,
                    *(f"{np.median([each[stage] for each in found]):.4f}" for stage in STAGES),
                    median_range([sum(each.values()) for each in found]),
                ]
            )
    sections.append(
        "## Seconds per FOV by stage, one after the other\n\n"
        + markdown(["system", "where", *STAGES, "total: median (range)"], lines)
    )

    lines = []
    with torch.inference_mode():
        for precision, encoder in encoders.items():
            for size in (size for size in BATCHES if size <= args.fovs):
                batch = windows(fovs[:size], encoder.window).to(device)
                values = [v / size for v in clock.seconds(lambda: encoder.encode(batch))]
                note("throughput", f"encoder {precision} {size}", values)
                lines.append([precision, str(size), str(len(batch)), median_range(values)])
    sections.append(
        f"## Encoder: seconds per FOV of {args.side} x {args.side} px\n\n"
        + markdown(["precision", "FOVs at once", "windows", "seconds per FOV: median (range)"], lines)
        + f"\n\nTarget of the whole pipeline on one H100: {TARGET} s per FOV in throughput."
    )

    rng = np.random.default_rng(0)
    points, centroids = (rng.standard_normal((n, 192), np.float32) for n in (args.points, 8))
    model = loaded["sccs"][0]
    graph = model.graph.connect(model.graph.pool(fovs[0], model.extract(fovs[0], keep=False)))
    moved = graph.to(device)
    X, operators = torch.randn(graph.n, 12), {}
    for mode in ("csr", "dense"):
        a, b, Y = graph.operator(mode), moved.operator(mode), X.to(device)
        operators[f"propagation, {mode}, {graph.n} nodes"] = (lambda a=a: a(X)), (lambda b=b, Y=Y: b(Y))
    operators[f"superpixels, {count}"] = (
        (lambda: grid_slic(grey, count, 0.2, 5)),
        (lambda: grid_slic(grey, count, 0.2, 5, device)),
    )
    operators[f"assignment, {args.points:,} x 192"] = (
        (lambda: assign(points, centroids)),
        (lambda: assign(points, centroids, device)),
    )
    lines = []
    for name, (on_host, on_device) in operators.items():
        values = host.seconds(on_host), clock.seconds(on_device)
        note("operators cpu", name, values[0])
        note(f"operators {device}", name, values[1])
        lines.append([name, *(median_range(v) for v in values)])
    equal = float((assign(points, centroids)[0] == assign(points, centroids, device)[0]).mean())
    sections.append(
        "## Operators\n\n"
        + markdown(["what", "CPU, s", f"{device}, s"], lines)
        + f"\n\nAssignment on the device: {equal:.6f} of labels equal to the CPU's."
    )
    note("parity", "assignment", [equal])

    title = "GPU" if device != "cpu" else "GPU script, run on the CPU (no GPU at hand)"
    text = (
        f"`python benchmarks/speed/gpu.py --device {args.device}`, {describe(environment(device))}. Synthetic phantom; "
        f"medians of {args.repeats}.\n\n" + "\n\n".join(sections)
    )
    print(publish(args.out, "gpu", title, text, ["group", "what", "round", "value"], rows))
    return 0


if __name__ == "__main__":
    sys.exit(guard(main)())
