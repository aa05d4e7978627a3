"""What every registered part must keep to, whoever wrote it: one test for each promise, run over all parts of a role.

A new part is tested as soon as it is registered. It is built with its defaults, except for the arguments in
`EVERYWHERE` that it has; one that needs more (a checkpoint, a shorter training) gets a line in `SPECIAL`.
"""

import inspect
import re

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save
from sklearn.base import clone

import registry
from registry.base import FeatureMap, FeatureStack, UserError
from registry.spg.graphs import Nodes, RegionGraph
from tests.registry.dino_checkpoint import made_up_dino

EVERYWHERE = {"seed": 0, "k": 3, "u": 3}
TINY_MAE = {"window": 20, "patch": 5, "width": 8, "depth": 1, "heads": 1}
SPECIAL = {
    ("features", "mae"): {**TINY_MAE, "stride": 20},
    ("features", "maester"): {**TINY_MAE, "central": 2},
    ("features", "segmenter"): {"checkpoint": None, "depth": 1, "steps": 2, "batch": 2},
    ("clusterer", "class_scores"): {"k": 5},
    ("features", "vae"): {"patch": 8, "channels": [4, 8], "hidden": 16, "steps": 3, "batch": 4},
}
SHAPES = [(80, 80), (83, 121), (160, 96), (97, 80)]  # (H, W) of a FOV
EMBEDDED = 4  # coordinates of the Z that clusterers are given

PARTS = [(role, name) for role in registry.ROLES for name in registry.available(role)]
every_part = pytest.mark.parametrize("role, name", PARTS)


def every(role: str):
    return pytest.mark.parametrize("name", registry.available(role))


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


def assert_same_state(one: dict, other: dict) -> None:
    assert one.keys() == other.keys()
    for key in one:
        assert one[key].dtype == other[key].dtype, key
        np.testing.assert_array_equal(one[key], other[key], err_msg=key)


def ready(part):
    """Trained parts are asked in evaluation mode."""
    return part.eval() if isinstance(part, torch.nn.Module) else part


