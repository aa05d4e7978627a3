"""The MAE encoder as a package of the BioImage Model Zoo (https://bioimage.io): one zip, accepted by its validator.

The package holds `bioimageio.yaml`, the encoder as ONNX with the axes of images, (B, 1, window, window) ->
(B, q, window / patch, window / patch), a test image and its output, and a README.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from registry.base import Features, UserError
from registry.requirements import pip_install
from sccs.model.model import Model
from sccs.recipe.stored import to_yaml
from sccs.sharing.card import data_name
from sccs.sharing.encoder import OPSET, TokenMap, export_onnx, facts, mae_of
from sccs.system import archive
from sccs.system.apart import check_apart
from sccs.system.files import atomic_path, write_text
from sccs.system.lock import held
from sccs.system.log import say

EPSILON = 1e-6  # of the zoo's standardisation, (x - mean) / (sd + epsilon)
PAPER = "10.48550/arXiv.2111.06377"


def main(run: str, out: str, *, licence: str | None, authors: Sequence[str], overwrite: bool = False) -> None:
    """Write the package of a run or an export, and print what it is. Raises UserError as `package` does."""
    path = Path(out)
    with held(path, "sccs export"):
        archive.check_output(path, overwrite)
        check_apart(path, {"RUN": [run]}, within=archive.is_export(run))
        say(package(run, path, licence, authors))


def package(run: str | os.PathLike[str], out: Path, licence: str | None, authors: Sequence[str]) -> str:
    """Write the zip `out` from a run or an export; returns what to tell.

    Raises UserError for features without an MAE, a package that is not installed, no licence or author, and where the
    zoo's validator refuses the result; then nothing is left behind.
    """
    if out.suffix.lower() != ".zip":
        raise UserError(f"{out}: a BioImage Model Zoo package is a zip: name it *.zip")
    if not (licence and authors):
        raise UserError(
            "--bioimage: a package for the zoo names its licence and author: add --licence CC-BY-4.0 "
            "--author NAME, as they hold for these weights"
        )
    os.environ.setdefault("LOGURU_LEVEL", "ERROR")  # of the validator, which else tells of every step
    try:
        from bioimageio import spec
    except ImportError as error:
        raise UserError(f"--bioimage needs bioimageio.spec: {pip_install('bioimageio.spec')} ({error})") from None
    model = Model.load(run, "cpu")
    with tempfile.TemporaryDirectory(prefix="sccs-") as scratch, atomic_path(out) as temporary:
        folder = Path(scratch)
        said = export_onnx(model.features, folder / "encoder.onnx", maps=True)
        _tensors(model.features, folder)
        _readme(model, folder)
        description = _description(model, folder, licence, authors)
        write_text(folder / "bioimageio.yaml", to_yaml(description))
        archive.pack(folder, temporary)
        checked = spec.load_description(temporary, perform_io_checks=True)
        if isinstance(checked, spec.InvalidDescr):
            errors = [
                f"{'.'.join(map(str, error.loc))}: {error.msg}"
                for detail in checked.validation_summary.details
                for error in detail.errors
            ]
            raise UserError(f"{out}: the validator of the BioImage Model Zoo refuses it: {errors[0]}")
    return f"{out}: {said}\nbioimageio.spec {spec.__version__} accepts it: {checked.validation_summary.status}"


def _tensors(features: Features, folder: Path) -> None:
    """A synthetic test image, in grey values, and what the encoder makes of it once it is standardised."""
    part = mae_of(features)
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: part.window, : part.window]
    image = 120 + 60 * np.sin(x / 7) * np.cos(y / 9) + rng.normal(0, 12, (part.window, part.window))
    image = image.astype(np.float32)[None, None]  # (B, 1, window, window)
    with torch.no_grad():
        tokens = TokenMap(part).eval()(torch.from_numpy((image - image.mean()) / (image.std() + EPSILON))).numpy()
    np.save(folder / "test_image.npy", image)
    np.save(folder / "test_tokens.npy", tokens)


def _readme(model: Model, folder: Path) -> None:
    about, voxel = facts(mae_of(model.features)), model.info.get("voxel_size")
    pixels = "." if voxel is None else f", {voxel[1]:g} x {voxel[2]:g} nm pixels (y, x)."
    lines = [
        "# MAE encoder of SCCS",
        "",
        "Encoder of a masked autoencoder for volume electron microscopy, trained without "
        f"labels; from a model trained on {data_name(model.info)}{pixels}",
        "",
        f"Input: {about['input']}. Output: {about['output']}.",
        "",
        "## Validation",
        "",
        "Cluster or classify the output of images whose labels you have, and compare with the labels. "
        "The test image is synthetic.",
        "",
    ]
    write_text(folder / "README.md", "\n".join(lines))


def _description(model: Model, folder: Path, licence: str, authors: Sequence[str]) -> dict:
    """The content of bioimageio.yaml."""
    part, voxel = mae_of(model.features), model.info.get("voxel_size")

    def file(name: str) -> dict:
        return {"source": name, "sha256": hashlib.sha256((folder / name).read_bytes()).hexdigest()}

    def axes(channels: list[str], size: int, step: int) -> list[dict]:
        """Of a tensor (B, channels, size, size) with `step` px between its values."""
        pixel = {} if voxel is None else {"unit": "nanometer"}
        space = [
            {
                "type": "space",
                "id": axis,
                "size": size,
                "scale": float(step * (1 if voxel is None else voxel[i])),
                **pixel,
            }
            for i, axis in ((1, "y"), (2, "x"))
        ]
        return [{"type": "batch"}, {"type": "channel", "channel_names": channels}, *space]

    standardise = {"id": "zero_mean_unit_variance", "kwargs": {"axes": ["channel", "y", "x"], "eps": EPSILON}}
    return {
        "type": "model",
        "format_version": "0.5.4",
        "name": "SCCS MAE encoder",
        "description": "Features of electron microscopy images by a masked autoencoder",
        "authors": [{"name": name} for name in authors],
        "license": licence,
        "tags": ["electron-microscopy", "sccs"],
        "cite": [{"text": "He et al., Masked Autoencoders Are Scalable Vision Learners", "doi": PAPER}],
        "documentation": "README.md",
        "inputs": [
            {
                "id": "windows",
                "axes": axes(["grey"], part.window, 1),
                "data": {"type": "float32"},
                "test_tensor": file("test_image.npy"),
                "preprocessing": [standardise],
            }
        ],
        "outputs": [
            {
                "id": "tokens",
                "data": {"type": "float32"},
                "test_tensor": file("test_tokens.npy"),
                "axes": axes([f"feature{i}" for i in range(part.width)], part.window // part.patch, part.patch),
            }
        ],
        "weights": {"onnx": {**file("encoder.onnx"), "opset_version": OPSET}},
    }
