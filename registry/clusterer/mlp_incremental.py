"""Neural clustering supervised by incremental k-means: the clustering head of SCCS (paper, Eq. 3 and 4)."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from registry.base import Clusterer, UserError
from registry.numeric.centroids import IncrementalCentroids
from registry.ranges import Closed, Count, NotNegative, Pair, Seed, Share, Steps, Width
from registry.spg.graphs import RegionGraph
from registry.spg.losses import clustering, smoothness


class MLPIncremental(torch.nn.Module, Clusterer):
    """Z (n_s, u) -> P (n_s, k) by Linear(u, hidden), ELU, Linear(hidden, k), softmax (paper: 12 -> 12 -> 8).

    k: clusters. hidden: width of the hidden layer. seed: of the head's start and the anchor's k-means; null: the run's.

    After `warmup` iterations, in which the embedding is trained alone, k-means on the anchor graph's Z gives k
    centroids; from then on each node's nearest centroid is the target of L_clu, and
    centroids are running means, moved once per `update_every` graphs (`registry.numeric.centroids`).

    decay: forgetting of the running means per update; null (paper) weights all nodes ever seen equally.
    reseed: move an empty cluster to a node far from all centroids.
    detach: L_clu and L_smo train only the head; the embedding is left to L_spe.
    head: `sigmoid` activates the nu term of L_smo (Eq. 4); rows of P are then normalised for prediction. `elu+softmax`
    has an ELU before the softmax (later code).
    dropout: share of hidden units dropped in training (later code: .25; the paper has none).
    eta, nu: of L_smo.
    """

    trainable = True
    takes_tensors = True
    terms = ("clu", "smo")

    def __init__(
        self,
        *,
        k: Pair = 8,
        hidden: Width = 12,
        warmup: Steps = 1000,
        update_every: Count = 8,
        decay: Closed | None = None,
        reseed: bool = False,
        detach: bool = True,
        head: Literal["softmax", "sigmoid", "elu+softmax"] = "softmax",
        dropout: Share = 0.0,
        eta: NotNegative = 0.1,
        nu: NotNegative = 0.1,
        seed: Seed | None = None,
    ):
        super().__init__()
        self.k = k
        self.hidden = hidden
        self.warmup = warmup
        self.update_every = update_every
        self.decay = decay
        self.reseed = reseed
        self.detach = detach
        self.head = head
        self.dropout = dropout
        self.eta = eta
        self.nu = nu
        self.seed = seed
        if k < 2 or hidden < 1:
            raise UserError(f"clusterer: k = {k} must be at least 2 and hidden = {hidden} at least 1")
        if decay is not None and not 0 <= decay <= 1:
            raise UserError(f"clusterer.decay: {decay} must be null or within 0 .. 1")
        if not 0 <= dropout < 1:
            raise UserError(f"clusterer.dropout: {dropout} must be at least 0 and below 1")
        self.layers = torch.nn.ModuleList()

    def _create(self, u: int) -> None:
        generator = torch.Generator().manual_seed(self.seed or 0)
        first, second = torch.nn.Linear(u, self.hidden), torch.nn.Linear(self.hidden, self.k)
        self.layers = torch.nn.ModuleList([first, second])
        with torch.no_grad():
            for layer in (first, second):
                torch.nn.init.xavier_uniform_(layer.weight, generator=generator)
                layer.bias.zero_()
        self.centroids = IncrementalCentroids(self.k, self.update_every, self.decay, self.reseed, self.seed or 0)

    def prepare(self, u: int, device: torch.device) -> None:
        """Create the head for u coordinates, before the optimiser."""
        self._create(u)
        self.to(device)

    def begin(self, anchor: RegionGraph, Z: torch.Tensor) -> None:
        """Anchor clustering: k-means on the anchor graph's Z (n_s, u)."""
        self.centroids.begin(Z.detach())

    @property
    def begun(self) -> bool:  # type: ignore[override]  # an attribute where it is constant
        return self.centroids.means_ is not None

    def forward(self, Z: torch.Tensor) -> torch.Tensor:
        """Logits (n_s, k) of P."""
        X = torch.nn.functional.elu(self.layers[0](Z))  # (n_s, hidden)
        X = self.layers[1](torch.nn.functional.dropout(X, self.dropout, self.training))
        return torch.nn.functional.elu(X) if self.head == "elu+softmax" else X

    def _probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """P (n_s, k) as used by L_smo."""
        return logits.sigmoid() if self.head == "sigmoid" else logits.softmax(1)

    def loss(self, graph: RegionGraph, Z: torch.Tensor) -> dict[str, torch.Tensor]:
        target = self.centroids.assign(Z.detach())  # (n_s,)
        self.centroids.observe(Z.detach(), target)
        logits = self(Z.detach() if self.detach else Z)
        return {
            "clu": clustering(logits, target, "sigmoid" if self.head == "sigmoid" else "softmax"),
            "smo": smoothness(graph, self._probabilities(logits), self.eta, self.nu),
        }

    def predict(self, graph: RegionGraph, Z: torch.Tensor) -> torch.Tensor:
        P = self._probabilities(self(Z))
        return P / P.sum(1, keepdim=True).clamp(min=1e-12)

    def taught(self, Z: torch.Tensor) -> torch.Tensor | None:
        return self.centroids.assign(Z) if self.begun else None

    def use(self) -> np.ndarray:
        """Nodes per cluster in the last window of the incremental clustering, (k,) int64."""
        return self.centroids.window_use_

    def get_state(self) -> dict[str, np.ndarray]:
        return {
            **{name: value.detach().cpu().numpy() for name, value in self.state_dict().items()},
            **{f"centroids.{name}": value for name, value in self.centroids.get_state().items()},
        }

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        self._create(state["layers.0.weight"].shape[1])
        own = {name: value for name, value in state.items() if not name.startswith("centroids.")}
        self.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in own.items()})
        self.centroids.set_state(
            {name.removeprefix("centroids."): value for name, value in state.items() if name.startswith("centroids.")}
        )
