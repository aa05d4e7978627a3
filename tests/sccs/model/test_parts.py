"""Nodes and features from the cache: what makes them anew, and what does not."""

from pathlib import Path

import numpy as np
import pytest

from registry.base import FeatureMap, Features
from registry.features.contrast import Contrast
from sccs.pipeline import Pipeline
from sccs.system import cache
from tests.registry.parts.small import assert_same_state, grey
from tests.sccs.three_greys import RECIPE, three_greys


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("SCCS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("graph, kept", [("superpixel", "nodes"), ("pixel", "features")])
def test_nodes_are_kept_or_features_where_nodes_are_too_large(folder, graph, kept):
    recipe = {**RECIPE, "graph": graph, "embedder": "identity", "clusterer": {"name": "kmeans", "k": 3}}
    Pipeline.from_recipe(recipe).fit([three_greys()])
    assert [path.name for path in folder.iterdir()] == [kept]
    assert len(list(folder.rglob("*.safetensors"))) == 2  # one a slice


def test_a_cache_that_cannot_be_written_is_warned_of_once(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SCCS_CACHE", str(tmp_path / "file" / "cache"))
    image = ((three_greys(9)[0] - 120) / 50).astype(np.float32)
    for _ in range(2):
        Pipeline.from_recipe(RECIPE).pool(image)
    warned = [message for message in caplog.messages if "cannot be written" in message]
    assert len(warned) == 1 and "SCCS_CACHE" in warned[0]


class Learned(Features):
    """A part whose result depends on what it learned, which only its state tells."""

    factor = np.ones(1, np.float32)

    def extract(self, image):
        return FeatureMap((image * self.factor)[..., None], 1.0, 0.0, image.shape)

    def get_state(self):
        return {"factor": self.factor}


def test_what_a_part_learned_seed_and_code_are_in_the_key():
    image = np.zeros((20, 20), np.float32)
    model = Pipeline.from_recipe(RECIPE)
    model.features = Learned()
    first = model._features_key(image)
    assert first == model._features_key(image.copy())
    model.features.factor = np.full(1, 2, np.float32)
    assert model._features_key(image) not in (first, None)


def test_a_part_whose_source_is_not_there_is_not_kept(folder):
    scope = {"Learned": Learned, "__name__": "typed_in"}
    exec("class Typed(Learned): pass", scope)
    assert cache.code_version(scope["Typed"]) is None
    model = Pipeline.from_recipe(RECIPE)
    model.features = scope["Typed"]()
    model.pool(np.random.default_rng(0).random((40, 40), np.float32))
    assert not list(folder.rglob("*.safetensors"))


def test_only_code_counts_not_what_is_said_of_it():
    assert cache.code_only('def f(x):\n    """Old."""\n    return x  # old\n') == cache.code_only("def f(x): return x")
    assert cache.code_only("def f(x): return x") != cache.code_only("def f(x): return -x")
    one, other = (f"def f(x):\n    if x:\n        raise UserError({text})" for text in ("'no'", "f'not {x}'"))
    assert cache.code_only(one) == cache.code_only(other)


@pytest.mark.parametrize("within", ["alone", "concat"])
def test_what_features_learn_in_steps_is_kept_by_images_arguments_and_seed(folder, monkeypatch, caplog, within):
    trained, fit = [], Contrast.fit
    monkeypatch.setattr(Contrast, "fit", lambda self, images: trained.append(1) or fit(self, images))
    small = {"name": "contrast", "width": 4, "q": 6, "steps": 2, "batch": 2, "places": 4, "crop": 32}

    def learned(shape=(64, 64), seed=0, k=3, **changes):
        block = {**small, **changes}
        features = block if within == "alone" else {"name": "concat", "of": [block, "intensity"]}
        recipe = {**RECIPE, "features": features, "seed": seed, "clusterer": {"name": "kmeans", "k": k}}
        model = Pipeline.from_recipe(recipe)
        model.learn([grey(shape)])
        return model.features.get_state()

    caplog.set_level("INFO", logger="sccs")
    first = learned()
    assert "using the cache" not in caplog.text
    assert_same_state(learned(), first)
    assert "already learned from these images: using the cache" in caplog.text
    assert_same_state(learned(k=5), first)
    assert len(trained) == 1 and len(list(folder.rglob("learned/*/*.safetensors"))) == 1
    for changes in ({"shape": (64, 72)}, {"seed": 1}, {"steps": 3}):
        learned(**changes)
    assert len(trained) == 4


def test_what_features_learn_is_computed_anew_without_a_cache(monkeypatch):
    monkeypatch.setenv("SCCS_CACHE", "off")
    model = Pipeline.from_recipe({**RECIPE, "features": {"name": "contrast", "steps": 2, "crop": 32, "width": 4}})
    model.learn([grey((64, 64))])
    assert model.extract(grey((64, 64))).q == 128
