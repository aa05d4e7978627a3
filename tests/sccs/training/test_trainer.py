"""The training loop: sums, order, checkpoints, resume to the bit, interrupts."""

import itertools
import os
import signal

import numpy as np
import pytest
import torch

from registry.base import Clusterer, Embedder, UserError
from registry.clusterer.kmeans import KMeans
from registry.clusterer.mlp_incremental import MLPIncremental
from registry.embedder.identity import Identity
from registry.embedder.lgc import LGC
from registry.spg.graphs import RegionGraph
from sccs.recipe.schema import Train
from sccs.system.log import quiet_log
from sccs.training.batches import batches
from sccs.training.checkpoint import newest_step, step_file, write_tensors
from sccs.training.trainer import Trainer


def blob_graph(seed: int) -> RegionGraph:
    """Three groups of ten nodes, joined within."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(3), 10)
    features = rng.normal(0, 0.3, (30, 4)) + np.eye(3, 4)[group] * 3
    src, dst = np.nonzero(group[:, None] == group[None])
    return RegionGraph.from_edges(
        np.arange(30).reshape(1, 30), features, np.ones(30), np.zeros((30, 2)), src, dst, np.full(len(src), 0.5)
    )


@pytest.fixture
def graphs():
    return [blob_graph(seed) for seed in range(5)]


def make(graphs, checkpoints=None, embedder=None, clusterer=None, seed=0, **options) -> Trainer:
    embedder = embedder or LGC(u=3, channels=[4], seed=seed)
    clusterer = clusterer or MLPIncremental(k=3, warmup=10, update_every=4, seed=seed)
    embedder.fit(graphs)
    settings = Train(**{"iterations": 60, "log_every": 10, "checkpoint_every": 20, **options})
    return Trainer(embedder, clusterer, graphs, settings, seed=seed, log=quiet_log(), checkpoints=checkpoints)


def states(trainer: Trainer) -> dict[str, np.ndarray]:
    return {**trainer.embedder.get_state(), **trainer.clusterer.get_state()}


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def test_training_finds_the_groups_alike_in_every_graph(graphs):
    trainer = make(graphs, iterations=300)
    trainer.run()
    found = [trainer.clusterer.predict(g, trainer.embedder.embed(g)).argmax(1).numpy() for g in graphs]
    assert all(np.array_equal(found[0], other) for other in found)
    assert len({tuple(set(found[0][i : i + 10])) for i in (0, 10, 20)}) == 3


def test_same_seed_same_bits_other_seed_others(graphs):
    results = []
    for seed in (0, 0, 1):
        trainer = make(graphs, seed=seed)
        trainer.run()
        results.append(states(trainer))
    assert same(results[0], results[1]) and not same(results[0], results[2])


@pytest.mark.parametrize("stop", [7, 20, 33])
def test_resume_after_an_interrupt_gives_the_same_bits(graphs, tmp_path, stop):
    whole = make(graphs)
    whole.run()
    broken = make(graphs, tmp_path)
    iterate = broken._iterate

    def interrupted(frozen):
        if broken.step == stop:
            os.kill(os.getpid(), signal.SIGTERM)
        return iterate(frozen)

    broken._iterate = interrupted
    with pytest.raises(KeyboardInterrupt):
        broken.run()
    resumed = make(graphs, tmp_path)
    resumed.run(resume=True)
    assert same(states(whole), states(resumed))


def test_resume_from_an_older_checkpoint_after_a_kill(graphs, tmp_path):
    whole = make(graphs)
    whole.run()
    make(graphs, tmp_path).run()
    last = max(tmp_path.glob("step_*"))
    assert last.name == "step_00000060.safetensors" and len(list(tmp_path.glob("step_*"))) == 2
    last.unlink()
    resumed = make(graphs, tmp_path)
    resumed.run(resume=True)
    assert same(states(whole), states(resumed))


def test_weights_of_the_recipe_scale_the_terms(graphs):
    trainer = make(graphs, iterations=20, weights={"spe": 2.0, "clu": 3.0, "smo": 0.0})
    terms = {}
    report = trainer._report
    trainer._report = lambda values: terms.update(values) or report(values)
    trainer.run()
    assert terms["total"].item() == pytest.approx(2 * terms["spe"].item() + 3 * terms["clu"].item(), rel=1e-5)


def test_every_part_runs_through_a_schedule_of_its_own(graphs):
    trainer = make(graphs, iterations=100, lr=0.1, schedule="cosine")
    assert [trainer.learning_rate(step) for step in (0, 5, 10, 99)] == pytest.approx([0.1, 0.0505, 0.001, 0.001])
    head = [trainer.learning_rate(step, "clusterer") for step in (0, 10, 55, 100)]  # its warm-up is 10
    assert head == pytest.approx([0.1, 0.1, 0.0505, 0.001])
    alone = make(graphs, clusterer=KMeans(k=3), iterations=100, lr=0.1, schedule="cosine")
    assert [alone.learning_rate(step) for step in (0, 50, 100)] == pytest.approx([0.1, 0.0505, 0.001])


def test_the_optimiser_steps_each_part_at_its_own_rate(graphs):
    trainer = make(graphs, iterations=60, lr=0.1, schedule={"embedder": "cosine", "clusterer": "constant"})
    rates = []
    iterate = trainer._iterate

    def watched(frozen):
        terms = iterate(frozen)
        rates.append([group["lr"] for group in trainer.optimizer.param_groups])
        return terms

    trainer._iterate = watched
    trainer.run()
    embedder, clusterer = zip(*rates)
    assert embedder[0] == 0.1 and embedder[-1] < 0.002 and set(clusterer) == {0.1}


def test_frozen_embedding_with_neural_clustering(graphs):
    trainer = make(graphs, embedder=Identity(), iterations=100)
    trainer.run()
    assert trainer.clusterer.begun


@pytest.mark.parametrize(
    "options, embedder, word",
    [
        ({"iterations": 10}, None, "clusterer.warmup: 10 leaves none of train.iterations: 10 to train the head"),
        ({"iterations": 0}, None, "train.iterations: 0 leaves the clusterer untrained"),
        ({"iterations": 0}, Identity(), "train.iterations: 0 leaves the clusterer untrained"),
    ],
)
def test_a_training_that_never_reaches_the_head_is_refused(graphs, options, embedder, word):
    with pytest.raises(UserError, match=word):
        make(graphs, embedder=embedder, **options)


def test_the_last_iteration_may_be_the_heads_first(graphs):
    trainer = make(graphs, iterations=11)
    trainer.run()
    assert trainer.clusterer.begun


def test_warm_up_is_for_trained_embeddings_only(graphs):
    trainer = make(graphs, embedder=Identity(), iterations=5)
    trainer.run()
    assert trainer.clusterer.begun


def test_an_embedder_may_stay_as_it_started(graphs):
    trainer = make(graphs, clusterer=KMeans(k=3), iterations=0)
    start = trainer.embedder.get_state()
    trainer.run()
    assert same(trainer.embedder.get_state(), start)


def test_an_interrupt_during_the_last_preview_is_not_lost(graphs, tmp_path):
    trainer = make(graphs, tmp_path)

    def preview(step):
        if step == 60:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        trainer.run(preview=preview)
    assert (tmp_path / "step_00000060.safetensors").exists()


def test_after_step_comes_for_every_graph_of_a_batch(graphs):
    trainer = make(graphs, iterations=20, batch=2)
    calls = []
    trainer.embedder.after_step = lambda step, graph, Z: calls.append((step, graphs.index(graph), Z))
    trainer.run()
    drawn = batches(graphs, 2, trainer.seed)
    assert [call[:2] for call in calls] == [(step, index) for step in range(20) for index in next(drawn)]
    assert all((Z is None) == (step < 10) for step, _, Z in calls)  # L_spe of shared columns asks for none
    assert not any(Z.requires_grad for step, _, Z in calls if step >= 10)


def test_an_embedding_that_a_loss_needs_is_there_from_the_first_step(graphs):
    trainer = make(graphs, embedder=LGC(u=3, channels=[4], columns="graph", scale="graph", seed=0), iterations=20)
    seen = []
    trainer.embedder.after_step = lambda step, graph, Z: seen.append(Z.shape)
    trainer.run()
    assert seen == [(30, 3)] * 20


def test_the_warmup_has_graphs_of_its_own_where_there_are_some(graphs):
    for number, graph in enumerate(graphs):
        graph.warmup = blob_graph(100 + number)
    trainer = make(graphs, embedder=LGC(u=3, channels=[4], columns="graph", scale="graph", seed=0), iterations=20)
    seen = []
    trainer.embedder.after_step = lambda step, graph, Z: seen.append(graph)
    trainer.run()
    drawn = [graphs[index] for indices in itertools.islice(batches(graphs, 1, trainer.seed), 20) for index in indices]
    assert seen == [graph.warmup if step < 10 else graph for step, graph in enumerate(drawn)]


class Scale(torch.nn.Module, Embedder):
    """A trainable embedder written from the protocol alone."""

    trainable = True
    terms = ("norm",)

    def fit(self, graphs):
        self.factor = torch.nn.Parameter(torch.ones(1))

    def embed(self, graph):
        return graph.feature * self.factor

    def loss(self, graph, Z):
        return {"norm": (Z.square().mean() - 1).square()}

    def get_state(self):
        return {"factor": self.factor.detach().numpy()}

    def set_state(self, state):
        self.factor = torch.nn.Parameter(torch.from_numpy(state["factor"]))


class Softmax(torch.nn.Module, Clusterer):
    """A trainable clusterer written from the protocol alone."""

    trainable = True
    terms = ("entropy",)
    k = 3

    def prepare(self, u, device):
        self.layer = torch.nn.Linear(u, self.k, device=device)

    def predict(self, graph, Z):
        return self.layer(Z).softmax(1)

    def loss(self, graph, Z):
        P = self.predict(graph, Z)
        return {"entropy": -(P * P.log()).sum(1).mean()}

    def get_state(self):
        return {name: value.detach().numpy() for name, value in self.layer.state_dict().items()}

    def set_state(self, state):
        self.layer = torch.nn.Linear(*state["weight"].shape[::-1])
        self.layer.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})


def test_parts_that_override_the_least_train_and_resume_to_the_bit(graphs, tmp_path):
    results = []
    for stop in (None, 20):
        trainer = make(graphs, tmp_path / str(stop), Scale(), Softmax(), iterations=stop or 40)
        trainer.run()
        if stop:
            trainer = make(graphs, tmp_path / str(stop), Scale(), Softmax(), iterations=40)
            trainer.run(resume=True)
        results.append(states(trainer))
    assert same(*results) and results[0]["factor"] != 1


@pytest.mark.gpu
def test_training_on_a_gpu(graphs, tmp_path):
    there = [graph.to("cuda:0") for graph in graphs]
    trainer = make(there, tmp_path, iterations=40)
    trainer.run()
    resumed = make(there, tmp_path, iterations=60)
    resumed.run(resume=True)
    P = resumed.clusterer.predict(there[0], resumed.embedder.embed(there[0]))
    assert resumed.step == 60 and P.is_cuda and P.shape == (30, 3)


def test_nothing_to_train(graphs):
    trainer = make(graphs, embedder=Identity(), clusterer=KMeans(k=3))
    trainer.run()
    assert trainer.step == 0


def test_diverging_loss_is_said(graphs):
    trainer = make(graphs)
    trainer.options = trainer.options.model_copy(update={"lr": 1e30})  # beyond what a recipe may say
    with pytest.raises(UserError, match="lower train.lr"):
        trainer.run()


def test_modules_are_left_in_evaluation_mode(graphs):
    trainer = make(graphs, iterations=12)
    trainer.run()
    assert not any(module.training for module in trainer.modules if isinstance(module, torch.nn.Module))


def test_resume_from_the_older_checkpoint_where_the_newest_is_damaged(graphs, tmp_path, caplog):
    whole = make(graphs)
    whole.run()
    make(graphs, tmp_path, iterations=60).run()
    last = max(tmp_path.glob("step_*"))
    last.write_bytes(last.read_bytes()[:-100])
    resumed = make(graphs, tmp_path)
    with caplog.at_level("INFO", "sccs"):
        resumed.run(resume=True)
    assert same(states(whole), states(resumed))
    assert (
        "resumed at iteration 40 from step_00000040.safetensors (skipped as damaged: step_00000060.safetensors)"
        in caplog.messages
    )
    assert newest_step(tmp_path)[0].facts["step"] == "60"  # written anew


def test_training_starts_anew_where_every_checkpoint_is_damaged(graphs, tmp_path, caplog):
    whole = make(graphs)
    whole.run()
    make(graphs, tmp_path).run()
    for path in tmp_path.glob("step_*"):
        path.write_bytes(b"")
    resumed = make(graphs, tmp_path)
    resumed.run(resume=True)
    assert same(states(whole), states(resumed)) and "training starts at iteration 0" in caplog.text


def test_a_checkpoint_of_other_arrays_is_said_in_one_line(graphs, tmp_path):
    write_tensors(step_file(tmp_path, 40), {"embedder.other": np.ones(3)}, {"step": "40"})
    with pytest.raises(UserError, match="step_00000040.safetensors: saved by another version of sccs"):
        make(graphs, tmp_path).run(resume=True)
