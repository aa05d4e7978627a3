"""What a run costs: memory is counted where the system counts it, learning is extrapolated."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from registry.base import Features
from sccs.init import cost
from sccs.init.cost import peak_memory
from sccs.pipeline import Pipeline


def test_memory_is_told_where_the_system_does_not_count_it(monkeypatch):
    assert peak_memory() > 2**24
    monkeypatch.setitem(sys.modules, "resource", None)  # Windows has none
    assert peak_memory() == 2**30


class Slow(Features):
    """Learns in steps of a tenth of a second, after a second of loading."""

    steps, loaded = 100, False

    def __init__(self, clock):
        self.clock = clock

    def fit(self, images):
        self.clock.now += 0.1 * self.steps + (not self.loaded)
        self.loaded = True


def test_training_is_extrapolated_from_a_few_iterations(monkeypatch):
    """Ten seconds of preparations, then .01 s per iteration."""
    clock, ran = SimpleNamespace(now=0.0), []

    class Instant:
        def __init__(self, embedder, clusterer, graphs, options, **_):
            assert len(graphs) == 3
            self.now = (options.iterations, clusterer.warmup)

        def run(self):
            ran.append(self.now)
            clock.now += 10 + 0.01 * self.now[0]

    pipeline = Pipeline.from_recipe("sccs", ["features=intensity"])
    monkeypatch.setattr(pipeline.embedder, "fit", lambda graphs: None)
    monkeypatch.setattr("sccs.training.trainer.Trainer", Instant)
    monkeypatch.setattr(cost, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    assert cost.time_training(pipeline, None, 3) == pytest.approx(70)
    assert ran == [(30, 7), (150, 37)] and pipeline.clusterer.warmup == 1500


def test_learning_is_extrapolated_from_a_few_steps_and_the_trial_is_told_apart(monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(cost, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    part = Slow(clock)
    estimate, trial = cost.time_learning(part, np.zeros((8, 8), np.float32))
    assert estimate == pytest.approx(10) and trial == pytest.approx(1 + 0.1 + 0.1 * cost.TRIED)
    assert part.steps == 100
    assert cost.time_learning(Features(), np.zeros((8, 8), np.float32)) == (0, 0)
