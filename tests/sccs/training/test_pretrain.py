"""A whole pre-training: what it leaves behind, resumed, and started from a checkpoint."""

import json

import numpy as np
import pytest
import torch

from registry.base import UserError
from registry.features.mae import MAE
from sccs.training.pretrain import pretrain
from sccs.training.pretrainer import Pretrainer
from tests.sccs.training.tiny_pretraining import TINY, block, trainer, volume


@pytest.fixture
def recipe(tmp_path):
    import tifffile

    tifffile.imwrite(tmp_path / "em.tif", volume((1, 60, 100)).image[0])
    settings = block(data=[{"name": "volumes", "train": [{"image": "em.tif"}]}], card={"Licence": "Ours."})
    return {"pretrain": json.loads(settings.model_dump_json())}


def run(recipe, out, **kwargs):
    return pretrain(recipe, **{**dict(out=out, device="cpu", seed=0, resume=False, base=out.parent), **kwargs})


def test_a_run_leaves_an_encoder_that_the_part_takes(recipe, tmp_path):
    out = tmp_path / "run"
    facts = run(recipe, out)
    assert facts["steps"] == 12 and facts["crops"] == 48 and np.isfinite(facts["held_out_loss"])
    part = MAE(checkpoint=str(out / "model" / "mae.safetensors"), window=20, stride=20, width=16, depth=2)
    features = part.extract(np.random.default_rng(0).normal(size=(33, 41)).astype(np.float32))
    assert features.values.shape == (7, 9, 16)
    assert json.loads((out / "metrics.json").read_text()) == facts
    card = (out / "model" / "mae.md").read_text()
    assert facts["sha256"] in card and "## Licence" in card and "em" in card and f"{facts['held_out_loss']:.4f}" in card
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss/train" in line] == [4, 8, 12]
    assert [line["step"] for line in lines if "loss/held_out" in line] == [4, 8, 12]


def test_a_run_that_was_stopped_and_resumed_gives_the_same_encoder(recipe, tmp_path, monkeypatch):
    whole = run(recipe, tmp_path / "whole")
    step, calls = Pretrainer.step, []

    def stopped(self):
        calls.append(0)
        if len(calls) == 7:
            raise KeyboardInterrupt
        return step(self)

    monkeypatch.setattr(Pretrainer, "step", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(recipe, tmp_path / "cut")
    monkeypatch.setattr(Pretrainer, "step", step)
    again = run(recipe, tmp_path / "cut", resume=True)
    assert again["sha256"] == whole["sha256"] and again["held_out_loss"] == whole["held_out_loss"]
    assert again["steps"] == 12


def test_fine_tuning_starts_from_a_checkpoint(recipe, tmp_path):
    run(recipe, tmp_path / "first")
    path = tmp_path / "first" / "model" / "mae.safetensors"
    settings = block(checkpoint="first/model/mae.safetensors")
    tuned, fresh = trainer(settings, tmp_path), trainer(block(), tmp_path)
    stored = MAE(checkpoint=str(path), window=20, stride=20, width=16, depth=2).get_state()["embed.weight"]
    assert np.array_equal(tuned.model.encoder.embed.weight.detach().numpy(), stored.astype(np.float32))
    assert not torch.equal(tuned.model.encoder.embed.weight, fresh.model.encoder.embed.weight)
    with pytest.raises(UserError, match="pretrain.architecture.depth is 3 but the checkpoint has 2"):
        trainer(block(checkpoint=str(path), architecture={**TINY, "depth": 3}), tmp_path)


@pytest.mark.parametrize("harm", ["cut", "empty", "gone"])
def test_a_damaged_state_gives_way_to_the_one_before(recipe, tmp_path, harm):
    whole = run(recipe, tmp_path / "run")
    state = tmp_path / "run" / "model" / "state.safetensors"
    if harm == "gone":  # killed between two steps of saving
        state.unlink()
    else:
        state.write_bytes(state.read_bytes()[:-10] if harm == "cut" else b"")
    again = run(recipe, tmp_path / "run", resume=True)
    assert again["sha256"] == whole["sha256"] and again["steps"] == 12
    said = (tmp_path / "run" / "log.txt").read_text()
    assert "from step 8" in said
    assert ("the last saved state is damaged (skipped as damaged: state.safetensors)" in said) == (harm != "gone")


def test_where_no_state_is_whole_it_starts_anew(recipe, tmp_path):
    whole = run(recipe, tmp_path / "run")
    for path in (tmp_path / "run" / "model").glob("state*"):
        path.write_bytes(b"")
    assert run(recipe, tmp_path / "run", resume=True)["sha256"] == whole["sha256"]
