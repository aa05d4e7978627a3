"""Checkpoints of a training: one safetensors file with every tensor and a few facts, and an optimiser's state in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from sccs.system.files import atomic_path

OPTIMIZER = "optimizer."  # prefix of its tensors: optimizer.<parameter's index>.<field>


def write_tensors(path: Path, values: Mapping[str, np.ndarray | torch.Tensor], facts: Mapping[str, str]) -> None:
    """Arrays and tensors of any device to `path`, whole or not at all."""
    from safetensors.numpy import save_file

    arrays = {name: value.detach().cpu().numpy() if torch.is_tensor(value) else value for name, value in values.items()}
    with atomic_path(path) as scratch:
        # unlike ascontiguousarray, require leaves an array without axes as it is
        save_file({name: np.require(value, requirements="C") for name, value in arrays.items()}, scratch, dict(facts))


def read_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Writable arrays by name, and the facts."""
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        return {name: np.array(file.get_tensor(name)) for name in file.keys()}, file.metadata()


def below(prefix: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays whose names begin with `prefix`, named by what follows it."""
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}


def optimizer_values(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """What the optimiser keeps of each parameter, named for a checkpoint."""
    return {
        f"{OPTIMIZER}{index}.{field}": value
        for index, state in optimizer.state_dict()["state"].items()
        for field, value in state.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, arrays: Mapping[str, np.ndarray]) -> None:
    """Give a fresh optimiser, over the same parameters in the same order, what a checkpoint's arrays hold of it."""
    state = optimizer.state_dict()
    for name, value in below(OPTIMIZER, arrays).items():
        index, _, field = name.partition(".")
        state["state"].setdefault(int(index), {})[field] = torch.from_numpy(value)
    optimizer.load_state_dict(state)
