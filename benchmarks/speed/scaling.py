"""LGC embedding against numerical eigensolvers, by the number of nodes at a fixed mean degree: time, memory, growth.

    python -m benchmarks.speed.scaling [--nodes 1000 3000 10000 30000 100000] [--repeats 5] [--no-memory]
                                       [--out benchmarks/results/quick]

Synthetic graphs: nodes on a grid, 384 features each (smooth random fields and noise), joined to their ten nearest in
features and to their four neighbours in the grid, as the recipes' graphs are. At 3,000 nodes, also with all pairs
joined, as in the paper. Twelve coordinates each. Building the normalised affinity from the list of edges, which every
method needs, is timed separately from the embedding.

  lgc             384 -> 96 -> 48 -> 12, three propagations (the paper's network; its weights do not affect the time)
  lgc_principal   384 -> 12, six propagations (recipe sccs_plus_mae)
  eigsh           ARPACK on Â in double precision, to machine precision: the reference
  eigsh float32   the same in single precision, to single precision
  lobpcg          from a random block, relative residual 1e-4, at most 200 iterations
  eigh            dense, up to 3,000 nodes

Methods take turns, round by round (`eigh` once), each after a pause in which the previous method's threads go to sleep;
up to 3,000 nodes, each is called four times in a row. Memory: growth of the peak of a separate process. Residual: the
largest |Â z - lambda z| of a solver's columns. The embedding is compared with the reference and with the quickest
solver, with and without building the operator. Writes OUT/scaling.md, .csv and .png.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from benchmarks.pages import Origin, markdown, median_range, publish, typed
from registry.embedder.lgc import LGC
from registry.embedder.lgc_principal import LGCPrincipal
from registry.graph.superpixel import Superpixel
from registry.spg.graphs import Nodes, RegionGraph
from registry.spg.propagation import DENSE_ABOVE
from sccs.arguments import positive
from sccs.report.drawing import INK, new_figure, save_png
from sccs.system.exits import guard

if TYPE_CHECKING:
    from multiprocessing.queues import Queue

COMMAND = "python -m benchmarks.speed.scaling"

U, FEATURES, FIELDS = 12, 384, 16
DENSE_UP_TO, PAPER_NODES = 3000, 3000
MORE = 4  # calls in a row where they take milliseconds
PAUSE = 0.2  # s: threads of a library keep a core busy for a while after its last product
OURS = ("lgc", "lgc_principal")
REFERENCE = "eigsh"

Curves = dict[str, list[tuple[int, float]]]  # by method: entries of the affinity, median seconds


def made_graph(n: int, edges: Literal["all", "knn+adjacent"] = "knn+adjacent") -> RegionGraph:
    """A synthetic graph of about n nodes on a square grid."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(0)
    side = int(np.sqrt(n))
    n, index = side * side, np.arange(side * side).reshape(side, side)
    fields = np.stack([gaussian_filter(rng.standard_normal((side, side)), 4, mode="wrap") for _ in range(FIELDS)], 2)
    fields = fields.reshape(n, FIELDS) / fields.std()
    feature = fields @ rng.standard_normal((FIELDS, FEATURES)) + rng.standard_normal((n, FEATURES))
    touching = np.concatenate(
        [np.stack([index[:, :-1].ravel(), index[:, 1:].ravel()]), np.stack([index[:-1].ravel(), index[1:].ravel()])],
        axis=1,
    )
    nodes = Nodes(
        index.astype(np.int32),
        feature.astype(np.float32),
        np.ones(n, np.float32),
        np.stack(np.divmod(np.arange(n), side), 1).astype(np.float32),
        touching,
    )
    part = Superpixel(edges=edges, kappa="median", alpha=None)
    part.fit([nodes])
    return part.connect(nodes)


def fresh(graph: RegionGraph) -> RegionGraph:
    """The same graph with nothing computed yet."""
    return RegionGraph.from_edges(
        graph.regions, graph.feature, graph.area, graph.centroid, *graph.edges, graph.affinity
    )


@dataclass
class Method:
    """build: graph -> the operator Â in the form that the method works on. solve: that -> eigenvalues, if any, and
    coordinates (n, U)."""

    build: Callable[[RegionGraph], Any]
    solve: Callable[[Any], tuple[np.ndarray | None, np.ndarray]]


def method(name: str) -> Method:
    """The method of one of METHODS."""
    if name in OURS:
        part = LGC(u=U, seed=0) if name == "lgc" else LGCPrincipal(u=U, hops=6, normalisation="walk")
        part.fit([made_graph(400)])
        if isinstance(part, LGC):
            part.eval()

        def embed(graph: RegionGraph) -> tuple[None, np.ndarray]:
            with torch.inference_mode():
                return None, part.embed(graph).numpy()

        return Method(_with_operator, embed)

    def matrix(graph: RegionGraph) -> Any:
        from scipy.sparse import csr_matrix

        dtype = np.float32 if name == "eigsh float32" else np.float64
        M = csr_matrix((graph.normalised.numpy().astype(dtype), (graph.src.numpy(), graph.dst.numpy())), (graph.n,) * 2)
        return M.toarray() if graph.density > DENSE_ABOVE or name == "eigh" else M

    def solve(M: Any) -> tuple[np.ndarray, np.ndarray]:
        from scipy.sparse.linalg import eigsh, lobpcg

        if name == "eigh":
            values, vectors = np.linalg.eigh(M)
            return values[-U:], vectors[:, -U:]
        start = np.random.default_rng(0).standard_normal((M.shape[0], U)).astype(M.dtype)
        if name != "lobpcg":
            return eigsh(M, U, which="LA", v0=start[:, 0])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the table reports the residual
            return lobpcg(M, start, largest=True, tol=1e-4, maxiter=200)

    return Method(matrix, solve)


