"""What a checkpoint gives back: arrays of any shape, facts, an optimiser that goes on with the same bits."""

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from sccs.training.checkpoint import below, optimizer_values, read_tensors, restore_optimizer, write_tensors


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
