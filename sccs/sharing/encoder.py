"""Export a trained model's feature network as ONNX, checked against torch.

For an MAE, the encoder: windows (B, window, window) -> tokens (B, N, q). For a student, the whole net: images (B, H, W)
of any size in steps of 8 px -> features (B, q, H/4, W/4).
"""

from __future__ import annotations

import importlib
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import sccs
from registry.base import Features, UserError
from registry.features.mae import MAE
from registry.features.student import StudentFeatures
from registry.mae.student import COARSEST, STEP
from registry.requirements import pip_install

OPSET = 18
TOLERANCE = 1e-4  # largest difference from torch, relative to the largest value
SMALLEST = 8 * COARSEST  # px, smallest side for an exported student


class Tokens(torch.nn.Module):
    """Windows (B, window, window) float32, standardised per volume -> tokens (B, N, q) float32, in row-major order."""

    def __init__(self, part: MAE):
        super().__init__()
        self.encoder, self.layer = part._load(), part.layer

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        """(B, window, window) -> (B, N, q)."""
        return self.encoder(windows, layer=self.layer)


class TokenMap(Tokens):
    """The same with image axes: (B, 1, window, window) -> (B, q, window / patch, window / patch)."""

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        """(B, 1, window, window) -> (B, q, h, w)."""
        tokens = super().forward(windows[:, 0])  # (B, N, q)
        side = windows.shape[2] // self.encoder.patch
        return tokens.transpose(1, 2).unflatten(2, (side, side))


class StudentMap(torch.nn.Module):
    """Images (B, 1, H, W) or, without `maps`, (B, H, W) -> features (B, q, H/4, W/4)."""

    def __init__(self, part: StudentFeatures, maps: bool):
        super().__init__()
        self.student, self.maps = part._load(), maps

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """See the class."""
        return self.student(images[:, 0] if self.maps else images)


@dataclass(frozen=True)
class Network:
    """What to export: its name and that of its recipe's source, names of input and output, shapes to check (the last is
    traced), their dynamic axes, descriptions of input and output, and the spacing of features (px)."""

    module: torch.nn.Module
    name: str
    given: str
    answer: str
    shapes: tuple[tuple[int, ...], ...]
    dynamic: dict[int, Any]
    said: str
    facts: dict[str, str]
    q: int
    step: int
    fixed: int | None  # px, the only valid side


def network_of(features: Features, maps: bool = False) -> Network:
    """The first MAE or student among the features, on the CPU and in single precision.

    maps: with image axes (`TokenMap`). Raises UserError if there is none.
    """
    for part in (features, *features.parts):
        if isinstance(part, (MAE, StudentFeatures)):
            exact = type(part)(**{**part.get_params(), "precision": "float32"})
            exact.set_state(part.get_state())
            return _of_mae(exact, maps) if isinstance(exact, MAE) else _of_student(exact, maps)
    raise UserError(
        f"the model has no MAE encoder or student (its features are {type(features).__name__}); ONNX supports mae, "
        "maester, student, and concat with one of these; leave out --onnx or --bioimage"
    )


def _of_mae(part: MAE, maps: bool) -> Network:
    side = part.window // part.patch
    said = "(B, 1, {0}, {0}) -> (B, {1}, {2}, {2})" if maps else "(B, {0}, {0}) -> (B, {3}, {1})"
    channel = (1,) if maps else ()
    return Network(
        module=(TokenMap if maps else Tokens)(part).eval(),
        name="MAE encoder",
        given="windows",
        answer="tokens",
        shapes=tuple((batch, *channel, part.window, part.window) for batch in (1, 3)),
        dynamic={0: torch.export.Dim("B")},
        said=said.format(part.window, part.width, side, side * side),
        facts={
            "sccs": sccs.__version__,
            "window": str(part.window),
            "patch": str(part.patch),
            "channels": str(part.width),
            "layer": json.dumps(part.layer),
            "input": "grey windows, standardised per volume: (x - mean) / sd",
            "output": f"tokens in row-major order; {_place('token', part.patch)} of the window",
        },
        q=part.width,
        step=part.patch,
        fixed=part.window,
    )


def _of_student(part: StudentFeatures, maps: bool) -> Network:
    channel = (1,) if maps else ()
    first = len(channel) + 1  # axis of y
    sides = {first + i: COARSEST * torch.export.Dim(name, min=SMALLEST // COARSEST) for i, name in enumerate("hw")}
    return Network(
        module=StudentMap(part, maps).eval(),
        name="MAE student",
        given="images",
        answer="features",
        shapes=((1, *channel, SMALLEST, 3 * SMALLEST), (3, *channel, 2 * SMALLEST, SMALLEST + COARSEST)),
        dynamic={0: torch.export.Dim("B"), **sides},
        said=f"(B, {'1, ' if maps else ''}H, W) -> (B, {part.q}, H/{STEP}, W/{STEP})",
        facts={
            "sccs": sccs.__version__,
            "channels": str(part.q),
            "input": f"grey images, standardised per volume: (x - mean) / sd; sides are multiples of {COARSEST} px, "
            f"from {SMALLEST}",
            "output": f"features; {_place('feature', STEP)} of the image",
        },
        q=part.q,
        step=STEP,
        fixed=None,
    )


def _place(name: str, step: int) -> str:
    middle = f"{(step - 1) / 2:g}"
    return f"{name} (i, j) is centred on pixel ({step} i + {middle}, {step} j + {middle})"


def export_onnx(features: Features, path: Path, maps: bool = False) -> str:
    """Write the network to `path` and compare it with torch; returns a description with the largest difference.

    maps: with image axes. Raises UserError for features without such a network, a missing package, or an ONNX model
    whose results differ from torch.
    """
    network = network_of(features, maps)
    onnx, onnxruntime, onnxscript = (_module(name) for name in ("onnx", "onnxruntime", "onnxscript"))
    inputs = [made_up(shape) for shape in network.shapes]
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            network.module,
            (inputs[-1],),
            dynamo=True,
            opset_version=OPSET,
            verbose=False,
            input_names=[network.given],
            output_names=[network.answer],
            dynamic_shapes=(network.dynamic,),
        )
    assert program is not None
    model = program.model_proto
    _forget_sources(model)
    onnx.helper.set_model_props(model, network.facts)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    worst = 0.0
    for given in inputs:
        with torch.no_grad():
            expected = network.module(given).numpy()
        found = session.run(None, {network.given: given.numpy()})[0]
        difference = float(np.abs(found - expected).max()) if found.shape == expected.shape else np.inf
        if not difference <= TOLERANCE * np.abs(expected).max():
            raise UserError(
                f"the ONNX {network.name} differs from torch by {difference:.2g} (values up to "
                f"{np.abs(expected).max():.2g}), so it was not written; try versions other than onnx "
                f"{onnx.__version__}, onnxscript {onnxscript.__version__}, onnxruntime "
                f"{onnxruntime.__version__}"
            )
        worst = max(worst, difference)
    return f"{network.name}, opset {OPSET}, {network.said}; largest difference from torch {worst:.1e}"


def made_up(shape: tuple[int, ...]) -> torch.Tensor:
    """Deterministic standardised input."""
    return torch.from_numpy(np.random.default_rng(0).standard_normal(shape, np.float32))


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's warnings about its internals and about missing torchvision."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _forget_sources(model: Any) -> None:
    """Remove the exporter's references to Python source, whose paths name folders of this computer."""
    graph = model.graph
    for item in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del item.metadata_props[:]
        item.doc_string = ""


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"ONNX needs {name}: {pip_install(name)} ({error})") from None
