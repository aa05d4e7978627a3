"""What all parts share: the four protocols, the data passed between them, and the user's error.

Data flow (paper, Figure 1)::

    FOV (H, W) -- features --> FeatureMap (h, w, q) -- graph --> RegionGraph (n_s nodes, 2q features, affinity A)
        -- embedder --> Z (n_s, u) -- clusterer --> P (n_s, k)

Symbols are the paper's: H, W pixels of a field of view (FOV); q channels of the feature map; n_s superpixels
(nodes of the spG); u spectral coordinates; k clusters.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # types that parts exchange; at run time nothing is imported upwards, and nothing slow
    import numpy as np
    import torch
    from torch import Tensor

    from registry.spg.graphs import Nodes, RegionGraph
    from registry.spg.tensor_graph import TensorGraph

CONTEXT = 20  # px, of features without windows


class UserError(Exception):
    """The user's input is at fault: one line that says what, where, and how to fix it (exit code 2)."""


@dataclass(frozen=True)
class FeatureMap:
    """Dense features of one FOV on a regular grid of tokens, and where that grid lies on the pixels.

    Shapes
        values: (h, w, q) float32, possibly a view of planes. Token (i, j) is centred on pixel
            (offset + step * i, offset + step * j).
        shape: (H, W) of the FOV; the grid covers it (``offset + step * (h - 1) + step / 2 >= H - 1``).

    The feature of pixel (y, x) is the bilinear interpolation of `values` at ((y - offset) / step,
    (x - offset) / step), clamped to the grid.
    """

    values: np.ndarray
    step: float
    offset: float
    shape: tuple[int, int]

    @property
    def q(self) -> int:
        """Channels."""
        return self.values.shape[2]


@dataclass(frozen=True)
class FeatureStack:
    """Several feature maps of one FOV, each on its own grid (`features: concat`).

    Node features are those of all maps, in order; when they are pooled, `Nodes.blocks` gives the number of channels of
    each.
    """

    maps: tuple[FeatureMap, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) of the FOV."""
        return self.maps[0].shape

    @property
    def q(self) -> int:
        """Channels of all maps together."""
        return sum(each.q for each in self.maps)


@dataclass(frozen=True)
class TensorMap:
    """Features of several FOVs of one size on a device: values (B, h, w, q) float32 tensor.

    step, offset: as in a `FeatureMap`.
    """

    values: Tensor
    step: float
    offset: float


class Part:
    """A part of a recipe: explicit keyword-only typed arguments, stored unchanged; fitted attributes end in ``_``.

    An argument ``seed: int | None = None`` left at None is set to the run's seed before anything else is called. A
    part's attribute `device`, if it has one, is set to the run's device in the same way.

    `get_state` / `set_state` transfer what `fit` and training learned as named arrays of at least one axis, so that a
    model is saved without pickle. A saved part is built from its arguments and given its state, without any `fit`:
    `set_state` must create the tensors and layers that it needs.

    Trainable parts, embedders and clusterers with ``trainable = True``, are also torch modules, ``class
    Mine(torch.nn.Module, Embedder)``. The trainer uses one optimiser for the parameters of both, which must exist
    after `fit` (embedder) and `prepare` (clusterer); it calls ``train()`` before and ``eval()`` after training. A
    checkpoint contains `get_state` and the optimiser: a resumed run gives the same bits if a part has no other state.

    A features part or clusterer with ``supervised = True`` is fitted to the labels of the training images: its
    `fit` takes an additional argument, `labels`. No other part gets labels, and a run reports that they were used.
    """

    supervised = False
    parts: tuple[Part, ...] = ()  # parts of the same role that this one combines
    holds_parts: str | None = None  # the argument that holds their blocks, or names

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The arguments by name, like scikit-learn's estimators; `sklearn.base.clone` works on parts."""
        owner = next(base for base in type(self).__mro__ if "__init__" in vars(base))
        names = [] if owner is object else list(inspect.signature(vars(owner)["__init__"]).parameters)[1:]
        return {name: getattr(self, name) for name in names}

    def set_params(self, **params: Any) -> Part:
        """Set arguments, checked as in the constructor; call `fit` again afterwards.

        Raises UserError, without changing anything, for an argument that the constructor rejects.
        """
        arguments = self.get_params()
        if unknown := sorted(set(params) - set(arguments)):
            raise UserError(
                f"{type(self).__name__} has no argument {unknown[0]!r}; it has {', '.join(arguments) or 'none'}"
            )
        device = getattr(self, "device", None)
        fresh: Callable[..., None] = type(self).__init__
        type(self)(**{**arguments, **params})  # raises, if anything does
        fresh(self, **{**arguments, **params})
        if device is not None:
            self.device = device
        return self

    def get_state(self) -> dict[str, np.ndarray]:
        """The learned state, by name; empty if nothing was learned."""
        return {}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """Restore the result of `get_state` of a part with the same arguments, instead of calling `fit`."""
        if state:
            raise ValueError(f"{type(self).__name__} keeps no state, got {sorted(state)}")


