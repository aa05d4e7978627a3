"""Every test of recipes knows the toy parts."""

import pytest

import registry
from tests.sccs.recipe.toys import OtherClusterer, ToyClusterer, ToyEmbedder, ToyFeatures, ToyFile, ToyGraph


@pytest.fixture(autouse=True)
def toys(monkeypatch, tmp_path):
    """Parts of known signatures beside the real ones, and an empty working directory."""
    monkeypatch.setattr(registry.PARTS, "_entries", {role: dict(t) for role, t in registry.PARTS._entries.items()})
    for role, cls in zip(registry.ROLES, (ToyFeatures, ToyGraph, ToyEmbedder, ToyClusterer)):
        registry.register(role, "toy", cls)
    registry.register("features", "toy_file", ToyFile)
    registry.register("clusterer", "other", OtherClusterer)
    monkeypatch.chdir(tmp_path)
