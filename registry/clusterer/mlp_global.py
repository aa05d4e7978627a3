"""Neural clustering taught by clusters over all training graphs at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch

from registry.base import Clusterer, UserError
from registry.numeric.kmeans import kmeans
from registry.numeric.nearest import as_floats
from registry.ranges import Count, NotNegative, Pair, Rate, Seed, Width
from registry.spg.graphs import RegionGraph
from registry.spg.losses import clustering, smoothness

STEPS = 200  # maximal number, of expectation maximisation
CURVE = 100  # logged values of the training


class MLPGlobal(Clusterer):
    """Z (n_s, u) -> P (n_s, k) by a small network: softmax of its teacher's scores, linear in z and z^2, plus
    Linear(u, hidden), ELU, Linear(hidden, k), the paper's head.

    The paper's teacher starts from the k-means of one anchor graph and follows the others graph by graph. With a fixed
    embedding this is unnecessary: clusters come from the nodes of all training graphs at once, by k-means or as a
    mixture of Gaussians. The network starts as its teacher and is trained, one graph per iteration, by L_clu + smo
    L_smo (Eq. 3 and 4). Only the network segments new images.

    k: clusters. hidden: width of the hidden layer. teacher: `kmeans` or `mixture`. n_init: restarts of k-means.
    covariance, shares: of a mixture's Gaussians: one variance per coordinate or one for all (`spherical`);
    shares `fitted` to the nodes, or `equal`, so that a rare cluster is not absorbed by a frequent one.
    max_points: the teacher sees at most so many nodes, drawn from all graphs with the seed.
    iterations, lr: of Adam, with cosine decay to lr / 100. smo: weight of L_smo; eta, nu: of L_smo.

    Fitted: the network; `means_` (k, u) float32, the teacher's clusters; `loss_`, of the last iteration.
    Raises UserError if the training graphs have fewer than k distinct nodes.
    """

    takes_tensors = True

    def __init__(
        self,
        *,
        k: Pair = 8,
        hidden: Width = 12,
        teacher: Literal["kmeans", "mixture"] = "kmeans",
        covariance: Literal["diagonal", "spherical"] = "diagonal",
        shares: Literal["fitted", "equal"] = "fitted",
        n_init: Count = 10,
        max_points: Count = 200_000,
        iterations: Count = 1000,
        lr: Rate = 0.003,
        smo: NotNegative = 0.1,
        eta: NotNegative = 0.1,
        nu: NotNegative = 0.1,
        seed: Seed | None = None,
    ):
        self.k = k
        self.hidden = hidden
        self.teacher = teacher
        self.covariance = covariance
        self.shares = shares
        self.n_init = n_init
        self.max_points = max_points
        self.iterations = iterations
        self.lr = lr
        self.smo = smo
        self.eta = eta
        self.nu = nu
        self.seed = seed
        if k < 2 or hidden < 1:
            raise UserError(f"clusterer: k = {k} must be at least 2 and hidden = {hidden} at least 1")
        for name in ("n_init", "iterations"):
            if getattr(self, name) < 1:
                raise UserError(f"clusterer.{name}: {getattr(self, name)} must be at least 1")
        if max_points < k:
            raise UserError(f"clusterer.max_points: {max_points} must be at least clusterer.k ({k})")
        self._head: _Head | None = None

    def fit(self, graphs: Sequence[RegionGraph], embeddings: Sequence[torch.Tensor]) -> None:
        device = embeddings[0].device
        rng = np.random.default_rng(self.seed or 0)
        points = np.concatenate([as_floats(Z) for Z in embeddings]).astype(np.float32)  # (N, u)
        if len(points) > self.max_points:
            points = points[np.sort(rng.choice(len(points), self.max_points, replace=False))]
        means, labels, _ = kmeans(points, self.k, self.seed or 0, self.n_init, device=device)
        if self.teacher == "mixture":
            gaussians = mixture(points, labels, self.k, self.shares == "equal", self.covariance == "spherical")
        else:  # nearest mean: Gaussians of one variance and one share
            variance = max(float(np.square(points - means[labels]).mean()), 1e-12)
            gaussians = means, np.full(means.shape, variance), np.full(self.k, 1 / self.k)
        self.means_ = gaussians[0].astype(np.float32)
        head = self._create(points.shape[1])
        head.start(*gaussians)
        self._head = head.to(device)
        with torch.no_grad():
            targets = [head.scores(Z).argmax(1) for Z in embeddings]
        self._train(head, graphs, [Z.detach() for Z in embeddings], targets, rng)

    def _train(
        self,
        head: _Head,
        graphs: Sequence[RegionGraph],
        embeddings: list[torch.Tensor],
        targets: list[torch.Tensor],
        rng: np.random.Generator,
    ) -> None:
        with torch.enable_grad():
            optimizer = torch.optim.Adam(head.residual.parameters(), lr=self.lr)
            order: list[int] = []
            self.curve_ = []
            for step in range(self.iterations):
                order = order or rng.permutation(len(graphs)).tolist()
                i = order.pop()
                share = step / self.iterations
                optimizer.param_groups[0]["lr"] = self.lr * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share)))
                logits = head(embeddings[i])
                loss = clustering(logits, targets[i])
                loss = loss + self.smo * smoothness(graphs[i], logits.softmax(1), self.eta, self.nu)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                if (step + 1) % max(self.iterations // CURVE, 1) == 0:
                    agreed = (logits.argmax(1) == targets[i]).float().mean()
                    self.curve_.append((step + 1, {"loss/head": loss.item(), "clusters/agreement": agreed.item()}))
        self.loss_ = loss.item()

    def _create(self, u: int) -> _Head:
        return _Head(u, self.hidden, self.k, self.seed or 0)

    @torch.no_grad()
    def predict(self, graph: RegionGraph, Z: torch.Tensor) -> torch.Tensor:
        assert self._head is not None  # fitted, or given a state
        return self._head.to(Z.device)(Z).softmax(1)

    @torch.no_grad()
    def taught(self, Z: torch.Tensor) -> torch.Tensor | None:
        return None if self._head is None else self._head.to(Z.device).scores(Z).argmax(1)

    def get_state(self) -> dict[str, np.ndarray]:
        if self._head is None:
            return {}
        return {
            "means": self.means_,
            **{f"head.{name}": value.detach().cpu().numpy() for name, value in self._head.state_dict().items()},
        }

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        if not state:
            return
        self.means_ = np.array(state["means"])
        head = self._create(self.means_.shape[1])
        head.load_state_dict(
            {
                name.removeprefix("head."): torch.from_numpy(np.array(value))
                for name, value in state.items()
                if name.startswith("head.")
            }
        )
        self._head = head


class _Head(torch.nn.Module):
    """Logits [z, z^2] A + b + residual(z), z the coordinates minus the centre of the clusters, over a scale."""

    def __init__(self, u: int, hidden: int, k: int, seed: int):
        super().__init__()
        self.mean: torch.Tensor
        self.scale: torch.Tensor
        self.weight: torch.Tensor
        self.bias: torch.Tensor
        self.register_buffer("mean", torch.zeros(u))
        self.register_buffer("scale", torch.ones(1))
        self.register_buffer("weight", torch.zeros(2 * u, k))
        self.register_buffer("bias", torch.zeros(k))
        first, second = torch.nn.Linear(u, hidden), torch.nn.Linear(hidden, k)
        with torch.no_grad():
            torch.nn.init.xavier_uniform_(first.weight, generator=torch.Generator().manual_seed(seed))
            for tensor in (first.bias, second.weight, second.bias):
                tensor.zero_()
        self.residual = torch.nn.Sequential(first, torch.nn.ELU(), second)

    def start(self, means: np.ndarray, variances: np.ndarray, shares: np.ndarray) -> None:
        """Start as the posterior of Gaussians: means, variances (k, u), shares (k,)."""
        centre = means.mean(0)
        scale = np.sqrt(np.square(means - centre).mean() + variances.mean())
        m, v = (means - centre) / scale, variances / scale**2
        bias = np.log(np.maximum(shares, 1e-30)) - 0.5 * (np.square(m) / v + np.log(v)).sum(1)
        with torch.no_grad():
            for buffer, value in (
                (self.mean, centre),
                (self.scale, [scale]),
                (self.bias, bias),
                (self.weight, np.concatenate([m / v, -0.5 / v], axis=1).T),
            ):
                buffer.copy_(torch.as_tensor(np.asarray(value), dtype=torch.float32))

    def scores(self, Z: torch.Tensor) -> torch.Tensor:
        """Logits (n_s, k) of the teacher: without the residual."""
        z = (Z - self.mean) / self.scale
        return torch.cat([z, z * z], 1) @ self.weight + self.bias

    def forward(self, Z: torch.Tensor) -> torch.Tensor:
        return self.scores(Z) + self.residual((Z - self.mean) / self.scale)


def mixture(
    points: np.ndarray, labels: np.ndarray, k: int, equal: bool = False, spherical: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gaussians with diagonal covariance by expectation maximisation, from clusters `labels` of points (N, u): means
    (k, u), variances (k, u), shares (k,).

    equal: every Gaussian has the share 1 / k. spherical: one variance in all directions. Variances are kept
    above a thousandth of the points' largest variance, so that no cluster collapses to a point. Stops when the mean
    log-likelihood per point gains less than 1e-5, or after `STEPS` steps.
    """
    X = np.concatenate([points, np.square(points)], axis=1).astype(np.float64)  # (N, 2u)
    u = points.shape[1]
    least = 1e-3 * points.var(0, dtype=np.float64).max() + 1e-12
    R, before = np.eye(k)[labels], -np.inf  # posterior (N, k)
    for _ in range(STEPS):
        count = R.sum(0) + 1e-9
        moments = R.T @ X / count[:, None]
        m = moments[:, :u]
        v = np.maximum(moments[:, u:] - np.square(m), least)
        if spherical:
            v = np.repeat(v.mean(1, keepdims=True), u, axis=1)
        share = np.full(k, 1 / k) if equal else count / count.sum()
        bias = np.log(share) - 0.5 * (np.square(m) / v + np.log(2 * np.pi * v)).sum(1)
        score = X @ np.concatenate([m / v, -0.5 / v], axis=1).T + bias
        top = score.max(1, keepdims=True)
        R = np.exp(score - top)
        total = R.sum(1, keepdims=True)
        R /= total
        likelihood = float((np.log(total) + top).mean())
        if likelihood - before < 1e-5:
            break
        before = likelihood
    return m, v, share
