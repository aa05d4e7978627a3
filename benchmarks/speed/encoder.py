"""The MAE's encoder in several runtimes: torch, torch.compile, ONNX Runtime, OpenVINO; single precision and bfloat16.

    python -m benchmarks.speed.encoder [--side 560] [--repeats 9] [--out benchmarks/results/quick]

The windows of one 560 x 560 FOV (49 of 80 x 80 px, in the recipe's batches), bundled weights, as many threads as torch
has. The ways take turns; compilation is not included in the times and has its own column. bfloat16 is autocast in torch
and an execution hint in OpenVINO; ONNX Runtime does not have it on CPUs. Difference: the largest of a token value from
torch's in single precision, over the deviation of token values. Runtimes whose package is not installed are left out,
and the page says so. Writes OUT/encoder.md and .csv.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from benchmarks.pages import Origin, markdown, median_range, publish, typed
from registry.features.mae import MAE
from sccs.arguments import positive
from sccs.sharing.encoder import export_onnx
from sccs.system.exits import guard

COMMAND = "python -m benchmarks.speed.encoder"

Precision = Literal["float32", "bfloat16"]
Way = Callable[[torch.Tensor], np.ndarray]  # windows (B, window, window) -> tokens (B, N, q)
NEEDS = {"ONNX Runtime": ("onnxruntime", "onnxscript"), "OpenVINO": ("openvino", "onnxscript")}


def _plain(precision: Precision) -> Way:
    part = MAE(precision=precision)
    return lambda windows: part.encode(windows).numpy()


def _by_inductor(precision: Precision) -> Way:
    part = MAE(precision=precision)
    part._encoder = torch.compile(part._load())  # type: ignore[assignment]  # a compiled module, says torch's stub
    return lambda windows: part.encode(windows).numpy()


def _by_onnxruntime(precision: Precision) -> Way:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(_onnx_bytes(), options, providers=["CPUExecutionProvider"])
    return lambda windows: session.run(None, {"windows": windows.numpy()})[0]


def _by_openvino(precision: Precision) -> Way:
    import openvino

    core = openvino.Core()
    hints = {
        "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[precision],
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    model = core.compile_model(core.read_model(_onnx_bytes()), "CPU", hints)
    return lambda windows: model(windows.numpy())[0]


def _onnx_bytes() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "encoder.onnx"
        export_onnx(MAE(), path)
        return path.read_bytes()


WAYS: dict[tuple[str, Precision], Callable[[Precision], Way]] = {
    ("torch", "float32"): _plain,
    ("torch.compile", "float32"): _by_inductor,
    ("ONNX Runtime", "float32"): _by_onnxruntime,
    ("OpenVINO", "float32"): _by_openvino,
    ("torch", "bfloat16"): _plain,
    ("torch.compile", "bfloat16"): _by_inductor,
    ("OpenVINO", "bfloat16"): _by_openvino,
}


def _batches(side: int, size: int) -> list[torch.Tensor]:
    """Windows of an image of noise: (B, 80, 80) each, the last batch as large as the others."""
    count = (-(-side // 80)) ** 2
    windows = torch.from_numpy(np.random.default_rng(0).standard_normal((-(-count // size) * size, 80, 80), np.float32))
    return list(windows.split(size))


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(COMMAND, description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--side", type=positive, default=560, help="px of the FOV")
    parser.add_argument("--repeats", type=positive, default=9)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/quick"))
    args = parser.parse_args(argv)
    windows = _batches(args.side, MAE().batch)
    missing = {name: [package for package in packages if not find_spec(package)] for name, packages in NEEDS.items()}
    ways, compiling = {}, {}
    with torch.inference_mode():
        for (name, precision), make in WAYS.items():
            if missing.get(name):
                continue
            start = time.perf_counter()
            ways[name, precision] = make(precision)
            ways[name, precision](windows[0])
            compiling[name, precision] = time.perf_counter() - start
        tokens = {key: np.concatenate([way(each) for each in windows]) for key, way in ways.items()}
        seconds: dict[tuple[str, Precision], list[float]] = {key: [] for key in ways}
        for _ in range(args.repeats):
            for key, way in ways.items():
                start = time.perf_counter()
                for each in windows:
                    way(each)
                seconds[key].append(time.perf_counter() - start)
    exact = tokens["torch", "float32"]
    base = np.median(seconds["torch", "float32"])
    lines = [
        [
            name,
            precision,
            f"{compiling[name, precision]:.1f}",
            median_range(taken),
            f"{np.median(taken) / base:.2f}",
            f"{np.abs(tokens[name, precision] - exact).max() / exact.std():.1e}",
        ]
        for (name, precision), taken in seconds.items()
    ]
    rows = [[*key, turn, f"{value:.6f}"] for key, taken in seconds.items() for turn, value in enumerate(taken)]
    absent = [
        f"{name} was left out: {', '.join(packages)} not installed." for name, packages in missing.items() if packages
    ]
    text = "\n\n".join(
        [
            f"{sum(map(len, windows))} windows. Median of {args.repeats} rounds in which the ways take turns; seconds.",
            markdown(
                ["run by", "precision", "getting ready", "a FOV: median (range)", "of torch", "largest difference"],
                lines,
            ),
            *absent,
        ]
    )
    heads = ["run by", "precision", "round", "seconds"]
    print(publish(args.out, "encoder", "What runs the encoder", Origin.here(typed(COMMAND, argv)), text, heads, rows))
    return 0


if __name__ == "__main__":
    sys.exit(guard(main)())