class Features(Part):
    """Role `features`: image (H, W) float32, standardised per volume -> FeatureMap (h, w, q)."""

    @property
    def context(self) -> int:
        """px by which the FOVs of a large slice see into their neighbours, unless the user says otherwise. With half a
        window, FOVs end with whole windows, of which neighbours share many."""
        return getattr(self, "window", 1) // 2 or CONTEXT

    def fit(self, images: Iterable[np.ndarray]) -> None:
        """Fit to the training FOVs, each (H, W) float32; may iterate over them more than once. Most parts have nothing
        to fit. A supervised one also takes ``labels``: for each image (H, W) int32, the position of each pixel's
        class among the classes of the data set, -1 without a label."""

    def extract(self, image: np.ndarray) -> FeatureMap | FeatureStack:
        """Features of one FOV (H, W) float32, standardised per volume; does not modify it."""
        raise NotImplementedError

    def extract_batch(self, images: Tensor) -> list[TensorMap]:
        """Features of several FOVs (B, H, W) float32, on their device: the maps of a stack, or one. By default from
        `extract`, on the CPU. Overrides must return the values of `extract`, up to rounding."""
        import numpy as np
        import torch

        found = [self.extract(image) for image in images.cpu().numpy()]
        stacks = [each.maps if isinstance(each, FeatureStack) else (each,) for each in found]
        together = [np.ascontiguousarray(np.stack([each.values for each in maps])) for maps in zip(*stacks)]
        return [
            TensorMap(torch.from_numpy(values).to(images.device), each.step, each.offset)
            for values, each in zip(together, stacks[0])
        ]

    def on_cpu(self) -> list[str]:
        """What `extract_batch` leaves to the CPU, in words: the whole part, unless it overrides that method."""
        return [type(self).__name__] if type(self).extract_batch is Features.extract_batch else []

    def sharing(self) -> AbstractContextManager[object]:
        """A context in which images may overlap, like the FOVs of a slice: a part may cache what they share, provided
        that `extract` returns equal values with and without it."""
        return nullcontext()

    def fingerprint(self) -> str:
        """Identifies what the features depend on beyond the recipe (a checkpoint's hash); part of cache keys."""
        return ""


class GraphBuilder(Part):
    """Role `graph`: image and features -> RegionGraph. `pool` is the costly half and does not depend on `fit`."""

    cacheable = True  # pooled nodes are small enough to cache on disk
    takes_tensors = False  # whether it has `build_batch`

    def pool(self, image: np.ndarray, features: FeatureMap | FeatureStack) -> Nodes:
        """Regions of one FOV (H, W) and their unscaled node features."""
        raise NotImplementedError

    def fit(self, nodes: Sequence[Nodes]) -> None:
        """Learn the scale of node features over the training set; may iterate over it more than once."""

    def connect(self, nodes: Nodes) -> RegionGraph:
        """The graph of pooled nodes: features scaled as learned by `fit`, and the affinity A (n_s, n_s)."""
        raise NotImplementedError

    def build(self, image: np.ndarray, features: FeatureMap | FeatureStack) -> RegionGraph:
        """`pool`, then `connect`."""
        return self.connect(self.pool(image, features))

    def build_batch(self, images: Tensor, features: Sequence[TensorMap]) -> TensorGraph:
        """The graphs of several FOVs (B, H, W), side by side, on their device; up to rounding those of `build`."""
        raise NotImplementedError

    def on_cpu(self) -> list[str]:
        """What `build_batch` leaves to the CPU, in words."""
        return []


