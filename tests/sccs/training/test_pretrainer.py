"""That pre-training learns, follows its schedule, and that a stopped run ends with the same bits."""

import itertools

import numpy as np
import pytest
import torch

from registry.base import UserError
from tests.sccs.training.tiny_pretraining import TINY, block, trainer, volume


def test_the_loss_goes_down(tmp_path):
    y, x = np.mgrid[:60, :100]
    smooth = (128 + 60 * np.sin(y / 15) + 40 * np.sin(x / 18))[None]
    settings = block(steps=150, lr=1e-2, warmup=10, ema=0.9, batch=8)
    run = trainer(settings, tmp_path, source=volume(image=smooth), batch=8, jitter=0.0)
    held_out = run.sampler.held_out()
    before, _ = run.score(*held_out)
    while run.progress < 1:
        run.step()
    after, picture = run.score(*held_out)
    assert after < 0.4 * before
    assert picture.dtype == np.uint8 and picture.shape == (8 * 20, 60, 3)


def test_the_schedule_warms_up_and_decays_to_zero(tmp_path):
    run = trainer(block(steps=100, warmup=10, lr=1e-3), tmp_path)
    rates = []
    for run.done in range(101):
        rates.append(run.learning_rate())
    assert rates[0] == pytest.approx(1e-4) and max(rates) == pytest.approx(1e-3, rel=0.03)
    assert rates.index(max(rates)) == 9 and rates[100] == 0
    assert all(a > b for a, b in itertools.pairwise(rates[10:]))


def test_minutes_end_the_schedule(tmp_path):
    run = trainer(block(steps=100, max_minutes=2), tmp_path)
    run.done, run.seconds = 10, 60.0
    assert run.progress == pytest.approx(0.5)
    run.seconds = 121.0
    assert run.progress == 1 and run.learning_rate() == 0


def test_a_resumed_run_ends_with_the_same_bits(tmp_path):
    straight, first = (trainer(block(amp=True), tmp_path) for _ in range(2))
    losses = [straight.step() for _ in range(12)]
    begun = [first.step() for _ in range(5)]
    first.save(tmp_path / "state.safetensors")
    torch.manual_seed(99)  # the global generator must not matter
    second = trainer(block(amp=True), tmp_path)
    second.load(tmp_path / "state.safetensors")
    assert second.done == 5
    assert begun + [second.step() for _ in range(7)] == losses
    for name, value in straight.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name])
        assert torch.equal(straight.average[name], second.average[name])


def test_a_state_of_another_architecture_is_refused(tmp_path):
    trainer(block(), tmp_path).save(tmp_path / "state.safetensors")
    with pytest.raises(UserError, match="another pretrain.architecture"):
        trainer(block(architecture={**TINY, "width": 8}), tmp_path).load(tmp_path / "state.safetensors")
