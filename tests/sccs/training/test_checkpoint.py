"""What a checkpoint gives back: arrays of any shape, facts, an optimiser that goes on with the same bits."""

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.numpy import save_file

from sccs.training.checkpoint import (
    below,
    drop_old,
    newest_step,
    optimizer_values,
    read_tensors,
    restore_optimizer,
    said,
    step_file,
    write_tensors,
)


def test_arrays_and_tensors_round_trip(tmp_path):
    values = {
        "a.scalar": np.float32(3),
        "a.turned": np.arange(6).reshape(2, 3).T,
        "b": torch.ones(2, requires_grad=True),
        "c": torch.tensor(1.0),
        "empty": np.zeros((0, 4)),
    }
    write_tensors(tmp_path / "new" / "x.safetensors", values, {"step": "7"})
    arrays, facts = read_tensors(tmp_path / "new" / "x.safetensors")
    assert facts == {"step": "7"} and arrays.keys() == values.keys()
    assert {name: value.shape for name, value in arrays.items()} == {
        "a.scalar": (),
        "a.turned": (3, 2),
        "b": (2,),
        "c": (),
        "empty": (0, 4),
    }
    np.testing.assert_array_equal(arrays["a.turned"], values["a.turned"])
    assert below("a.", arrays).keys() == {"scalar", "turned"} and arrays["b"].flags.writeable


def test_a_failed_write_leaves_the_checkpoint_before(tmp_path):
    path = tmp_path / "x.safetensors"
    write_tensors(path, {"a": np.ones(1)}, {})
    with pytest.raises(SafetensorError):
        write_tensors(path, {"a": np.array([object()])}, {})
    assert list(tmp_path.iterdir()) == [path] and read_tensors(path)[0]["a"] == 1


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
def test_a_restored_optimizer_goes_on_with_the_same_bits(tmp_path, kind):
    def steps(weight, optimizer, count):
        for _ in range(count):
            optimizer.zero_grad()
            (weight - torch.tensor([1.0, 2.0])).pow(4).sum().backward()
            optimizer.step()

    whole = torch.nn.Parameter(torch.zeros(2))
    optimizer = kind([whole], lr=0.1)
    steps(whole, optimizer, 5)
    write_tensors(tmp_path / "x.safetensors", {"weight": whole, **optimizer_values(optimizer)}, {})
    arrays, _ = read_tensors(tmp_path / "x.safetensors")
    cut = torch.nn.Parameter(torch.from_numpy(arrays["weight"]))
    other = kind([cut], lr=0.1)
    restore_optimizer(other, arrays)
    for pair in ((whole, optimizer), (cut, other)):
        steps(*pair, 5)
    assert torch.equal(whole, cut)


HARM = {
    "empty": lambda whole: b"",
    "cut": lambda whole: whole[: len(whole) // 2],
    "noise": lambda whole: b"\x9b" * len(whole),
    "flipped": lambda whole: whole[:-1] + bytes([whole[-1] ^ 1]),
    "another step": lambda whole: whole.replace(b'"step":"60"', b'"step":"61"'),
}


@pytest.fixture
def steps(tmp_path):
    """Checkpoints of iterations 20, 40 and 60."""
    for step in (20, 40, 60):
        write_tensors(step_file(tmp_path, step), {"a": np.full(3, step)}, {"step": str(step)})
    return tmp_path


@pytest.mark.parametrize("harm", HARM)
def test_the_newest_whole_checkpoint_is_taken(steps, harm):
    path = step_file(steps, 60)
    path.write_bytes(HARM[harm](path.read_bytes()))
    found, damaged = newest_step(steps)
    assert found.facts == {"step": "40"} and (found.arrays["a"] == 40).all()
    assert damaged == [path.name] and path.name in said(damaged)


def test_one_without_its_facts_is_damaged(steps):
    save_file({"a": np.ones(1)}, step_file(steps, 80))
    save_file({"a": np.ones(1)}, step_file(steps, 90), {"step": "ninety"})
    found, damaged = newest_step(steps)
    assert found.facts["step"] == "60" and len(damaged) == 2


def test_one_of_an_earlier_version_is_taken(steps):
    save_file({"a": np.ones(1)}, step_file(steps, 80), {"step": "80", "options": "{}"})
    assert newest_step(steps)[0].facts["step"] == "80"


def test_stray_names_are_passed_over_and_never_removed(steps):
    names = ["step_latest.safetensors", "step_00000099.safetensors.bak", "step_00000099 (1).safetensors", "step_x"]
    for name in names:
        (steps / name).write_text("mine")
    assert newest_step(steps)[0].facts["step"] == "60"
    drop_old(steps, 60)
    assert sorted(path.name for path in steps.iterdir()) == sorted(
        [*names, "step_00000040.safetensors", "step_00000060.safetensors"]
    )


def test_without_a_whole_one_there_is_none(steps, tmp_path):
    for path in steps.iterdir():
        path.write_bytes(b"")
    assert newest_step(steps) == (None, [f"step_000000{step}.safetensors" for step in (60, 40, 20)])
    assert newest_step(tmp_path / "nowhere") == (None, [])


def test_damaged_ones_beyond_the_present_go_with_the_next(steps):
    drop_old(steps, 40)
    assert sorted(path.name for path in steps.iterdir()) == ["step_00000020.safetensors", "step_00000040.safetensors"]
