"""Graph convolutions of `dgl.nn` by name: available classes, their arguments, and their edge weights."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import torch

from registry.base import UserError
from registry.registry import canonical, suggestion
from registry.spg.graphs import RegionGraph

if TYPE_CHECKING:
    from dgl import DGLGraph

TINY = 1e-30  # replaces zero weights if DGL divides by the roots of sums
SIZES = (("in_feats", "out_feats"), ("in_feat", "out_feat"), ("in_size", "out_size"), ("input_d", "output_d"))
EVERYWHERE = {"activation": None, "allow_zero_in_degree": True}  # if a class has these arguments


@dataclass(frozen=True)
class Habit:
    """How a class differs from the default: (in, out) sizes, node features in and out, plain edge weights.

    weights: its `edge_weight`. `normalised`, the entries of Â; `affinity`, those of A, for classes that
    normalise weights to Â themselves; `mean`, those of Â times the number of edges that end at the
    node, for a class that divides by that number.
    keeps_width: it has no sizes; a linear layer before it changes the width.
    initial: it takes the output of that linear layer as a second input, the initial features.
    numbered: its constructor takes the number of the layer, from 1, as `layer`.
    fixed: further constructor arguments that the recipe cannot set. call: those of `forward`.
    """

    weights: Literal["normalised", "affinity", "mean"] = "normalised"
    keeps_width: bool = False
    initial: bool = False
    numbered: bool = False
    fixed: Mapping[str, Any] = field(default_factory=dict)
    call: Mapping[str, Any] = field(default_factory=dict)


HABITS = {
    "AGNNConv": Habit(keeps_width=True),
    "APPNPConv": Habit("affinity", keeps_width=True),
    "ChebConv": Habit(call={"lambda_max": [2.0]}),  # the bound that holds for every graph
    "GCN2Conv": Habit("affinity", keeps_width=True, initial=True, numbered=True),
    "GINConv": Habit(keeps_width=True, fixed={"apply_func": None}),
    "GraphConv": Habit(fixed={"norm": "none", "weight": True}),
    "SAGEConv": Habit("mean", fixed={"norm": None}),
    "SGConv": Habit("affinity", fixed={"cached": False, "norm": None}),
    "TAGConv": Habit("affinity"),
}


class Convolution(torch.nn.Module):
    """One layer: X (n_s, sizes[0]) -> (n_s, sizes[1]) on a DGLGraph, by a class of `dgl.nn`; heads are averaged.

    number: of the layer, from 1. options: of the class's constructor, accepted by `checked_options`.
    """

    def __init__(self, cls: type, sizes: tuple[int, int], number: int, options: Mapping[str, Any]):
        super().__init__()
        self.habit = HABITS.get(cls.__name__, Habit())
        arguments = {**_fixed(cls), **options}
        if self.habit.numbered:
            arguments["layer"] = number
        names = _size_names(cls)
        if self.habit.keeps_width:
            self.linear = torch.nn.Linear(*sizes, bias=False)
            arguments |= dict.fromkeys(names[:1], sizes[1])
        else:
            arguments |= dict(zip(names, sizes))
        self.conv = cls(**arguments)
        self.weighted = "edge_weight" in inspect.signature(self.conv.forward).parameters

    def forward(self, graph: DGLGraph, X: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """weight: (E,), from `edge_weights`; a class without `edge_weight` only sees the edges."""
        X = self.linear(X) if self.habit.keeps_width else X
        inputs = (X, X) if self.habit.initial else (X,)
        weights = {"edge_weight": weight} if self.weighted else {}
        Y = self.conv(graph, *inputs, **weights, **self.habit.call)
        return Y.mean(1) if Y.dim() == 3 else Y  # (n_s, heads, c) -> (n_s, c)


@cache
def convolutions() -> dict[str, type]:
    """Classes of `dgl.nn` that only need a graph and its node features, by name."""
    from registry.spg.dgl_adapter import dgl  # takes over a second, and is not needed just to read a recipe

    found = {name: getattr(dgl.nn, name) for name in sorted(dir(dgl.nn))}
    return {name: cls for name, cls in found.items() if isinstance(cls, type) and _fits(name, cls)}


def _fits(name: str, cls: type) -> bool:
    if not issubclass(cls, torch.nn.Module) or name.startswith("CuGraph"):  # of another library, for GPUs alone
        return False
    habit = HABITS.get(name, Habit())
    inputs = list(inspect.signature(cls.forward).parameters.values())[1:]
    if not inputs or inputs[0].name not in ("graph", "g"):
        return False
    needed = [each.name for each in inputs[1:] if each.default is each.empty]
    return len(needed) == 1 + habit.initial and (habit.keeps_width or len(_size_names(cls)) == 2)


def _size_names(cls: type) -> tuple[str, ...]:
    """The constructor's arguments for input and output width; one or none for a class that keeps the width."""
    arguments = _arguments(cls)
    pairs = [tuple(name for name in pair if name in arguments) for pair in SIZES]
    return max(pairs, key=len)


