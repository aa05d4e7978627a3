"""The MAE encoder and its student as ONNX, and as packages of the BioImage Model Zoo."""

import io
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import sccs
from registry.base import UserError
from registry.mae.checkpoint import STUDENT, weights_hash, write_checkpoint
from registry.mae.network import MaskedAutoencoder
from registry.mae.student import Student, fused
from sccs.cli import main as command
from sccs.pipeline import Pipeline
from sccs.sharing import encoder

SIZES = {"window": 20, "patch": 5, "width": 8, "depth": 1, "heads": 1}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A saved model with a tiny MAE of random weights."""
    folder = tmp_path_factory.mktemp("mae")
    torch.manual_seed(0)
    architecture = {**SIZES, "mlp_ratio": 2.0, "position_weight": 0.08}
    weights = {name: value.numpy() for name, value in MaskedAutoencoder(**SIZES).encoder.state_dict().items()}
    facts = {"architecture": architecture, "sha256": weights_hash(weights)}
    write_checkpoint(folder / "mae.safetensors", weights, facts)
    recipe = {
        "features": {"name": "mae", "checkpoint": str(folder / "mae.safetensors"), **SIZES, "stride": 20},
        "graph": {"name": "patch", "cell": 8},
        "embedder": "identity",
        "clusterer": {"name": "kmeans", "k": 2},
        "device": "cpu",
    }
    image = np.random.default_rng(0).integers(0, 255, (1, 80, 80), np.uint8)
    Pipeline.from_recipe(recipe).fit(image).save(folder / "run" / "model")
    (folder / "mae.safetensors").unlink()  # a saved model needs it no more
    return folder / "run"


@pytest.fixture(scope="module")
def students_model(tmp_path_factory) -> Path:
    """The same with a tiny student."""
    folder = tmp_path_factory.mktemp("student")
    torch.manual_seed(0)
    size = {"width": 4, "out": 6}
    weights = {name: value.numpy() for name, value in fused(Student(**size)).state_dict().items()}
    facts = {"architecture": size, "sha256": weights_hash(weights)}
    write_checkpoint(folder / "student.safetensors", weights, facts, STUDENT)
    recipe = {
        "features": {"name": "student", "checkpoint": str(folder / "student.safetensors"), "width": 4, "q": 6},
        "graph": {"name": "patch", "cell": 8},
        "embedder": "identity",
        "clusterer": {"name": "kmeans", "k": 2},
        "device": "cpu",
    }
    image = np.random.default_rng(0).integers(0, 255, (1, 80, 80), np.uint8)
    Pipeline.from_recipe(recipe).fit(image).save(folder / "run" / "model")
    return folder / "run"


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory) -> Path:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    out = tmp_path_factory.mktemp("onnx") / "out"
    assert command(["export", str(model), str(out), "--onnx"]) == 0
    return out


def test_onnx_gives_the_tokens_of_torch_for_any_number_of_windows(model, exported):
    import onnxruntime

    session = onnxruntime.InferenceSession(exported / "encoder.onnx", providers=["CPUExecutionProvider"])
    part = sccs.load(model).features
    for batch in (1, 2, 5):
        windows = np.random.default_rng(batch).standard_normal((batch, 20, 20), np.float32)
        (tokens,) = session.run(None, {"windows": windows})
        with torch.no_grad():
            expected = part.encode(torch.from_numpy(windows)).numpy()
        assert tokens.shape == (batch, 16, 8)
        np.testing.assert_allclose(tokens, expected, atol=1e-5)
    about = session.get_modelmeta().custom_metadata_map
    assert about["window"] == "20" and about["patch"] == "5" and "(5 i + 2, 5 j + 2)" in about["output"]


def test_a_students_onnx_takes_images_of_any_size(students_model, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    assert command(["export", str(students_model), str(tmp_path / "out"), "--onnx"]) == 0
    session = onnxruntime.InferenceSession(tmp_path / "out" / "encoder.onnx", providers=["CPUExecutionProvider"])
    part = sccs.load(students_model).features
    part.precision = "float32"
    for shape in ((64, 64), (80, 200)):
        image = np.random.default_rng(0).standard_normal(shape, np.float32)
        (found,) = session.run(None, {"images": image[None]})
        np.testing.assert_allclose(found[0].transpose(1, 2, 0), part.extract(image).values, atol=1e-5)
    assert "(4 i + 1.5, 4 j + 1.5)" in session.get_modelmeta().custom_metadata_map["output"]


def test_onnx_is_hashed_named_and_tells_nothing_of_this_computer(exported):
    assert " encoder.onnx\n" in (exported / "SHA256SUMS").read_text()
    assert "largest difference from torch" in (exported / "README.md").read_text()
    content = (exported / "encoder.onnx").read_bytes()
    assert b"/tmp" not in content and str(Path(sccs.__file__).parent).encode() not in content and b".py" not in content
    assert sccs.load(exported).k == 2


def test_onnx_that_differs_from_torch_is_not_written(model, tmp_path, fails, monkeypatch):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    monkeypatch.setattr(encoder, "TOLERANCE", -1)
    fails(["export", model, tmp_path / "out", "--onnx"], "differs from torch by")
    assert not list(tmp_path.iterdir())


def test_an_absent_package_is_said_with_the_command(model, tmp_path, fails, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    fails(["export", model, tmp_path / "out", "--onnx"], "pip install 'onnx>=")
    assert not list(tmp_path.iterdir())


def test_features_without_an_mae_are_refused():
    from registry.features.intensity import Intensity

    with pytest.raises(UserError, match=r"no MAE encoder or student \(its features are Intensity\)"):
        encoder.network_of(Intensity())


def test_the_encoder_is_found_within_concat_and_in_single_precision(monkeypatch):
    from registry.features.concat import Concat

    part = Concat(of=["filters", {"name": "mae", "precision": "bfloat16", "layer": 7}])
    found = encoder.network_of(part)
    assert found.name == "MAE encoder" and found.facts["layer"] == "7"
    assert {value.dtype for value in found.module.state_dict().values()} == {torch.float32}
    assert part.parts[1].precision == "bfloat16"


# ------------------------------------------------------------------------------------------------------- the model zoo
def test_a_package_for_the_zoo_names_licence_and_author(model, tmp_path, fails):
    fails(["export", model, tmp_path / "out", "--bioimage"], "*.zip")
    fails(["export", model, tmp_path / "out.zip", "--bioimage", "--author", "A. B."], "--licence")


def test_the_zoo_accepts_a_students_package(students_model, tmp_path, capsys):
    pytest.importorskip("bioimageio.spec")
    pytest.importorskip("onnxscript")
    out = str(tmp_path / "out.zip")
    words = ["export", str(students_model), out, "--bioimage", "--licence", "CC-BY-4.0", "--author", "A. B."]
    assert command(words) == 0
    assert "MAE student" in (said := capsys.readouterr().out) and "accepts it: valid-format" in said


def test_the_zoo_accepts_the_package(model, tmp_path, capsys, fails, monkeypatch):
    pytest.importorskip("bioimageio.spec")
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    out = tmp_path / "out.zip"
    assert command(["export", str(model), str(out), "--bioimage", "--licence", "CC-BY-4.0", "--author", "A. B."]) == 0
    assert "accepts it: " in capsys.readouterr().out
    with zipfile.ZipFile(out) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    assert not any(b"/tmp" in each for each in content.values())
    image, tokens = (np.load(io.BytesIO(content[f"test_{name}.npy"])) for name in ("image", "tokens"))
    session = onnxruntime.InferenceSession(content["encoder.onnx"], providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"windows": (image - image.mean()) / (image.std() + np.float32(1e-6))})
    assert found.shape == (1, 8, 4, 4)
    np.testing.assert_allclose(found, tokens, atol=1e-5)
    monkeypatch.setattr(
        "sccs.sharing.bioimage.export_onnx", lambda _, path, maps: path.write_bytes(content["encoder.onnx"])
    )
    fails(
        ["export", model, tmp_path / "bad.zip", "--bioimage", "--licence", "none such", "--author", "A. B."], "license"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["out.zip"]
