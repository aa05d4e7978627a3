"""Training checkpoints: one safetensors file with every tensor, a few facts, and the optimiser's state."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from sccs.system.tensors import Damaged, read_arrays, write_arrays

OPTIMIZER = "optimizer."  # prefix of its tensors: optimizer.<parameter's index>.<field>
KEPT = 2  # checkpoints to keep, in case the newest is damaged


def write_tensors(path: Path, values: Mapping[str, np.ndarray | torch.Tensor], facts: Mapping[str, str]) -> None:
    """Write arrays and tensors of any device to `path` atomically."""
    arrays = {name: value.detach().cpu().numpy() if torch.is_tensor(value) else value for name, value in values.items()}
    write_arrays(path, arrays, facts)


def read_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Writable arrays by name, and the facts; accepts checkpoints of earlier versions, which have no checksum.

    Raises Damaged, a UserError, if it differs from what was written.
    """
    return read_arrays(path, unchecked=True)


@dataclass(frozen=True)
class Checkpoint:
    """The content of an intact checkpoint."""

    path: Path
    arrays: dict[str, np.ndarray]
    facts: dict[str, str]


def newest_whole(paths: Iterable[Path], needed: Mapping[str, type]) -> tuple[Checkpoint | None, list[str]]:
    """The first intact one of `paths`, newest first, if any; and the names of newer, damaged ones.

    needed: facts that a checkpoint must have, with the type of their text.
    """
    damaged = []
    for path in paths:
        try:
            arrays, facts = read_tensors(path)
            for name, kind in needed.items():
                kind(facts[name])
        except FileNotFoundError:
            continue
        except (Damaged, KeyError, ValueError):
            damaged.append(path.name)
        else:
            return Checkpoint(path, arrays, facts), damaged
    return None, damaged


def said(damaged: Sequence[str]) -> str:
    """Log text on damaged checkpoints, "" without any."""
    return f" (skipped as damaged: {', '.join(damaged)})" if damaged else ""


def step_file(folder: Path, step: int) -> Path:
    """The checkpoint of an iteration."""
    return folder / f"step_{step:08d}.safetensors"


def step_files(folder: Path) -> dict[int, Path]:
    """Iteration -> checkpoint, in ascending order; other names in the folder are ignored."""
    names = {path: re.fullmatch(r"step_(\d{8,})\.safetensors", path.name) for path in folder.glob("step_*")}
    return dict(sorted((int(match[1]), path) for path, match in names.items() if match))


def newest_step(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest intact checkpoint of a folder, and the names of newer, damaged ones."""
    return newest_whole(reversed(step_files(folder).values()), {"step": int})


def drop_old(folder: Path, step: int) -> None:
    """Keep the newest checkpoints up to `step`; later ones must be damaged, as training resumed before them."""
    files = step_files(folder)
    kept: Sequence[int] = [number for number in files if number <= step][-KEPT:]
    for number, path in files.items():
        if number not in kept:
            path.unlink(missing_ok=True)


def below(prefix: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays whose names start with `prefix`, with the prefix removed."""
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}


def optimizer_values(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The optimiser's state of each parameter, named for a checkpoint."""
    return {
        f"{OPTIMIZER}{index}.{field}": value
        for index, state in optimizer.state_dict()["state"].items()
        for field, value in state.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, arrays: Mapping[str, np.ndarray]) -> None:
    """Restore the state of a fresh optimiser over the same parameters in the same order from a checkpoint's arrays."""
    state = optimizer.state_dict()
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for name, value in below(OPTIMIZER, arrays).items():
        index, _, field = name.partition(".")
        tensor, like = torch.from_numpy(value), parameters[int(index)]
        if tensor.shape == like.shape:  # same memory layout as the parameter, which fused optimisers require
            tensor = torch.empty_like(like, dtype=tensor.dtype, device="cpu", requires_grad=False).copy_(tensor)
        state["state"].setdefault(int(index), {})[field] = tensor
    optimizer.load_state_dict(state)
