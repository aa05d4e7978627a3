"""That a student learns from its teacher, resumes with the same bits, and leaves what the part takes."""

import json

import numpy as np
import pytest
import torch

from registry.base import UserError
from registry.features.mae import MAE
from registry.features.student import StudentFeatures
from sccs.training.distiller import Teacher
from sccs.training.pretrain import check_batch, prepare, pretrain
from sccs.training.pretrain_settings import Distil, Pretrain, parse, settings_of
from sccs.training.team import ALONE, Team
from tests.registry.tiny_mae import PART, made_up_mae, save
from tests.sccs.training.tiny_pretraining import volume


@pytest.fixture
def block(tmp_path):
    import tifffile

    tifffile.imwrite(tmp_path / "em.tif", volume((1, 90, 200)).image[0])
    return {
        "teacher": save(tmp_path / "mae.safetensors", made_up_mae().encoder),
        "data": [{"name": "volumes", "train": [{"image": "em.tif"}]}],
        "architecture": {"width": 4},
        "windows": 2,
        "crops": 8,
        "passes": 2,
        "batch": 4,
        "steps": 12,
        "warmup": 2,
        "amp": False,
        "threads": 1,
        "log_every": 4,
        "checkpoint_every": 4,
        "card": {"Licence": "Ours."},
    }


def trainer(block, tmp_path, **changed):
    return prepare({**block, **changed}, "cpu", 0, tmp_path)


def test_the_teacher_answers_as_the_part_does(block, tmp_path):
    images = torch.randn(3, 40, 40, generator=torch.Generator().manual_seed(0))
    tokens = Teacher(block["teacher"], tmp_path, "cpu")(images)
    part = MAE(checkpoint=block["teacher"], **PART)
    expected = np.stack([part.extract(image.numpy()).values for image in images])
    np.testing.assert_allclose(tokens.permute(0, 2, 3, 1).float(), expected, atol=2e-3)


def test_the_student_learns(block, tmp_path):
    run = trainer(block, tmp_path, steps=120, lr=1e-2, ema=0.9, noise=0.0, blur=0.0, jitter=0.0)
    held_out = run.sampler.held_out()
    before, _ = run.score(*held_out)
    while run.progress < 1:
        run.step()
    after, picture = run.score(*held_out)
    assert after < 0.6 * before
    assert picture.dtype == np.uint8 and picture.shape == (8 * 40, 3 * 40, 3)


def test_crops_are_seen_again_in_another_order(block, tmp_path):
    run = trainer(block, tmp_path)
    seen = []
    for run.done in range(6):
        seen.append(sorted(image.sum().item() for image in run.batch()[0]))
    passes = [sorted(seen[i] + seen[i + 1]) for i in (0, 2, 4)]
    assert passes[0] == passes[1] != passes[2]
    assert seen[0] != seen[2]


def test_a_resumed_run_ends_with_the_same_bits(block, tmp_path):
    straight, first = (trainer(block, tmp_path) for _ in range(2))
    losses = [straight.step() for _ in range(12)]
    begun = [first.step() for _ in range(6)]
    first.save(tmp_path / "state.safetensors")
    second = trainer(block, tmp_path)
    second.load(tmp_path / "state.safetensors")
    assert begun + [second.step() for _ in range(6)] == losses
    ours, others = straight.weights(), second.weights()
    assert all(np.array_equal(ours[name], others[name]) for name in ours)


def test_a_run_leaves_a_student_that_the_part_takes(block, tmp_path):
    facts = pretrain({"pretrain": block}, tmp_path / "run", "cpu", 0, False, tmp_path)
    assert facts["steps"] == 12 and np.isfinite(facts["held_out_loss"])
    part = StudentFeatures(
        checkpoint=str(tmp_path / "run" / "model" / "student.safetensors"), width=4, q=8, precision="float32"
    )
    assert part.extract(np.zeros((33, 41), np.float32)).values.shape == (9, 11, 8)
    assert part.fingerprint() == facts["sha256"]
    card = (tmp_path / "run" / "model" / "student.md").read_text()
    assert facts["sha256"] in card and "## Licence" in card and f"{facts['held_out_loss']:.4f}" in card
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss/held_out" in line] == [4, 8, 12]


def test_what_is_kept_has_the_teachers_units(block, tmp_path):
    """Unlike the standardised answers in training: so that a student can stand where the MAE stood."""
    run = trainer(block, tmp_path)
    run.step()
    images = torch.randn(2, 40, 40, generator=torch.Generator().manual_seed(0))
    lesson = run._averaged()
    with torch.no_grad():
        expected = lesson.student(images) * lesson.deviation[:, None, None] + lesson.mean[:, None, None]
    kept = StudentFeatures(checkpoint="none", width=4, q=8)
    kept.set_state(run.weights())
    found = np.stack([kept.extract(image.numpy()).values for image in images])
    np.testing.assert_allclose(found, expected.permute(0, 2, 3, 1), atol=0.02 * float(expected.abs().max()))


def test_a_teacher_makes_a_block_a_students(block):
    assert isinstance(parse(block), Distil)
    assert isinstance(parse({"data": block["data"]}), Pretrain)


def test_a_student_is_taught_in_one_process(block):
    """Shares of a batch have other statistics than the whole."""
    with pytest.raises(UserError, match="trained in a single process"):
        check_batch(parse(block), Team(rank=0, size=2))
    check_batch(parse(block), ALONE)


@pytest.mark.parametrize("given", [5, "teacher", ["teacher"], None])
def test_what_is_no_block_is_the_schemas_to_refuse(given):
    assert settings_of(given) is Pretrain


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"crops": 10}, "crops 10 is not a multiple of batch 4"),
        ({"mask": 0.5}, "pretrain.mask: Extra inputs"),
        ({"teacher": "gone.safetensors"}, "no file .*gone.safetensors"),
        ({"windows": 0}, "pretrain.windows"),
        ({"crops": 10**6, "batch": 1}, "pretrain.crops"),
    ],
)
def test_wrong_blocks_are_the_users_mistake(block, tmp_path, wrong, words):
    with pytest.raises(UserError, match=words):
        trainer(block, tmp_path, **wrong)
