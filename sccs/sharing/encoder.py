"""A trained model's MAE encoder as ONNX: windows (B, window, window) -> tokens (B, N, q), checked against torch."""

from __future__ import annotations

import importlib
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

import sccs
from registry.base import Features, UserError
from registry.features.mae import MAE
from registry.requirements import pip_install

OPSET = 18
TOLERANCE = 1e-4  # largest difference from torch, of the largest token value
CHECKED = (1, 3)  # windows at once in the check


class Tokens(torch.nn.Module):
    """Windows (B, window, window) float32, standardised per volume -> tokens (B, N, q) float32, in row-major order."""

    def __init__(self, part: MAE):
        super().__init__()
        self.encoder, self.layer = part._load(), part.layer

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        """(B, window, window) -> (B, N, q)."""
        return self.encoder(windows, layer=self.layer)


class TokenMap(Tokens):
    """The same with the axes of images: (B, 1, window, window) -> (B, q, window / patch, window / patch)."""

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        """(B, 1, window, window) -> (B, q, h, w)."""
        tokens = super().forward(windows[:, 0])  # (B, N, q)
        side = windows.shape[2] // self.encoder.patch
        return tokens.transpose(1, 2).unflatten(2, (side, side))


def mae_of(features: Features) -> MAE:
    """A copy of the MAE among the features, on the CPU and in single precision. Raises UserError if there is none."""
    for part in (features, *features.parts):
        if isinstance(part, MAE):
            exact = type(part)(**{**part.get_params(), "precision": "float32"})
            exact.set_state(part.get_state())
            return exact
    raise UserError(
        f"the model has no MAE encoder, its features are {type(features).__name__}: ONNX is for mae, "
        "maester, and concat with one of these; leave --onnx out"
    )


def export_onnx(features: Features, path: Path, maps: bool = False) -> str:
    """Write the encoder to `path` and compare it with torch; returns what it is and how large the difference was.

    maps: with the axes of images (`TokenMap`). Raises UserError for features without an MAE, a package that is not
    installed, or an ONNX model that computes something else than torch.
    """
    part = mae_of(features)
    onnx, onnxruntime, onnxscript = (_module(name) for name in ("onnx", "onnxruntime", "onnxscript"))
    network = (TokenMap if maps else Tokens)(part).eval()
    windows = [_windows(part, batch, maps) for batch in CHECKED]
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            network,
            (windows[-1],),
            dynamo=True,
            opset_version=OPSET,
            verbose=False,
            input_names=["windows"],
            output_names=["tokens"],
            dynamic_shapes=({0: torch.export.Dim("B")},),
        )
    assert program is not None
    model = program.model_proto
    _forget_sources(model)
    onnx.helper.set_model_props(model, facts(part))
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    worst = 0.0
    for given in windows:
        with torch.no_grad():
            expected = network(given).numpy()
        found = session.run(None, {"windows": given.numpy()})[0]
        difference = float(np.abs(found - expected).max()) if found.shape == expected.shape else np.inf
        if not difference <= TOLERANCE * np.abs(expected).max():
            raise UserError(
                f"the ONNX encoder differs from torch by {difference:.2g} (tokens up to "
                f"{np.abs(expected).max():.2g}), so it is not written; try other versions than onnx "
                f"{onnx.__version__}, onnxscript {onnxscript.__version__}, onnxruntime "
                f"{onnxruntime.__version__}"
            )
        worst = max(worst, difference)
    shape = "(B, 1, {0}, {0}) -> (B, {1}, {2}, {2})" if maps else "(B, {0}, {0}) -> (B, {3}, {1})"
    side = part.window // part.patch
    return (
        f"MAE encoder, opset {OPSET}, {shape.format(part.window, part.width, side, side * side)}; largest "
        f"difference from torch {worst:.1e}"
    )


def facts(part: MAE) -> dict[str, str]:
    """What a user of the ONNX file must know."""
    return {
        "sccs": sccs.__version__,
        "window": str(part.window),
        "patch": str(part.patch),
        "channels": str(part.width),
        "layer": json.dumps(part.layer),
        "input": "grey windows, standardised per volume: (x - mean) / sd",
        "output": f"tokens in row-major order; token (i, j) is centred on pixel ({part.patch} i + "
        f"{(part.patch - 1) / 2:g}, {part.patch} j + {(part.patch - 1) / 2:g}) of the window",
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns of its own insides, and that torchvision is not there."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _windows(part: MAE, batch: int, maps: bool) -> torch.Tensor:
    shape = (batch, *((1,) if maps else ()), part.window, part.window)
    return torch.from_numpy(np.random.default_rng(0).standard_normal(shape, np.float32))


def _forget_sources(model: Any) -> None:
    """Take out what the exporter writes of the Python source: its paths name folders of this computer."""
    graph = model.graph
    for item in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del item.metadata_props[:]
        item.doc_string = ""


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"ONNX needs {name}: {pip_install(name)} ({error})") from None
