"""Pre-training: which crops, that it learns, that a stopped run ends with the same bits, what it leaves behind."""

import itertools
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from registry.base import UserError
from registry.features.mae import MAE
from sccs.training.pretrain import Crops, Pretrainer, Sampler, model_card, parse, pretrain, resize

TINY = dict(
    patch=5, window=20, width=16, depth=2, heads=1, mlp_ratio=2, decoder_width=16, decoder_depth=1, decoder_heads=2
)


def volume(shape=(1, 60, 100), voxel_size=None, origin=(0, 0, 0), image=None, name="v"):
    if image is None:
        rng = np.random.default_rng(0)
        y, x = np.mgrid[: shape[1] + origin[1], : shape[2] + origin[2]]
        image = (
            np.stack(
                [
                    128 + 60 * np.sin(y / 4 + rng.uniform(0, 6)) * np.sin(x / 5) + rng.normal(0, 5, y.shape)
                    for _ in range(shape[0] + origin[0])
                ]
            )
            .clip(0, 255)
            .astype(np.uint8)
        )
    return SimpleNamespace(
        name=name, image=image, origin=origin, shape=shape, mean=128.0, std=32.0, voxel_size=voxel_size
    )


def crops_of(volume, scale=(1.0, 1.0), axes="all", held_out=0.0):
    return Crops(volume, 20, scale, axes, held_out)


def sampler(source=None, **kwargs):
    options = dict(tokens=16, batch=4, jitter=0.1, seed=0)
    return Sampler([[crops_of(source or volume(), held_out=0.1)]], **{**options, **kwargs})


def block(**kwargs):
    return parse(
        {
            "data": [{"name": "phantom"}],
            "architecture": TINY,
            "batch": 4,
            "steps": 12,
            "warmup": 2,
            "amp": False,
            "threads": 1,
            "log_every": 4,
            "checkpoint_every": 4,
            **kwargs,
        }
    )


def trainer(settings, tmp_path, **kwargs):
    return Pretrainer(settings, sampler(**kwargs), device="cpu", seed=0, base=tmp_path)


# ------------------------------------------------------------------------------------------------------------ crops
def test_crops_are_standardised_pieces_of_the_image():
    source = volume(shape=(3, 40, 50), image=np.arange(3 * 40 * 50, dtype=np.int32).reshape(3, 40, 50))
    crops = crops_of(source, axes="xy")
    for seed in range(10):
        crop = crops.train(crops.draw(np.random.default_rng(seed))) * 32 + 128
        assert crop.shape == (20, 20) and crop.dtype == np.float32
        steps = {int(abs(round(float(crop[1, 0] - crop[0, 0])))), int(abs(round(float(crop[0, 1] - crop[0, 0]))))}
        assert steps == {1, 50}  # neighbours along x and y, in some orientation


@pytest.mark.parametrize(
    "shape, voxel_size, axes, planes",
    [
        ((40, 40, 40), (8, 8, 8), "all", 3),
        ((40, 40, 40), None, "all", 3),
        ((40, 40, 40), (40, 10, 10), "all", 1),  # anisotropic
        ((40, 40, 40), (8, 8, 8), "xy", 1),
        ((10, 40, 40), (8, 8, 8), "all", 1),  # thinner than a window
    ],
)
def test_planes_through_z_need_thick_isotropic_volumes(shape, voxel_size, axes, planes):
    crops = crops_of(volume(shape, voxel_size), axes=axes)
    assert len(crops.planes) == planes
    assert all(crops.train(crops.draw(np.random.default_rng(i))).shape == (20, 20) for i in range(9))


def test_only_the_region_is_read_and_its_last_columns_are_held_out():
    image = np.full((4, 100, 200), 255, np.uint8)
    image[1:3, 10:70, 20:100], image[1:3, 10:70, 100:120] = 1, 2  # region: training part 1, held-out strip 2
    for limit in (2**30, 0):  # in memory and crop by crop
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sccs.training.pretrain.IN_MEMORY", limit)
            crops = Crops(volume((2, 60, 100), None, (1, 10, 20), image), 20, (0.5, 2.0), "all", 0.1)
        for seed in range(30):
            rng = np.random.default_rng(seed)
            np.testing.assert_allclose(crops.train(crops.draw(rng)) * 32 + 128, 1, atol=1e-3)
            np.testing.assert_allclose(crops.held(rng) * 32 + 128, 2, atol=1e-3)


def test_narrow_volumes_hold_nothing_out():
    assert crops_of(volume((1, 40, 79)), held_out=0.1).held_box is None
    assert crops_of(volume((1, 40, 80)), held_out=0.1).held_box == ((0, 0, 60), (1, 40, 20))


def test_scaled_crops_are_resized_to_the_window():
    crops = crops_of(volume((1, 30, 100)), scale=(0.5, 4.0))
    assert crops.sides == (10, 30)  # the short side limits them
    assert crops.train(crops.draw(np.random.default_rng(0))).shape == (20, 20)
    ramp = np.tile(np.arange(40, dtype=np.float32), (40, 1))
    np.testing.assert_allclose(resize(ramp, 20)[:, 2:-2], np.tile(np.arange(20) * 2 + 0.5, (20, 1))[:, 2:-2], atol=1e-3)


def test_a_step_draws_the_same_whenever_it_is_asked_for():
    one, two = sampler(), sampler()
    one.step(0)
    for a, b in zip(one.step(5), two.step(5)):
        assert torch.equal(a, b)
    assert not torch.equal(one.step(5)[0], one.step(6)[0])
    assert not torch.equal(one.step(5)[0], sampler(seed=1).step(5)[0])


def test_data_blocks_share_the_crops_equally():
    flat = [volume(image=np.full((1, 60, 100), value, np.uint8), name=str(value)) for value in (128, 128, 128, 160)]
    groups = [[crops_of(v) for v in flat[:3]], [crops_of(flat[3])]]
    images, _ = Sampler(groups, 16, 400, 0.0, 0).step(0)
    assert 0.4 < (images.mean((1, 2)) > 0.5).float().mean() < 0.6


# --------------------------------------------------------------------------------------------------------- training
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
    assert all(a > b for a, b in itertools.pairwise(rates))


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


# ---------------------------------------------------------------------------------------------------------- the run
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


def test_the_card_says_what_was_not_measured(recipe):
    facts = {
        "architecture": TINY,
        "data": ["a"],
        "steps": 1,
        "crops": 8,
        "minutes": 0.1,
        "held_out_loss": None,
        "seed": 0,
        "sha256": "0",
    }
    assert "| loss on held-out crops | none" in model_card(facts, parse(recipe["pretrain"]))


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"step": 5}, "pretrain.step: Extra inputs"),
        ({"architecture": {**TINY, "window": 21}}, "pretrain.architecture: .*window 21 is not a multiple of patch 5"),
        (
            {"architecture": {**TINY, "decoder_width": 18}},
            "decoder_width 18 must be a multiple of 4 and of decoder_heads",
        ),
        ({"scale": [1.5, 1.0]}, "scale: .* is not .smallest, largest"),
        ({"data": []}, "pretrain.data: "),
        ({"mask": 1.0}, "pretrain.mask: "),
    ],
)
def test_wrong_blocks_are_the_users_mistake(wrong, words):
    with pytest.raises(UserError, match=words):
        block(**wrong)
