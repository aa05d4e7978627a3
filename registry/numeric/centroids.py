"""Incremental k-means centroids that keep their identity over a stream of graphs (paper, "Neural Clustering")."""

from __future__ import annotations

from typing import Any

import numpy as np

from registry.base import expect
from registry.numeric.kmeans import cluster_sums, farthest, kmeans
from registry.numeric.nearest import as_floats, assign


def device_of(Z: Any) -> Any:
    """FAISS's device: a tensor's own, or the CPU for arrays."""
    return Z.device if hasattr(Z, "detach") else "cpu"


class IncrementalCentroids:
    """k centroids: k-means on an anchor graph, then running means over the graphs that follow.

    A window is `update_every` graphs. At its end c_i <- (n_i c_i + sum of the window's nodes of cluster i) /
    (n_i + their number), which with ``decay=None`` is the paper's c_i = 1/n_i sum_{s in S_i} z(s) over all nodes
    seen so far, the anchor's included. With a number, n_i is multiplied by `decay` at each update, so that the mean
    follows an embedding that is still being trained (the window's share tends to 1 - decay).

    Re-seeding: a cluster without a node in a whole window is moved to the window's node farthest from its own
    centroid, with n_i = 1, so that its first update determines where it stays. Several empty clusters choose among
    the window's k farthest nodes, each the farthest from all centroids and from the nodes already chosen.
    ``reseed=False`` leaves empty clusters where they are.

    Shapes: Z (n_s, u) array or tensor, on any device; labels (n_s,) int64 of the same kind.
    Equal inputs give equal centroids, even across `get_state` / `set_state` within a window.
    """

    # of the open window: graphs; sums (k, u) and counts (k,) of nodes; its farthest nodes (m, u), how far they are (m,)
    _graphs: int
    _sums: np.ndarray
    _counts: np.ndarray
    _far_nodes: np.ndarray
    _far_distances: np.ndarray

    def __init__(
        self,
        k: int,
        update_every: int = 8,
        decay: float | None = None,
        reseed: bool = True,
        seed: int = 0,
        n_init: int = 10,
    ):
        if decay is not None and not 0 <= decay <= 1:
            raise ValueError(f"decay must be None or within 0..1, got {decay}")
        if k < 1 or update_every < 1:
            raise ValueError(f"k and update_every must be at least 1, got {k} and {update_every}")
        self.k, self.update_every, self.decay, self.reseed = k, update_every, decay, reseed
        self.seed, self.n_init = seed, n_init
        self.means_: np.ndarray | None = None  # (k, u) float64

    def begin(self, Z_anchor: Any) -> Any:
        """Start from k-means on the anchor's Z; returns its labels. Raises UserError for under k distinct nodes."""
        centroids, labels, _ = kmeans(Z_anchor, self.k, self.seed, n_init=self.n_init, device=device_of(Z_anchor))
        self.means_ = centroids.astype(np.float64)
        self.counts_ = np.bincount(labels, minlength=self.k).astype(np.float64)
        self.use_ = np.bincount(labels, minlength=self.k).astype(np.int64)
        self.window_use_ = self.use_.copy()
        self.updates_ = 0
        self.reseeds_ = 0
        self._clear_window()
        return self.assign(Z_anchor)

    @property
    def centroids(self) -> np.ndarray:
        """(k, u) float32."""
        return self._means().astype(np.float32)

    def assign(self, Z: Any) -> Any:
        """Labels (n_s,) int64 of the nearest centroids, as an array or tensor like Z."""
        return assign(Z, self.centroids, device_of(Z))[0]

    def observe(self, Z: Any, labels: Any) -> bool:
        """Add one graph with the labels of `assign`; True if this completed a window and moved the centroids."""
        means = self._means()
        x = as_floats(Z)
        y = labels.detach().cpu().numpy() if hasattr(labels, "detach") else np.asarray(labels)
        sums, counts = cluster_sums(x, y, self.k)
        self._sums += sums
        self._counts += counts
        self.use_ += counts.astype(np.int64)
        if self.reseed and len(x):
            difference = x - means[y]
            distances = np.einsum("ij,ij->i", difference, difference)
            # Only the window's k farthest nodes are kept, so that memory does not grow with the window.
            top = np.sort(np.argpartition(-distances, self.k - 1)[: self.k]) if len(x) > self.k else np.arange(len(x))
            distances = np.concatenate([self._far_distances, distances[top]])
            nodes = np.concatenate([self._far_nodes, x[top].astype(np.float64)])
            keep = np.argsort(-distances, kind="stable")[: self.k]
            self._far_distances, self._far_nodes = distances[keep], nodes[keep]
        self._graphs += 1
        if self._graphs == self.update_every:
            self._close_window(self.reseed)
            return True
        return False

    def flush(self) -> None:
        """At the end of the stream, let the graphs of an incomplete window move the centroids.

        Nothing is re-seeded: a cluster may well be absent from a few graphs, and no window follows to correct this.
        """
        self._means()
        if self._graphs:
            self._close_window(reseed=False)

    def _close_window(self, reseed: bool) -> None:
        means = self._means()
        if self.decay is not None:
            self.counts_ *= self.decay
        seen = self._counts > 0
        self.counts_ += self._counts
        step = self._sums[seen] - self._counts[seen, None] * means[seen]
        means[seen] += step / self.counts_[seen, None]
        empty = np.flatnonzero(~seen)
        if reseed and len(empty):
            found = farthest(self._far_nodes, self._far_distances, len(empty))
            filled = empty[: len(found)]
            means[filled] = self._far_nodes[found]
            self.counts_[filled] = 1.0
            self.reseeds_ += len(filled)
        self.window_use_ = self._counts.astype(np.int64)
        self.updates_ += 1
        self._clear_window()

    def get_state(self) -> dict[str, np.ndarray]:
        """Everything needed to continue exactly from here, as named arrays; empty before `begin`."""
        if self.means_ is None:
            return {}
        return {
            "means": self.means_.copy(),
            "counts": self.counts_.copy(),
            "use": self.use_.copy(),
            "window_use": self.window_use_.copy(),
            "window_sums": self._sums.copy(),
            "window_counts": self._counts.copy(),
            "far_nodes": self._far_nodes.copy(),
            "far_distances": self._far_distances.copy(),
            "numbers": np.array([self._graphs, self.updates_, self.reseeds_], np.int64),
        }

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """Continue from the result of `get_state`; raises ValueError for another number of clusters."""
        if not state:
            self.means_ = None
            return
        state = {name: np.array(value) for name, value in state.items()}
        if len(state["means"]) != self.k:
            raise ValueError(f"state holds {len(state['means'])} centroids, this recipe asks for k={self.k}")
        k, u, m = self.k, "u", "m"
        expect(
            state,
            {
                **dict.fromkeys(("means", "window_sums"), (k, u)),
                **dict.fromkeys(("counts", "use", "window_use", "window_counts"), (k,)),
                "far_nodes": (m, u),
                "far_distances": (m,),
                "numbers": (3,),
            },
        )
        self.means_, self.counts_ = state["means"], state["counts"]
        self.use_, self.window_use_ = state["use"], state["window_use"]
        self._sums, self._counts = state["window_sums"], state["window_counts"]
        self._far_nodes, self._far_distances = state["far_nodes"], state["far_distances"]
        self._graphs, self.updates_, self.reseeds_ = (int(number) for number in state["numbers"])

    def _clear_window(self) -> None:
        u = self._means().shape[1]
        self._graphs = 0
        self._sums = np.zeros((self.k, u))
        self._counts = np.zeros(self.k)
        self._far_nodes = np.zeros((0, u))
        self._far_distances = np.zeros(0)

    def _means(self) -> np.ndarray:
        """The centroids (k, u) float64. Raises RuntimeError before there are any."""
        if self.means_ is None:
            raise RuntimeError("IncrementalCentroids: call begin(Z_anchor) or set_state before this")
        return self.means_
