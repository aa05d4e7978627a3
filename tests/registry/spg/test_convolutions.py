"""DGL's convolutions by name: each against dense products with Â or with the bare edges; what is refused, in words."""

import math

import pytest
import torch

from registry.base import UserError
from registry.spg.convolutions import (
    check_device,
    checked_options,
    convolutions,
    edge_weights,
    find_convolution,
    network,
)
from registry.spg.dgl_adapter import dgl
from registry.spg.graphs import RegionGraph

CPU_ONLY = "cuda" not in dgl.__version__ and "+cu" not in dgl.__version__


def layer(name: str, widths=(6, 5), seed: int = 0, **options):
    return network(find_convolution(name), widths, options, seed)[0]


def applied(layer, graph: RegionGraph) -> torch.Tensor:
    return layer(graph.graph, graph.feature, edge_weights(graph, layer.habit.weights))


def normalised(A: torch.Tensor) -> torch.Tensor:
    scale = A.sum(1).rsqrt()
    return scale[:, None] * A * scale


@pytest.fixture
def graph(make_graph):
    return make_graph(n=15)


@pytest.fixture
def M(graph):
    """Â (n_s, n_s), dense."""
    return normalised(graph.dense_affinity())


# --------------------------------------------------------------------------------------------------- by their formulas
@pytest.mark.parametrize("widths", [(6, 5), (6, 8)])  # DGL multiplies before or after, by the widths
def test_graphconv_is_one_product_with_the_normalised_affinity(graph, M, widths):
    conv = layer("GraphConv", widths)
    expected = M @ graph.feature @ conv.conv.weight + conv.conv.bias
    torch.testing.assert_close(applied(conv, graph), expected, atol=1e-5, rtol=1e-4)


def test_sgconv_is_k_products_and_a_linear_layer(graph, M):
    conv = layer("SGConv", k=2)
    torch.testing.assert_close(applied(conv, graph), conv.conv.fc(M @ M @ graph.feature), atol=1e-5, rtol=1e-4)


def test_tagconv_is_a_linear_layer_of_all_powers(graph, M):
    conv = layer("TAGConv", k=2)
    X = graph.feature
    expected = conv.conv.lin(torch.cat([X, M @ X, M @ M @ X], 1))
    torch.testing.assert_close(applied(conv, graph), expected, atol=1e-5, rtol=1e-4)


def test_appnpconv_is_personalised_propagation_of_a_linear_layer(graph, M):
    conv = layer("APPNPConv", k=2, alpha=0.25)
    X = H = conv.linear(graph.feature)
    for _ in range(2):
        H = 0.75 * M @ H + 0.25 * X
    torch.testing.assert_close(applied(conv, graph), H, atol=1e-5, rtol=1e-4)


def test_gcn2conv_has_the_linear_layer_as_its_initial_feature(graph, M):
    conv = layer("GCN2Conv", alpha=0.25, lambda_=1)
    X = conv.linear(graph.feature)
    H = 0.75 * M @ X + 0.25 * X
    beta = math.log(2)  # lambda / 1 + 1: the first layer
    expected = (1 - beta) * H + beta * H @ conv.conv.weight1 + conv.conv.bias
    torch.testing.assert_close(applied(conv, graph), expected, atol=1e-5, rtol=1e-4)


def test_gcn2conv_is_told_the_number_of_its_layer():
    layers = network(find_convolution("GCN2Conv"), (6, 5, 4, 3), {}, 0)
    assert [each.conv.beta for each in layers] == pytest.approx([math.log(1 + 1 / i) for i in (1, 2, 3)])


@pytest.mark.parametrize("widths", [(6, 5), (6, 8)])
def test_the_mean_of_sageconv_is_a_product_with_the_normalised_affinity(graph, M, widths):
    conv = layer("SAGEConv", widths, aggregator_type="mean")
    expected = conv.conv.fc_self(graph.feature) + conv.conv.fc_neigh(M @ graph.feature)
    torch.testing.assert_close(applied(conv, graph), expected, atol=1e-5, rtol=1e-4)


def test_ginconv_adds_the_normalised_sum_to_the_node(graph, M):
    conv = layer("GINConv")
    X = conv.linear(graph.feature)
    torch.testing.assert_close(applied(conv, graph), X + M @ X, atol=1e-5, rtol=1e-4)


def test_chebconv_sees_the_edges_alone_and_the_largest_eigenvalue_2(graph):
    conv = layer("ChebConv", k=3)
    bare = normalised((graph.dense_affinity() > 0).float())
    T = [graph.feature, -bare @ graph.feature]
    T.append(-2 * bare @ T[1] - T[0])
    torch.testing.assert_close(applied(conv, graph), conv.conv.linear(torch.cat(T, 1)), atol=1e-5, rtol=1e-4)