class Embedder(Part):
    """Role `embedder`: RegionGraph -> Z (n_s, u) float32 tensor, on the graph's device.

    A trainable one is a torch module (see `Part`) with a `loss`, whose terms are named in `terms`.
    """

    trainable = False
    terms: tuple[str, ...] = ()  # names of the loss terms, the keys of `train.weights`
    embeds_batches = False  # whether `embed` may take several graphs side by side (`RegionGraph.batch`)
    takes_tensors = False  # whether `embed` may take a `TensorGraph` of several fields of view
    loss_uses_Z = True  # if false, `loss` and `after_step` get None for Z unless something else needs it

    def fit(self, graphs: Sequence[RegionGraph]) -> None:
        """Prepare on the training graphs, before any training step."""

    def embed(self, graph: RegionGraph) -> Tensor:
        """Z (n_s, u) of one graph, of the training set or not."""
        raise NotImplementedError

    def loss(self, graph: RegionGraph, Z: Tensor | None) -> dict[str, Tensor]:
        """Terms, each a scalar tensor, of one training graph and its Z = embed(graph), which carries gradients."""
        return {}

    def after_step(self, step: int, graph: RegionGraph, Z: Tensor | None) -> None:
        """Called after the optimiser's step `step` (from 0), once for each graph in it; Z as seen by the losses."""


class Clusterer(Part):
    """Role `clusterer`: RegionGraph and Z (n_s, u) -> P (n_s, k), rows sum to one, on the device of Z.

    `fit` runs once, after training, for parts that are not trainable; a supervised one also takes ``labels``: for
    each graph (n_s, C) int64, the pixels of each class of the data set in each node. A trainable one is a torch module
    (see `Part`) and is trained together with the embedder; the trainer calls, in this order: `prepare` once, `begin`
    once after `warmup` iterations, and from then on `loss` for every graph of an iteration. If a part has an attribute
    `anchor`, it is set to the index of the anchor graph before `fit`.
    """

    trainable = False
    terms: tuple[str, ...] = ()  # names of the loss terms, the keys of `train.weights`
    warmup: int = 0  # iterations in which a trainable embedder is trained alone; unused with a fixed one
    begun: bool = True  # whether `loss` may be called; false before `begin`, for parts that override it
    per_class: bool = False  # whether cluster i is class i of the data set, so that k must be at least their number
    takes_tensors = False  # whether `predict` uses only Z, node by node
    k: int

    def fit(self, graphs: Sequence[RegionGraph], embeddings: Sequence[Tensor]) -> None:
        """Learn clusters from the training graphs and the Z (n_s, u) of each."""
        raise NotImplementedError

    def predict(self, graph: RegionGraph, Z: Tensor) -> Tensor:
        """P (n_s, k) float32 of one graph, of the training set or not."""
        raise NotImplementedError

    def prepare(self, u: int, device: torch.device) -> None:
        """Create the parameters, for u coordinates, on a torch device; called before the optimiser is created."""

    def begin(self, anchor: RegionGraph, Z: Tensor) -> None:
        """Start from the anchor graph and its Z; afterwards `begun` is true, also in a part restored from a state."""

    def loss(self, graph: RegionGraph, Z: Tensor) -> dict[str, Tensor]:
        """Terms, each a scalar tensor, of one training graph and its Z, which carries the embedder's gradients."""
        return {}

    def use(self) -> np.ndarray | None:
        """Recent nodes per cluster, (k,), for the log; None if the part does not count them."""
        return None

    def taught(self, Z: Tensor) -> Tensor | None:
        """The clusters (n_s,) int64 that a neural head's teacher assigns to the nodes of Z; None without a teacher."""
        return None


def expect(state: Mapping[str, np.ndarray], shapes: Mapping[str, Sequence[int | str]]) -> None:
    """For `set_state`: raises ValueError unless `state` has arrays of these names and shapes, and no other.

    A letter stands for any length, the same wherever it occurs.

    >>> import numpy as np
    >>> expect({"centroids": np.zeros((8, 12)), "mean": np.zeros(3)}, {"centroids": (8, "u"), "mean": ("u",)})
    Traceback (most recent call last):
    ValueError: mean has shape (3,), but (12,) is expected
    """
    if other := state.keys() ^ shapes.keys():
        raise ValueError(f"{min(other)} is {'missing' if min(other) in shapes else 'unknown'}")
    lengths: dict[int | str, int] = {}
    for name, shape in shapes.items():
        found = state[name].shape
        due = tuple(side if isinstance(side, int) else lengths.get(side, at) for side, at in zip(shape, found))
        if found != due or len(found) != len(shape):
            raise ValueError(f"{name} has shape {found}, but {due} is expected")
        lengths.update(zip(shape, found))


def chunks(items: Sequence, size: int) -> Iterator[Sequence]:
    """Consecutive slices of at most `size` items."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
