"""The MAE encoder, or its student, as a package for the BioImage Model Zoo (https://bioimage.io): one zip, checked by
its validator.

The package contains `bioimageio.yaml`, the network as ONNX with image axes (`sccs.sharing.encoder`), a test image and
its output, and a README.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from registry.base import UserError
from registry.mae.student import COARSEST
from registry.requirements import pip_install
from sccs.model.model import Model
from sccs.recipe.stored import to_yaml
from sccs.sharing.card import data_name
from sccs.sharing.encoder import OPSET, SMALLEST, Network, export_onnx, network_of
from sccs.system import archive
from sccs.system.apart import check_apart
from sccs.system.files import atomic_path, temporary_folder, write_text
from sccs.system.lock import held
from sccs.system.log import say

EPSILON = 1e-6  # of the zoo's standardisation, (x - mean) / (sd + epsilon)
STUDENTS_IMAGE = 160  # px, side of the test image
PAPER = "10.48550/arXiv.2111.06377"


ABOUT = {
    "MAE encoder": "Encoder of a masked autoencoder",
    "MAE student": "Convolutional student of a masked autoencoder",
}


def main(run: str, out: str, *, licence: str | None, authors: Sequence[str], overwrite: bool = False) -> None:
    """Write the package of a run or an export, and describe it. Raises UserError as `package` does."""
    path = Path(out)
    with held(path, "sccs export"):
        archive.check_output(path, overwrite)
        check_apart(path, {"RUN": [run]}, within=archive.is_export(run))
        say(package(run, path, licence, authors))


def package(run: str | os.PathLike[str], out: Path, licence: str | None, authors: Sequence[str]) -> str:
    """Write the zip `out` from a run or an export; returns the text to print.

    Raises UserError, and leaves nothing behind, for features without an MAE or a student, a missing package, no licence
    or author, or if the zoo's validator rejects the result.
    """
    if out.suffix.lower() != ".zip":
        raise UserError(f"{out}: a BioImage Model Zoo package is a zip file: name it *.zip")
    if not (licence and authors):
        raise UserError(
            "--bioimage: a package for the zoo needs a licence and an author: add --licence CC-BY-4.0 "
            "--author NAME, as appropriate for these weights"
        )
    os.environ.setdefault("LOGURU_LEVEL", "ERROR")  # for the validator, which otherwise logs every step
    try:
        from bioimageio import spec
    except ImportError as error:
        raise UserError(f"--bioimage needs bioimageio.spec: {pip_install('bioimageio.spec')} ({error})") from None
    model = Model.load(run, "cpu")
    with atomic_path(out) as temporary, temporary_folder() as folder:
        said = export_onnx(model.features, folder / "encoder.onnx", maps=True)
        network = network_of(model.features, maps=True)
        _tensors(network, folder)
        _readme(network, model, folder)
        description = _description(network, model, folder, licence, authors)
        write_text(folder / "bioimageio.yaml", to_yaml(description))
        archive.pack(folder, temporary)
        checked = spec.load_description(temporary, perform_io_checks=True)
        if isinstance(checked, spec.InvalidDescr):
            errors = [
                f"{'.'.join(map(str, error.loc))}: {error.msg}"
                for detail in checked.validation_summary.details
                for error in detail.errors
            ]
            raise UserError(f"{out}: the validator of the BioImage Model Zoo rejects it: {errors[0]}")
    return f"{out}: {said}\nbioimageio.spec {spec.__version__} accepts it: {checked.validation_summary.status}"


def _tensors(network: Network, folder: Path) -> None:
    """Write a synthetic test image, in grey values, and the network's output for it after standardisation."""
    side = network.fixed or STUDENTS_IMAGE
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side]
    image = 120 + 60 * np.sin(x / 7) * np.cos(y / 9) + rng.normal(0, 12, (side, side))
    image = image.astype(np.float32)[None, None]  # (B, 1, side, side)
    with torch.no_grad():
        answer = network.module(torch.from_numpy((image - image.mean()) / (image.std() + EPSILON))).numpy()
    np.save(folder / "test_image.npy", image)
    np.save(folder / f"test_{network.answer}.npy", answer)


def _readme(network: Network, model: Model, folder: Path) -> None:
    about, voxel = network.facts, model.info.get("voxel_size")
    pixels = "." if voxel is None else f", {voxel[1]:g} x {voxel[2]:g} nm pixels (y, x)."
    lines = [
        f"# {network.name} of SCCS",
        "",
        f"{ABOUT[network.name]} for volume electron microscopy, trained without labels; from a model trained on "
        f"{data_name(model.info)}{pixels}",
        "",
        f"Input: {about['input']}. Output: {about['output']}.",
        "",
        "## Validation",
        "",
        "To validate it, cluster or classify the output for labelled images, and compare with the labels. "
        "The test image is synthetic.",
        "",
    ]
    write_text(folder / "README.md", "\n".join(lines))


def _description(network: Network, model: Model, folder: Path, licence: str, authors: Sequence[str]) -> dict:
    """The content of bioimageio.yaml."""
    voxel = model.info.get("voxel_size")

    def file(name: str) -> dict:
        return {"source": name, "sha256": hashlib.sha256((folder / name).read_bytes()).hexdigest()}

    def axes(channels: list[str], sizes: dict[str, Any], step: int) -> list[dict]:
        """Axes of a tensor (B, channels, y, x) with `step` px between its values."""
        pixel = {} if voxel is None else {"unit": "nanometer"}
        space = [
            {
                "type": "space",
                "id": axis,
                "size": sizes[axis],
                "scale": float(step * (1 if voxel is None else voxel[i])),
                **pixel,
            }
            for i, axis in ((1, "y"), (2, "x"))
        ]
        return [{"type": "batch"}, {"type": "channel", "channel_names": channels}, *space]

    given: dict[str, Any]
    answer: dict[str, Any]
    if network.fixed:
        given, answer = (dict.fromkeys("yx", network.fixed // step) for step in (1, network.step))
    else:
        given = {axis: {"min": SMALLEST, "step": COARSEST} for axis in "yx"}
        answer = {axis: {"tensor_id": network.given, "axis_id": axis} for axis in "yx"}
    standardise = {"id": "zero_mean_unit_variance", "kwargs": {"axes": ["channel", "y", "x"], "eps": EPSILON}}
    return {
        "type": "model",
        "format_version": "0.5.4",
        "name": f"SCCS {network.name}",
        "description": f"Features of electron microscopy images: {ABOUT[network.name].lower()}",
        "authors": [{"name": name} for name in authors],
        "license": licence,
        "tags": ["electron-microscopy", "sccs"],
        "cite": [{"text": "He et al., Masked Autoencoders Are Scalable Vision Learners", "doi": PAPER}],
        "documentation": "README.md",
        "inputs": [
            {
                "id": network.given,
                "axes": axes(["grey"], given, 1),
                "data": {"type": "float32"},
                "test_tensor": file("test_image.npy"),
                "preprocessing": [standardise],
            }
        ],
        "outputs": [
            {
                "id": network.answer,
                "data": {"type": "float32"},
                "test_tensor": file(f"test_{network.answer}.npy"),
                "axes": axes([f"feature{i}" for i in range(network.q)], answer, network.step),
            }
        ],
        "weights": {"onnx": {**file("encoder.onnx"), "opset_version": OPSET}},
    }