def _with_operator(graph: RegionGraph) -> RegionGraph:
    graph.propagate(torch.zeros(graph.n, 1))  # makes the operator and keeps it
    return graph


METHODS = (*OURS, "eigsh", "eigsh float32", "lobpcg", "eigh")


def _residual(graph: RegionGraph, values: np.ndarray, vectors: np.ndarray) -> float:
    """The largest |Â z - lambda z| of the vectors (n, U)."""
    Z = torch.from_numpy(np.ascontiguousarray(vectors, dtype=np.float64))
    M = torch.sparse_coo_tensor(
        torch.stack([graph.src, graph.dst]), graph.normalised.double(), (graph.n, graph.n), check_invariants=False
    )
    return float((M @ Z - Z * torch.from_numpy(np.asarray(values, dtype=np.float64))).norm(dim=0).max())


def _peak(name: str, graph: RegionGraph, queue: Queue[float]) -> None:
    """Linux: resets the peak of memory use before the call, and reads it afterwards."""
    how, status = method(name), Path("/proc/self/status")
    how.solve(how.build(made_graph(400)))  # imports
    Path("/proc/self/clear_refs").write_text("5")
    before = _status(status, "VmRSS")
    how.solve(how.build(fresh(graph)))
    queue.put((_status(status, "VmHWM") - before) / 1024)


def _status(path: Path, field: str) -> int:
    return int(next(line for line in path.read_text().splitlines() if line.startswith(field)).split()[1])


