"""The part `student`: its grid, its state, and checkpoints that do not fit."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from registry.base import UserError
from registry.features.student import StudentFeatures
from registry.mae import eight_bits
from registry.mae import precision as precisions
from registry.mae.checkpoint import STUDENT, weights_hash, write_checkpoint
from registry.mae.student import Student, fused
from registry.numeric.processor import multiplies_int8
from tests.registry.tiny_mae import made_up_mae, save


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(0)
    weights = {name: value.half().numpy() for name, value in fused(Student(width=4, out=6)).state_dict().items()}
    facts = {"architecture": {"width": 4, "out": 6}, "sha256": weights_hash(weights)}
    write_checkpoint(tmp_path / "student.safetensors", weights, facts, STUDENT)
    return str(tmp_path / "student.safetensors")


@pytest.fixture
def in_bytes():
    if not multiplies_int8():
        pytest.skip("this processor does not multiply bytes natively")


def image(H=83, W=97):
    return np.random.default_rng(0).normal(size=(H, W)).astype(np.float32)


def test_a_map_of_every_fourth_pixel(checkpoint):
    found = StudentFeatures(checkpoint=checkpoint, width=4, q=6).extract(image())
    assert found.values.shape == (21, 25, 6) and found.values.dtype == np.float32
    assert (found.step, found.offset, found.shape) == (4.0, 1.5, (83, 97))


def test_a_saved_part_needs_no_file(checkpoint):
    part = StudentFeatures(checkpoint=checkpoint, width=4, q=6)
    other = StudentFeatures(checkpoint="gone.safetensors", width=4, q=6)
    other.set_state(part.get_state())
    assert np.array_equal(other.extract(image()).values, part.extract(image()).values)
    assert other.fingerprint() == part.fingerprint()


def test_half_precision_is_close():
    single, half = (StudentFeatures(precision=kind).extract(image()).values for kind in ("float32", "bfloat16"))
    assert half.dtype == np.float32 and 0 < np.abs(half - single).mean() < 0.01 * single.std()


@pytest.mark.parametrize("native, as_if, other", [(True, "bfloat16", "float32"), (False, "float32", "bfloat16")])
def test_auto_follows_the_processor_and_says_so_to_the_cache(monkeypatch, native, as_if, other):
    monkeypatch.setattr(precisions, "multiplies_bfloat16", lambda device: native)
    parts = {kind: StudentFeatures(precision=kind) for kind in ("auto", as_if, other)}
    values = {kind: part.extract(image()).values for kind, part in parts.items()}
    assert np.array_equal(values["auto"], values[as_if]) and not np.array_equal(values["auto"], values[other])
    first = parts["auto"].fingerprint()
    monkeypatch.setattr(precisions, "multiplies_bfloat16", lambda device: not native)  # moved to another device
    assert np.array_equal(parts["auto"].extract(image()).values, values[other])
    assert parts["auto"].fingerprint() != first


def test_eight_bits_are_nearly_as_close_as_half_precision(in_bytes):
    smooth = gaussian_filter(image(256, 320), 2)
    smooth /= smooth.std()
    single, half, eight = (
        StudentFeatures(precision=kind).extract(smooth).values for kind in ("float32", "bfloat16", "int8")
    )
    apart = [np.sqrt(np.square((each - single) / single.std((0, 1))).mean()) for each in (half, eight)]
    assert 0 < apart[0] < apart[1] < 0.05


def test_where_bytes_are_not_quick_the_processor_decides_as_with_auto(monkeypatch):
    monkeypatch.setattr(eight_bits, "multiplies_int8", lambda: False)
    part, auto = StudentFeatures(precision="int8"), StudentFeatures()
    assert np.array_equal(part.extract(image()).values, auto.extract(image()).values)
    assert part.fingerprint() == auto.fingerprint()


def test_the_cache_knows_eight_bits(in_bytes):
    part = StudentFeatures(precision="int8")
    assert part.fingerprint() != StudentFeatures().fingerprint()
    part.device = "cuda"
    assert "int8" not in part.fingerprint()


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
def test_neither_threads_nor_the_rest_of_the_image_change_a_feature(precision):
    part, threads = StudentFeatures(precision=precision), torch.get_num_threads()
    whole = image(256, 320)
    try:
        found = []
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            found.append(part.extract(whole).values)
    finally:
        torch.set_num_threads(threads)
    assert all(np.array_equal(each, found[0]) for each in found[1:])
    inner = part.extract(whole[64:].copy()).values  # 64 px, the receptive field, are lost at the border
    assert np.array_equal(inner[16:], found[0][32:])


def test_the_bundled_student_is_there():
    found = StudentFeatures().extract(image())
    assert found.values.shape == (21, 25, 192) and np.isfinite(found.values).all() and found.values.std() > 0.1


def test_an_encoder_is_no_student(tmp_path):
    path = save(tmp_path / "encoder.safetensors", made_up_mae().encoder)
    with pytest.raises(UserError, match="not a checkpoint of an MAE's student .*distil.yaml"):
        StudentFeatures(checkpoint=path).extract(image())


def test_a_missing_file_and_another_width_are_named(checkpoint):
    with pytest.raises(UserError, match="no file gone.safetensors; train one with the recipe distil.yaml"):
        StudentFeatures(checkpoint="gone.safetensors").extract(image())
    with pytest.raises(UserError, match="features.width is 8 but the checkpoint has 4.*write width: 4"):
        StudentFeatures(checkpoint=checkpoint, width=8, q=6).extract(image())
