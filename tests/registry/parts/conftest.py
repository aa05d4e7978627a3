"""A part of each name, built small.

It has its defaults, except for the arguments in `EVERYWHERE` that it has; one that needs more (a checkpoint, a shorter
training) gets a line in `SPECIAL`.
"""

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save

import registry
from registry.spg.graphs import RegionGraph
from tests.registry.dino_checkpoint import made_up_dino
from tests.registry.parts.small import EVERYWHERE, SPECIAL, TINY_MAE, assert_same_state, ready


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> str:
    """An untrained MAE encoder of the smallest size, as pre-training writes it."""
    from registry.mae.checkpoint import weights_hash, write_checkpoint
    from registry.mae.network import Encoder

    torch.manual_seed(0)
    architecture = {**TINY_MAE, "mlp_ratio": 2, "position_weight": 0.08}
    weights = {name: value.numpy() for name, value in Encoder(**architecture).state_dict().items()}
    path = tmp_path_factory.mktemp("checkpoint") / "encoder.safetensors"
    write_checkpoint(path, weights, {"architecture": architecture, "sha256": weights_hash(weights)})
    return str(path)


@pytest.fixture(scope="module")
def dino(tmp_path_factory) -> str:
    """A made-up checkpoint of DINO's layout."""
    path = tmp_path_factory.mktemp("dino") / "dino.pth"
    made_up_dino(path)
    return str(path)


@pytest.fixture
def arguments(checkpoint, dino):
    """arguments(role, name): what the tests give to the constructor."""

    def choose(role: str, name: str) -> dict:
        fields = registry.schema(role, name).model_fields
        chosen = {key: value for key, value in EVERYWHERE.items() if key in fields}
        if role == "features" and name in ("mae", "maester"):
            chosen["checkpoint"] = checkpoint
        if (role, name) == ("features", "concat"):
            chosen["of"] = [{"name": "mae", **TINY_MAE, "stride": 20, "checkpoint": checkpoint}, "filters"]
        if (role, name) == ("features", "vit"):
            chosen["checkpoint"] = dino
        return {**chosen, **SPECIAL.get((role, name), {})}

    return choose


@pytest.fixture
def build(arguments):
    """build(role, name): a fresh small part."""
    return lambda role, name: registry.get(role, name)(**arguments(role, name))


@pytest.fixture
def again(build):
    """again(role, name, part): another part that got `part`'s state the way a saved run hands it over."""

    def restore(role: str, name: str, part):
        state = part.get_state()
        for key, value in state.items():
            assert isinstance(value, np.ndarray) and value.dtype != object, f"{key}: {type(value)}"
            assert value.ndim > 0, f"{key}: files keep no arrays without an axis, make it (1,)"
        other = build(role, name)
        other.set_state(load(save({key: np.ascontiguousarray(value) for key, value in state.items()})))
        assert_same_state(other.get_state(), state)
        return ready(other)

    return restore


@pytest.fixture
def graphs(make_graph) -> list[RegionGraph]:
    return [make_graph(n=n, seed=seed) for seed, n in enumerate((30, 18, 25))]