def memory(name: str, graph: RegionGraph) -> float:
    """MiB that a call adds to the peak of a process that has the graph already."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_peak, args=(name, graph, queue))
    process.start()
    try:
        return queue.get(timeout=600)
    finally:
        process.join()


def growth(edges: Sequence[float], seconds: Sequence[float]) -> float:
    """Exponent of time in edges, by least squares over the logarithms."""
    return float(np.polyfit(np.log(edges), np.log(seconds), 1)[0])


@dataclass
class Timed:
    """Measurements of one graph and method: (build, solve) seconds of each call, and the residual of a solver."""

    seconds: list[tuple[float, float]] = field(default_factory=list)
    residual: float | None = None

    @property
    def medians(self) -> np.ndarray:
        """Median seconds of build and solve."""
        return np.median(self.seconds, axis=0)


Graphs = dict[tuple[int, str], dict[str, Timed]]  # by nodes and kind of edges, then by method


def read(path: Path) -> Graphs:
    """The seconds in a scaling.csv."""
    graphs: Graphs = {}
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            timed = graphs.setdefault((int(row["nodes"]), row["edges"]), {}).setdefault(row["method"], Timed())
            timed.seconds.append((float(row["operator seconds"]), float(row["embedding seconds"])))
    return graphs


def times_as_fast(timed: dict[str, Timed], name: str) -> list[float]:
    """How many times as fast an embedding is: against the quickest solver, alone and with the operator, then against
    the reference, likewise."""
    alone = {key: each.medians[1] for key, each in timed.items()}
    whole = {key: each.medians.sum() for key, each in timed.items()}
    solvers = [key for key in timed if key not in OURS]
    ratios = []
    for other in (None, REFERENCE):
        for clock in (alone, whole):
            ratios.append(clock[other or min(solvers, key=clock.__getitem__)] / clock[name])
    return ratios


def in_words(graphs: Graphs, nodes: Sequence[int]) -> str:
    """How `lgc` compares at some sizes of sparse graphs (the nearest available), one sentence each."""
    sizes = {min((n for n, kind in graphs if kind != "all"), key=lambda n: abs(n - wanted)): None for wanted in nodes}
    said = []
    for n in sizes:
        quickest, with_operator, reference, reference_with_operator = times_as_fast(graphs[n, "knn+adjacent"], "lgc")
        said.append(
            f"At {n:,} nodes the embedding (`lgc`) is {quickest:.1f} times as fast as the quickest solver and "
            f"{reference:.1f} times as fast as Lanczos in double precision; including building the operator from the "
            f"edges, {with_operator:.1f} and {reference_with_operator:.1f} times."
        )
    return " ".join(said)


def _in_turn(graph: RegionGraph, names: Sequence[str], repeats: int, calls: int) -> dict[str, Timed]:
    """Rounds in which the methods take turns, `calls` in a row; `eigh` has one round of one call."""
    methods, timed = {name: method(name) for name in names}, {name: Timed() for name in names}
    for turn in range(repeats + 1):  # the first warms up
        for name, how in methods.items():
            if name == "eigh" and turn > 1:
                continue
            time.sleep(PAUSE)
            for _ in range(calls if turn and name != "eigh" else 1):
                here, clock = fresh(graph), [time.perf_counter()]
                operator = how.build(here)
                clock.append(time.perf_counter())
                values, Z = how.solve(operator)
                clock.append(time.perf_counter())
                if turn:
                    timed[name].seconds.append((clock[1] - clock[0], clock[2] - clock[1]))
                elif values is not None:
                    timed[name].residual = _residual(graph, values, Z)
    return timed


def _lines(graph: RegionGraph, kind: str, timed: dict[str, Timed], mib: dict[str, float]) -> list[list[str]]:
    """Lines of the table for one graph."""
    lines = []
    for name, each in timed.items():
        build, solve = each.medians
        lines.append(
            [
                f"{graph.n:,}" + (" (all pairs)" if kind == "all" else ""),
                f"{graph.affinity.numel():,}",
                name,
                f"{build:.4f}",
                median_range([solve for _, solve in each.seconds]),
                f"{mib[name]:.0f}" if name in mib else "-",
                "-" if each.residual is None else f"{each.residual:.1e}",
                *([f"{ratio:.1f}" for ratio in times_as_fast(timed, name)] if name in OURS else "----"),
            ]
        )
        print(*lines[-1], sep="  ", flush=True)
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(COMMAND, description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--nodes", type=positive, nargs="+", default=[1000, 3000, 10_000, 30_000, 100_000])
    parser.add_argument("--repeats", type=positive, default=5)
    parser.add_argument(
        "--memory", action=argparse.BooleanOptionalAction, default=True, help="measure memory, one process each"
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/quick"))
    args = parser.parse_args(argv)
    kinds: list[tuple[int, Literal["all", "knn+adjacent"]]] = [(n, "knn+adjacent") for n in args.nodes]
    if PAPER_NODES in args.nodes:
        kinds.append((PAPER_NODES, "all"))
    rows: list[list[Any]] = []
    lines: list[list[str]] = []
    curves: Curves = {name: [] for name in METHODS}
    graphs: Graphs = {}
    for n, kind in kinds:
        graph = made_graph(n, kind)
        names = [name for name in METHODS if name != "eigh" or n <= DENSE_UP_TO]
        timed = _in_turn(graph, names, args.repeats, MORE if n <= PAPER_NODES else 1)
        graphs[graph.n, kind] = timed
        mib = {name: memory(name, graph) for name in names} if args.memory else {}
        edges = graph.affinity.numel()
        for name, each in timed.items():
            used = f"{mib.get(name, np.nan):.1f}"
            for turn, (build, solve) in enumerate(each.seconds):
                rows.append([graph.n, kind, edges, name, turn, f"{build:.6f}", f"{solve:.6f}", used])
            if kind != "all":
                curves[name].append((edges, each.medians[1]))
        lines += _lines(graph, kind, timed, mib)
    _picture(curves, args.out / "scaling.png")
    heads = ["nodes", "edges", "entries", "method", "round", "operator seconds", "embedding seconds", "MiB"]
    title, text = "Embedding by the size of the graph", _page(args, lines, curves, graphs)
    print(publish(args.out, "scaling", title, Origin.here(typed(COMMAND, argv)), text, heads, rows))
    return 0


def _page(args: argparse.Namespace, lines: list[list[str]], curves: Curves, graphs: Graphs) -> str:
    heads = [
        "nodes",
        "nonzero entries of A",
        "method",
        "operator",
        "embedding: median (range)",
        "MiB",
        "residual",
        "times as fast as the quickest solver",
        "operator included",
        "times as fast as double precision",
        "operator included",
    ]
    exponents = {name: growth(*zip(*points)) for name, points in curves.items() if len(points) > 2}
    return (
        f"Synthetic graphs. Median of {args.repeats} "
        f"rounds ({MORE} calls per round up to {PAPER_NODES:,} nodes); the methods take turns; seconds, MiB.\n\n"
        + markdown(heads, lines)
        + "\n\nTime of the embedding grows with the number of entries to the power of "
        + ", ".join(f"{value:.2f} ({name})" for name, value in exponents.items())
        + f".\n\n{in_words(graphs, (PAPER_NODES, max(args.nodes)))}"
    )


def _picture(curves: Curves, path: Path) -> None:
    figure, axes = new_figure(5.5, 3.6)
    axis = axes[0, 0]
    for name, points in curves.items():
        axis.plot(*zip(*points), "o-" if name in OURS else "s--", markersize=4, linewidth=1.2, label=name)
    axis.set(xscale="log", yscale="log")
    axis.set_xlabel("nonzero entries of the affinity", fontsize=8, color=INK)
    axis.set_ylabel("seconds", fontsize=8, color=INK)
    axis.tick_params(labelsize=7)
    axis.legend(fontsize=7, frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    save_png(figure, path)


if __name__ == "__main__":
    sys.exit(guard(main)())
