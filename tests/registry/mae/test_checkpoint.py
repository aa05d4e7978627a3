"""Checkpoints of an MAE encoder: what is read, and what is the user's mistake."""

from pathlib import Path

import numpy as np
import pytest

from registry.base import UserError
from registry.features.mae import MAE
from registry.mae.checkpoint import encoder_arguments
from registry.mae.network import Encoder
from tests.registry.tiny_mae import PART, TINY, made_up_mae, save


@pytest.fixture
def checkpoint(tmp_path):
    return save(tmp_path / "encoder.safetensors", made_up_mae().encoder)


@pytest.mark.parametrize("key, value", [("width", 12), ("depth", 3), ("window", 25), ("heads", 2), ("patch", 4)])
def test_a_checkpoint_of_another_architecture_is_refused(checkpoint, key, value):
    wrong = {**PART, key: value}
    wrong["stride"] = wrong["window"]
    with pytest.raises(UserError) as error:
        MAE(checkpoint=checkpoint, **wrong).extract(np.zeros((40, 40), np.float32))
    text = str(error.value)
    assert f"features.{key} is {value} but the checkpoint has {TINY[key]}" in text
    assert f"write {key}: {TINY[key]}" in text and "\n" not in text


def test_a_missing_checkpoint_is_the_users_mistake(tmp_path):
    with pytest.raises(UserError, match="no file .*none.safetensors; train one with the recipe mae.yaml"):
        MAE(checkpoint=str(tmp_path / "none.safetensors")).extract(np.zeros((80, 80), np.float32))


def test_files_that_are_no_checkpoints_are_the_users_mistake(tmp_path, checkpoint):
    from safetensors.numpy import save_file

    text, other, cut = (tmp_path / f"{name}.safetensors" for name in ("text", "other", "cut"))
    text.write_text("not a checkpoint")
    save_file({"a": np.zeros(3)}, other)
    whole = Path(checkpoint).read_bytes()
    cut.write_bytes(whole[:-7])
    for path, words in [(text, "not a readable"), (other, "not a checkpoint of an MAE"), (cut, "not a readable")]:
        with pytest.raises(UserError, match=words):
            MAE(checkpoint=str(path), **PART).fingerprint()
    flipped = bytearray(whole)
    flipped[-3] ^= 1
    cut.write_bytes(flipped)
    with pytest.raises(UserError, match="damaged"):
        MAE(checkpoint=str(cut), **PART).fingerprint()


def test_variables_in_the_checkpoints_path_are_expanded(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setenv("WEIGHTS_HERE", str(tmp_path))
    assert MAE(checkpoint="${WEIGHTS_HERE}/encoder.safetensors", **PART).fingerprint()


def test_encoder_arguments_build_the_encoder():
    assert len(Encoder(**encoder_arguments(TINY)).blocks) == 2