def test_gatv2conv_gives_the_mean_of_its_heads(graph):
    conv = layer("GATv2Conv", num_heads=3)
    expected = conv.conv(graph.graph, graph.feature)
    assert expected.shape == (15, 3, 5)
    torch.testing.assert_close(applied(conv, graph), expected.mean(1))


@pytest.mark.parametrize(
    "name, options, weighted",
    [
        ("GraphConv", {}, True),
        ("SGConv", {}, True),
        ("TAGConv", {}, True),
        ("APPNPConv", {"k": 2, "alpha": 0.1}, True),
        ("GCN2Conv", {}, True),
        ("SAGEConv", {"aggregator_type": "mean"}, True),
        ("GATConv", {"num_heads": 2}, True),
        ("ChebConv", {"k": 2}, False),
        ("GATv2Conv", {"num_heads": 2}, False),
    ],
)
def test_weights_of_edges_count_where_the_class_takes_them(graph, name, options, weighted):
    conv = layer(name, **options)
    before = applied(conv, graph)
    affinity = graph.affinity.index_fill(0, graph.affinity.argmax(), 9.0)
    graph = RegionGraph.from_edges(graph.regions, graph.feature, graph.area, graph.centroid, *graph.edges, affinity)
    assert torch.allclose(before, applied(conv, graph), atol=1e-6) != weighted


def test_an_edge_of_weight_zero_is_none(make_graph):
    graph = make_graph(n=15)
    i, j = torch.nonzero(graph.dense_affinity() == 0)[0]
    ends = [[*end.tolist(), int(more)] for end, more in zip(graph.edges, (i, j))]
    affinity = [*graph.affinity.tolist(), 0.0]
    more = RegionGraph.from_edges(graph.regions, graph.feature, graph.area, graph.centroid, *ends, affinity)
    assert more.graph.num_edges() == graph.graph.num_edges()
    conv = layer("TAGConv")
    torch.testing.assert_close(applied(conv, more), applied(conv, graph))


# ----------------------------------------------------------------------------------------------------- names and words
def test_names_are_found_however_they_are_written():
    assert find_convolution("tag_conv") is find_convolution("TAGConv") is dgl.nn.TAGConv


def test_what_needs_more_than_features_is_not_offered():
    names = set(convolutions())
    assert names >= {"GraphConv", "SGConv", "TAGConv", "ChebConv", "APPNPConv", "GCN2Conv", "SAGEConv", "GATv2Conv"}
    assert not names & {"EGATConv", "RelGraphConv", "GMMConv", "SumPooling", "DenseGraphConv", "NNConv", "Sequential"}
    assert not [name for name in names if name.startswith("CuGraph")]  # of a library for GPUs alone


def test_an_unknown_name_is_answered_with_a_suggestion_and_all_names():
    message = r"^embedder\.conv: unknown convolution 'TAGCov'; did you mean 'TAGConv'\? available: .*GraphConv.*SGConv"
    with pytest.raises(UserError, match=message):
        find_convolution("TAGCov")


@pytest.mark.parametrize(
    "name, options, message",
    [
        (
            "TAGConv",
            {"kk": 3},
            r"^embedder\.options\.kk: unknown option; did you mean 'k'\? options of TAGConv: k, bias$",
        ),
        ("ChebConv", {}, r"^embedder\.options\.k: missing, and it has no default; options of ChebConv: k, bias$"),
        ("GraphConv", {"norm": "both"}, r"^embedder\.options\.norm: cannot be set in a recipe"),
        ("TAGConv", {"in_feats": 3}, r"^embedder\.options\.in_feats: cannot be set in a recipe"),
        ("GCN2Conv", {"layer": 1}, r"^embedder\.options\.layer: cannot be set in a recipe"),
    ],
)
def test_options_are_checked_against_the_signature(name, options, message):
    with pytest.raises(UserError, match=message):
        checked_options(find_convolution(name), options)


def test_a_value_that_dgl_refuses_is_told_with_its_words():
    with pytest.raises(UserError, match=r"embedder\.options: SAGEConv does not work with .*Invalid aggregator_type"):
        layer("SAGEConv", aggregator_type="meen")


def test_a_seed_starts_the_layers_and_the_random_state_of_others_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one, other = (layer("GraphConv", seed=seed).conv.weight for seed in (0, 1))
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(one, layer("GraphConv", seed=0).conv.weight) and not torch.equal(one, other)


@pytest.mark.skipif(not CPU_ONLY, reason="this DGL may have kernels for a GPU")
def test_a_device_without_kernels_of_dgl_is_refused():
    check_device("cpu")
    with pytest.raises(UserError, match=r"has none for cuda:0; pass --device cpu, or .*docs/dgl\.md"):
        check_device("cuda:0")