def grey(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    """A standardised image (H, W) float32 of smooth blobs and noise."""
    from scipy.ndimage import gaussian_filter

    noise = np.random.default_rng(seed).normal(size=shape)
    image = 6 * gaussian_filter(noise, 6) + 0.3 * noise
    return ((image - image.mean()) / image.std()).astype(np.float32)


def feature_map(shape: tuple[int, int], q: int = 3, seed: int = 0) -> FeatureMap:
    h, w = (-(-side // 5) for side in shape)
    values = np.random.default_rng(seed).normal(size=(h, w, q)).astype(np.float32)
    return FeatureMap(values, 5.0, 2.0, shape)


def maps_of(features: FeatureMap | FeatureStack) -> tuple[FeatureMap, ...]:
    return features.maps if isinstance(features, FeatureStack) else (features,)


def values_of(features: FeatureMap | FeatureStack) -> list[np.ndarray]:
    return [each.values for each in maps_of(features)]


def without_edges(n: int = 7, d: int = 6) -> RegionGraph:
    feature, none = np.random.default_rng(0).normal(size=(n, d)), np.zeros(0, np.int64)
    return RegionGraph.from_edges(np.arange(n).reshape(1, n), feature, np.ones(n), np.zeros((n, 2)), none, none, none)


def fit_features(part, images: list[np.ndarray]):
    """Fit features; a supervised part gets bright and dark as two classes, and a border without labels."""
    if not part.supervised:
        part.fit(images)
        return part
    labels = [(image > 0).astype(np.int32) for image in images]
    for label in labels:
        label[:, :3] = -1
    part.fit(images, labels)
    return part


@pytest.fixture
def graphs(make_graph) -> list[RegionGraph]:
    return [make_graph(n=n, seed=seed) for seed, n in enumerate((30, 18, 25))]


def coordinates(graph: RegionGraph, seed: int = 0) -> torch.Tensor:
    """Z (n, EMBEDDED) in three groups."""
    rng = np.random.default_rng(seed)
    Z = 4 * np.eye(3, EMBEDDED)[np.arange(graph.n) % 3] + 0.3 * rng.normal(size=(graph.n, EMBEDDED))
    return torch.from_numpy(Z).float()


# ------------------------------------------------------------------------------------------------------- every part
@every_part
def test_arguments_are_keyword_only_and_have_defaults(role, name):
    cls = registry.get(role, name)
    fields = registry.schema(role, name).model_fields  # raises for arguments that are positional or have no type
    assert [key for key, field in fields.items() if field.is_required()] == []
    with pytest.raises(TypeError):
        cls(1)


@every_part
def test_defaults_pass_their_own_schema(role, name):
    model = registry.schema(role, name)
    model.model_validate({key: field.default for key, field in model.model_fields.items()})


@every_part
def test_arguments_are_stored_as_they_are(role, name, arguments):
    given = arguments(role, name)
    part = registry.get(role, name)(**given)
    for key, field in registry.schema(role, name).model_fields.items():
        assert getattr(part, key) == given.get(key, field.default), key


@every_part
def test_arguments_are_read_set_and_cloned_as_scikit_learn_does(role, name, arguments):
    part = registry.get(role, name)(**arguments(role, name))
    held = part.get_params()
    assert held.keys() == registry.schema(role, name).model_fields.keys()
    assert clone(part).get_params() == held
    assert part.set_params(**held) is part and part.get_params() == held
    with pytest.raises(UserError, match="has no argument 'nonsense'"):
        part.set_params(nonsense=1)


@every_part
def test_docstring_tells_every_argument(role, name):
    cls = registry.get(role, name)
    text = " ".join(base.__doc__ or "" for base in cls.__mro__ if not base.__module__.startswith("torch"))
    assert cls.__doc__
    # `seed` means the same everywhere: the run's, unless the recipe says another
    keys = registry.schema(role, name).model_fields.keys() - {"seed"}
    assert [key for key in sorted(keys) if not re.search(rf"\b{key}\b", text)] == []


@every_part
def test_described_in_one_line_and_documented_module(role, name):
    line = registry.available(role)[name]
    assert line and "\n" not in line
    assert inspect.getmodule(registry.get(role, name)).__doc__


# --------------------------------------------------------------------------------------------------------- features
@every("features")
@pytest.mark.parametrize("shape", SHAPES)
def test_features_are_finite_and_cover_the_image(name, shape, build):
    image = grey(shape)
    before = image.copy()
    part = fit_features(build("features", name), [grey((80, 80), seed=1)])
    whole = part.extract(image)
    assert whole.shape == shape and whole.q == sum(features.q for features in maps_of(whole))
    for features in maps_of(whole):
        h, w, q = features.values.shape
        assert features.values.dtype == np.float32 and np.isfinite(features.values).all()
        assert features.shape == shape and features.q == q >= 1
        for tokens, side in ((h, shape[0]), (w, shape[1])):
            assert features.offset + features.step * (tokens - 1) + features.step / 2 >= side - 1
            assert features.offset - features.step / 2 <= 0
    assert np.array_equal(image, before)


@every("features")
def test_features_repeat_themselves_and_survive_saving(name, build, again):
    image = grey((83, 121))
    parts = []
    for number in range(2):
        torch.manual_seed(number)
        np.random.seed(number)
        parts.append(fit_features(build("features", name), [grey((80, 80), seed=1)]))
    first, second = (values_of(part.extract(image)) for part in parts)
    restored = again("features", name, parts[0])
    for other in (second, values_of(parts[0].extract(image)), values_of(restored.extract(image))):
        assert all(map(np.array_equal, first, other))
    assert restored.fingerprint() == parts[0].fingerprint() == parts[1].fingerprint()


# ------------------------------------------------------------------------------------------------------------ graphs
@every("graph")
@pytest.mark.parametrize("shape", SHAPES)
def test_nodes_are_complete(name, shape, build):
    features = feature_map(shape)
    nodes = build("graph", name).pool(grey(shape), features)
    n = nodes.n
    assert nodes.regions.shape == shape and nodes.regions.dtype == np.int32
    assert np.array_equal(np.unique(nodes.regions), np.arange(n))
    assert nodes.feature.shape[0] == n and nodes.feature.shape[1] in (features.q, 2 * features.q)
    assert nodes.area.shape == (n,) and nodes.centroid.shape == (n, 2)
    for values in (nodes.feature, nodes.area, nodes.centroid):
        assert values.dtype == np.float32 and np.isfinite(values).all()
    assert np.array_equal(nodes.area, np.bincount(nodes.regions.ravel()))
    assert ((nodes.centroid >= 0) & (nodes.centroid <= np.array(shape) - 1)).all()
    low, high = nodes.touching
    assert nodes.touching.dtype == np.int64 and (low < high).all() and (high < n).all()
    unchanged = Nodes.from_arrays(load(save(nodes.to_arrays())))
    assert all(np.array_equal(value, unchanged.to_arrays()[key]) for key, value in nodes.to_arrays().items())


@every("graph")
def test_affinity_is_symmetric_and_each_edge_stands_once(name, build):
    part = build("graph", name)
    image, features = grey((83, 121)), feature_map((83, 121))
    part.fit([part.pool(image, features)])
    graph = part.build(image, features)
    src, dst = graph.edges
    assert src.dtype == dst.dtype == torch.int64 and graph.affinity.shape == src.shape
    assert graph.feature.dtype == graph.affinity.dtype == torch.float32
    assert torch.isfinite(graph.feature).all() and (graph.affinity > 0).all() and (graph.affinity <= 1).all()
    there, back = src * graph.n + dst, dst * graph.n + src
    assert len(torch.unique(there)) == len(there)
    order, mirrored = there.argsort(), back.argsort()
    assert torch.equal(there[order], back[mirrored])
    assert torch.equal(graph.affinity[order], graph.affinity[mirrored])
    loops = int((src == dst).sum())
    assert loops == (graph.n if len(src) else 0)
    assert np.isfinite(graph.propagate(graph.feature).numpy()).all()


@every("graph")
def test_graphs_repeat_themselves_and_survive_saving(name, build, again):
    shape = (83, 121)
    part, twin = build("graph", name), build("graph", name)
    nodes = [part.pool(grey(shape, seed), feature_map(shape, seed=seed)) for seed in range(2)]
    for each in (part, twin):
        each.fit(nodes)
    graph = part.connect(nodes[1])
    for other in (twin, again("graph", name, part)):
        same = other.build(grey(shape, 1), feature_map(shape, seed=1))
        assert np.array_equal(same.regions, graph.regions) and torch.equal(same.feature, graph.feature)
        assert all(map(torch.equal, same.edges, graph.edges)) and torch.equal(same.affinity, graph.affinity)


@every("graph")
@pytest.mark.parametrize("fit_on_it", [True, False])
def test_one_node_and_nodes_all_alike_make_a_graph(name, fit_on_it, build):
    part = build("graph", name)
    one = Nodes(
        np.zeros((8, 9), np.int32),
        np.ones((1, 6), np.float32),
        np.full(1, 72, np.float32),
        np.full((1, 2), 4, np.float32),
        np.zeros((2, 0), np.int64),
    )
    alike = Nodes(
        np.arange(8, dtype=np.int32).reshape(1, 8),
        np.ones((8, 6), np.float32),
        np.ones(8, np.float32),
        np.zeros((8, 2), np.float32),
        np.stack([np.arange(7), np.arange(1, 8)]),
    )
    varied = Nodes(
        alike.regions,
        np.random.default_rng(0).normal(size=(8, 6)).astype(np.float32),
        alike.area,
        alike.centroid,
        alike.touching,
    )
    for nodes in (one, alike):
        part.fit([nodes] if fit_on_it else [varied])
        graph = part.connect(nodes)
        assert graph.n == nodes.n and np.array_equal(graph.regions, nodes.regions)
        assert torch.isfinite(graph.feature).all() and torch.isfinite(graph.affinity).all()


@every("graph")
def test_graphs_without_any_training_node_are_refused(name, build):
    with pytest.raises(UserError, match="data.train"):
        build("graph", name).fit([])


# --------------------------------------------------------------------------------------------------------- embedders
@every("embedder")
def test_coordinates_have_a_row_for_each_node(name, build, graphs):
    part = build("embedder", name)
    part.fit(graphs)
    for graph in graphs:
        Z = ready(part).embed(graph).detach()
        assert Z.shape == (graph.n, getattr(part, "u", graph.feature.shape[1]))
        assert Z.dtype == torch.float32 and Z.device == graph.device and torch.isfinite(Z).all()


@every("embedder")
def test_the_same_seed_gives_the_same_coordinates_and_saving_keeps_them(name, build, again, graphs):
    parts = [build("embedder", name) for _ in range(2)]
    for number, part in enumerate(parts):
        torch.manual_seed(number)  # a part has its own seed, whatever the global one is
        part.fit(graphs)
    first, second = (ready(part).embed(graphs[1]) for part in parts)
    assert torch.equal(first, second)
    assert torch.equal(again("embedder", name, parts[0]).embed(graphs[1]), first)


@every("embedder")
@pytest.mark.parametrize("n", [1, 2])
def test_tiny_graphs_have_coordinates_too(name, n, build, graphs, make_graph):
    part = build("embedder", name)
    part.fit(graphs)
    Z = ready(part).embed(make_graph(n=n)).detach()
    assert len(Z) == n and torch.isfinite(Z).all()


@every("embedder")
def test_graphs_without_edges_have_coordinates_too(name, build, graphs):
    for training in (graphs, [without_edges()]):
        part = build("embedder", name)
        part.fit(training)
        assert torch.isfinite(ready(part).embed(without_edges()).detach()).all()


@every("embedder")
def test_fewer_features_than_coordinates_will_do(name, build, make_graph):
    graphs = [make_graph(n=20, d=2, seed=seed) for seed in range(2)]
    part = build("embedder", name)
    part.fit(graphs)
    Z = ready(part).embed(graphs[0]).detach()
    assert Z.shape == (20, getattr(part, "u", 2)) and torch.isfinite(Z).all()


@every("embedder")
def test_a_channel_that_never_varies_does_no_harm(name, build, make_graph):
    """The deviation of grey values in one-pixel regions, say: the graph part sets such a channel to zero."""
    graph = make_graph(n=20, d=2)
    graph.feature = graph.feature * torch.tensor([1.0, 0.0])
    part = build("embedder", name)
    part.fit([graph])
    for step in range(3 if part.trainable else 0):
        part.after_step(step, graph, part.train().embed(graph).detach())
    assert torch.isfinite(ready(part).embed(graph).detach()).all()


@every("embedder")
def test_trainable_embedders_offer_losses_and_learn(name, build, graphs):
    part = build("embedder", name)
    if not part.trainable:
        pytest.skip("nothing to train")
    part.fit(graphs)
    part.train()
    Z = part.embed(graphs[0])
    terms = part.loss(graphs[0], Z)
    assert terms and all(value.ndim == 0 and torch.isfinite(value) for value in terms.values())
    assert set(terms) == set(part.terms)
    sum(terms.values()).backward()
    gradients = [parameter.grad for parameter in part.parameters()]
    assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in gradients)
    assert any(gradient.any() for gradient in gradients)
    part.after_step(0, graphs[0], Z.detach())


# -------------------------------------------------------------------------------------------------------- clusterers
def pixels_of_three_classes(graph: RegionGraph) -> np.ndarray:
    """Labels (n, 3) for a supervised clusterer: the groups of `coordinates`, every fifth node without a label."""
    labels = np.eye(3, dtype=np.int64)[np.arange(graph.n) % 3]
    labels[4::5] = 0
    return labels


def cluster(part, graphs: list[RegionGraph]):
    """Fit a clusterer; a trainable one gets as much training as makes every kind of state."""
    embeddings = [coordinates(graph, seed) for seed, graph in enumerate(graphs)]
    if part.supervised:
        part.fit(graphs, embeddings, [pixels_of_three_classes(graph) for graph in graphs])
        return part
    if not part.trainable:
        part.fit(graphs, embeddings)
        return part
    part.prepare(EMBEDDED, graphs[0].device)
    part.begin(graphs[0], embeddings[0])
    for graph, Z in zip(graphs, embeddings):
        terms = part.loss(graph, Z)
        assert terms and all(value.ndim == 0 and torch.isfinite(value) for value in terms.values())
        assert set(terms) == set(part.terms)
        sum(terms.values()).backward()
    return ready(part)


def assert_probabilities(P: torch.Tensor, n: int, k: int) -> None:
    assert P.shape == (n, k) and P.dtype == torch.float32
    assert (P >= 0).all() and torch.allclose(P.sum(1), torch.ones(n), atol=1e-5)


@every("clusterer")
def test_each_node_has_a_distribution_over_k_clusters(name, build, graphs):
    part = cluster(build("clusterer", name), graphs)
    for seed, graph in enumerate(graphs):
        assert_probabilities(part.predict(graph, coordinates(graph, seed)).detach(), graph.n, part.k)


@every("clusterer")
def test_the_same_seed_gives_the_same_clusters_and_saving_keeps_them(name, build, again, graphs):
    parts = []
    for number in range(2):
        torch.manual_seed(number)
        np.random.seed(number)
        parts.append(cluster(build("clusterer", name), graphs))
    Z = coordinates(graphs[1], seed=7)
    first, second = (part.predict(graphs[1], Z) for part in parts)
    assert torch.equal(first, second) and torch.equal(parts[0].predict(graphs[1], Z), first)
    assert torch.equal(again("clusterer", name, parts[0]).predict(graphs[1], Z), first)


@every("clusterer")
@pytest.mark.parametrize("n", [1, 2])
def test_graphs_with_fewer_nodes_than_clusters_are_segmented(name, n, build, graphs, make_graph):
    part = cluster(build("clusterer", name), graphs)
    tiny = make_graph(n=n)
    assert_probabilities(part.predict(tiny, coordinates(tiny)).detach(), n, part.k)


@every("clusterer")
def test_nodes_all_alike_and_graphs_without_edges_are_segmented(name, build, graphs):
    part = cluster(build("clusterer", name), graphs)
    bare = without_edges()
    for Z in (coordinates(bare), torch.ones(bare.n, EMBEDDED)):
        assert_probabilities(part.predict(bare, Z).detach(), bare.n, part.k)


@every("clusterer")
def test_training_on_fewer_nodes_than_clusters_is_the_users_mistake(name, build, make_graph):
    with pytest.raises(UserError, match="k"):
        cluster(build("clusterer", name), [make_graph(n=2)])
