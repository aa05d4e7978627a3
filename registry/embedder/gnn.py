"""A DGL graph convolution chosen by name, trained like the paper's network: another neural spectral embedding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch

from registry.base import Embedder, UserError
from registry.ranges import NotNegative, Seed, Width, Widths
from registry.spg.convolutions import check_device, checked_options, edge_weights, find_convolution, network, refusal
from registry.spg.graphs import RegionGraph
from registry.spg.losses import Orthogonality, spectral
from registry.spg.scaling import graph_scale, set_scale

ACTIVATIONS = {"relu": torch.relu, "elu": torch.nn.functional.elu, "tanh": torch.tanh}


class GNN(torch.nn.Module, Embedder):
    """Z (n_s, u) = conv(... conv(F_s)), F_s (n_s, 2q): layers of one class of `dgl.nn`, 2q -> channels -> u.

    conv: the class, such as GraphConv, SGConv, TAGConv, ChebConv, APPNPConv, GCN2Conv, SAGEConv, GATv2Conv; any that
        takes node features and, optionally, edge weights.
    options: arguments of its constructor, ``{k: 3}``, the same in every layer; those without a default must be given.
    Sizes, activation, normalisation and the layer's number are set by this part.
    channels: widths of the hidden layers. u: spectral coordinates.
    activation: between layers, none after the last. `none` (the paper's network is linear), `relu`, `elu`, `tanh`.
    mu, orthogonality: of L_spe (`registry.spg.losses.spectral`), computed over the nodes of each graph separately.
    scale: of the clustering's input, as in `lgc`. `graph`: unit deviation over the nodes of each graph; `none`: the
    layers' output; over all training graphs, `unit`: unit deviation, and `explained`: the deviation of the node
    features, propagated once per layer, that the column explains. The last two are updated after every pass over
    the training graphs and at the end, at the cost of one more evaluation of each graph per pass.
    seed: of DGL's initialisation of the layers; null: the run's.

    Edges are those of the spG, including self-loops. Classes treat their weights differently:
    GraphConv (`norm: none`), GINConv, GATConv and others with an `edge_weight` get the entries of Â;
    SGConv, TAGConv, APPNPConv and GCN2Conv always divide weights by the roots of their sums: they get the affinity A,
    and so also work on Â;
    SAGEConv divides by the number of neighbours: weights are multiplied by it, so that `aggregator_type: mean`
    sums Â X. Its other aggregators are not products with Â;
    ChebConv, GATv2Conv and all others without an `edge_weight` only see which nodes are joined, without weights.
    APPNPConv, AGNNConv, GINConv and GCN2Conv have no sizes (in, out): they are preceded by a linear layer without bias,
    whose output is the initial feature of GCN2Conv. ChebConv gets 2 as the largest eigenvalue. Several heads are
    averaged.

    DGL's kernels do the work, on the graph's device; a device without kernels in the installed DGL is rejected. Fitted:
    layers, `scale_` (u,), `inputs_` (1,), the number of input channels, `steps_` (1,), graphs seen in training.
    """

    trainable = True
    terms = ("spe",)

    def __init__(
        self,
        *,
        conv: str = "GraphConv",
        options: dict[str, Any] = {},
        channels: Widths = [96, 48],
        u: Width = 12,
        activation: Literal["none", "relu", "elu", "tanh"] = "none",
        mu: NotNegative = 1.0,
        orthogonality: Orthogonality = "squared",
        scale: Literal["explained", "unit", "graph", "none"] = "explained",
        seed: Seed | None = None,
    ):
        super().__init__()
        self.conv = conv
        self.options = options
        self.channels = channels
        self.u = u
        self.activation = activation
        self.mu = mu
        self.orthogonality = orthogonality
        self.scale = scale
        self.seed = seed
        if u < 1 or any(c < 1 for c in channels):
            raise UserError(f"embedder: u = {u} and channels = {channels} must be at least 1")
        self._device: str | torch.device = "cpu"
        self._class = find_convolution(conv)
        checked_options(self._class, options)
        self._try()
        self._graphs: Sequence[RegionGraph] = ()  # training graphs, over which `scale_` is computed
        self._stale = False  # whether the weights have changed since `scale_` was set
        self.scale_: torch.Tensor
        self.inputs_: torch.Tensor
        self.steps_: torch.Tensor
        self.register_buffer("scale_", torch.ones(u))
        self.register_buffer("inputs_", torch.zeros(1, dtype=torch.int64))
        self.register_buffer("steps_", torch.zeros(1, dtype=torch.int64))

    @property
    def embeds_batches(self) -> bool:  # type: ignore[override]  # an attribute where it is constant
        return self.scale != "graph"  # whose deviations are per graph

    @property
    def device(self) -> str | torch.device:
        """The run's device. Raises UserError if DGL does not support it."""
        return self._device

    @device.setter
    def device(self, value: str | torch.device) -> None:
        check_device(value)
        self._device = value

    def _try(self) -> None:
        """Run the network on a graph of two nodes, so that DGL rejects wrong options before anything runs."""
        ones, ends = np.ones(2), ([0, 1, 0, 1], [1, 0, 0, 1])
        feature = np.ones((2, 2 * max([*self.channels, self.u])))
        graph = RegionGraph.from_edges([[0, 1]], feature, ones, np.zeros((2, 2)), *ends, np.ones(4))
        self._create(feature.shape[1])
        try:
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                shape = tuple(self.coordinates(graph).shape)
        except Exception as error:  # DGL raises anything for invalid values
            raise refusal(self._class, self.options, error) from error
        if shape != (2, self.u):
            reason = ValueError(f"it returns an array {shape}, but (2, {self.u}) is expected")
            raise refusal(self._class, self.options, reason)
        self.layers = torch.nn.ModuleList()

    def _create(self, d: int) -> None:
        self.layers = network(self._class, [d, *self.channels, self.u], self.options, self.seed or 0)

    def fit(self, graphs: Sequence[RegionGraph]) -> None:
        width = graphs[0].feature.shape[1]
        self._create(width)
        self.inputs_ = torch.tensor([width])
        self.steps_ = torch.zeros(1, dtype=torch.int64)
        self._graphs = graphs
        self.to(graphs[0].device)
        self._rescale()

    def coordinates(self, graph: RegionGraph) -> torch.Tensor:
        """Z (n_s, u) before scaling."""
        weight = edge_weights(graph, self.layers[0].habit.weights)  # type: ignore[union-attr, arg-type]
        X = graph.feature
        for number, layer in enumerate(self.layers):
            X = ACTIVATIONS[self.activation](X) if number and self.activation != "none" else X
            X = layer(graph.graph, X, weight)
        return X

    def embed(self, graph: RegionGraph) -> torch.Tensor:
        if self._stale and not self.training:
            self._rescale()
        Z = self.coordinates(graph)
        return Z * (graph_scale(Z) if self.scale == "graph" else self.scale_)

    @torch.no_grad()
    def _rescale(self) -> None:
        """Update the scale for the current weights. X^T Z, X = Â^layers F_s, is F_s^T Â^layers Z, on u channels."""
        self._stale = False
        if self.scale in ("graph", "none") or not self._graphs:
            return
        training, nodes = self.training, sum(graph.n for graph in self._graphs)
        self.eval()
        gram, cross = (self.scale_.new_zeros(width, self.u) for width in (self.u, int(self.inputs_)))
        for graph in self._graphs:
            Z = self.coordinates(graph)
            gram += Z.T @ Z
            for _ in self.layers:
                Z = graph.propagate(Z)
            cross += graph.feature.T @ Z
        self.train(training)
        self.scale_ = set_scale(gram / nodes, cross / nodes, self.scale)

    def loss(self, graph: RegionGraph, Z: torch.Tensor | None) -> dict[str, torch.Tensor]:
        assert Z is not None  # see `Embedder.loss_uses_Z`
        return {"spe": spectral(graph, Z, self.mu, self.orthogonality)}

    def after_step(self, step: int, graph: RegionGraph, Z: torch.Tensor | None) -> None:
        self._stale = True
        self.steps_ += 1
        if int(self.steps_) % max(len(self._graphs), 1) == 0:
            self._rescale()

    def get_state(self) -> dict[str, np.ndarray]:
        if self._stale and not self.training:
            self._rescale()
        return {name: np.atleast_1d(value.detach().cpu().numpy()) for name, value in self.state_dict().items()}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        self._create(int(state["inputs_"][0]))
        own = self.state_dict()
        values = {name: torch.from_numpy(np.array(value)) for name, value in state.items()}
        self.load_state_dict({name: v.reshape(own[name].shape) if name in own else v for name, v in values.items()})
        self._stale = bool(self._graphs)  # training may be finished with this state, or continue