def _arguments(cls: type) -> dict[str, inspect.Parameter]:
    return dict(list(inspect.signature(cls.__init__).parameters.items())[1:])  # type: ignore[misc]


def _fixed(cls: type) -> dict[str, Any]:
    given = {name: value for name, value in EVERYWHERE.items() if name in _arguments(cls)}
    return {**given, **HABITS.get(cls.__name__, Habit()).fixed}


def find_convolution(name: str) -> type:
    """The class of that name, regardless of case. Raises UserError with a suggestion and all names."""
    known = {canonical(each): cls for each, cls in convolutions().items()}
    if (cls := known.get(canonical(name))) is None:
        names = convolutions()
        raise UserError(
            f"embedder.conv: unknown convolution {name!r}; {suggestion(name, names)}available: {', '.join(names)}"
        )
    return cls


def checked_options(cls: type, options: Mapping[str, Any]) -> None:
    """Raises UserError for an option that is unknown, missing, or set by SCCS itself."""
    ours = {*_fixed(cls), *_size_names(cls), *(["layer"] if HABITS.get(cls.__name__, Habit()).numbered else [])}
    offered = {name: argument for name, argument in _arguments(cls).items() if name not in ours}
    listed = f"options of {cls.__name__}: {', '.join(offered) or 'none'}"
    for key in options:
        if key in ours and key in _arguments(cls):
            raise UserError(f"embedder.options.{key}: cannot be set in a recipe; {listed}")
        if key not in offered:
            raise UserError(f"embedder.options.{key}: unknown option; {suggestion(key, offered)}{listed}")
    for key, argument in offered.items():
        if argument.default is argument.empty and key not in options:
            raise UserError(f"embedder.options.{key}: missing, and it has no default; {listed}")


def edge_weights(graph: RegionGraph, kind: Literal["normalised", "affinity", "mean"]) -> torch.Tensor:
    """Weights (E,) for the edges of ``graph.graph``, according to `Habit.weights`."""
    if kind == "affinity":
        return graph.affinity.clamp(min=TINY)
    if kind == "mean":
        return graph.normalised * graph.graph.in_degrees()[graph.graph.edges()[1]]
    return graph.normalised


def network(cls: type, widths: Sequence[int], options: Mapping[str, Any], seed: int) -> torch.nn.ModuleList:
    """Layers from each width to the next, with DGL's initialisation from a seed; torch's own seed does not change.

    Raises UserError for values that the class rejects.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pairs = itertools.pairwise(widths)
        try:
            return torch.nn.ModuleList(
                Convolution(cls, pair, number, options) for number, pair in enumerate(pairs, start=1)
            )
        except Exception as error:  # DGL raises anything for invalid values
            raise refusal(cls, options, error) from error


def refusal(cls: type, options: Mapping[str, Any], error: Exception) -> UserError:
    """The error for a class that does not work with the recipe's options."""
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return UserError(f"embedder.options: {cls.__name__} does not work with {dict(options)}: {reason}")


def check_device(device: str | torch.device) -> None:
    """Raises UserError if the installed DGL has no kernels for a device."""
    from registry.spg.dgl_adapter import dgl

    try:
        dgl.graph(([0], [0])).to(device)
    except dgl.DGLError:
        raise UserError(
            f"embedder: gnn needs DGL's own kernels, and this DGL {dgl.__version__} has none for {device}; "
            "pass --device cpu, or install a DGL build for your GPU (docs/dgl.md)"
        ) from None
