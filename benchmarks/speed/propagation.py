"""Dense, CSR and DGL products with the normalised affinity, by density: decides `registry.spg.propagation.DENSE_ABOVE`.

    python -m benchmarks.speed.propagation [--nodes 3000] [--channels 12 96] [--repeats 15]

Random symmetric graphs; median milliseconds of one forward product, all three on the same graph in turn.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

import numpy as np
import torch

from registry.spg.graphs import RegionGraph
from registry.spg.propagation import Propagation, product
from sccs.arguments import positive
from sccs.system.exits import guard

COMMAND = "python -m benchmarks.speed.propagation"

DENSITIES = (0.003, 0.01, 0.03, 0.1, 0.3)
MODES: tuple[Propagation, ...] = ("dense", "csr", "dgl")


def random_graph(n: int, density: float) -> RegionGraph:
    """n nodes with an edge to themselves, and to about a share `density` of the others."""
    rng = np.random.default_rng(0)
    A = np.triu(rng.random((n, n)) * (rng.random((n, n)) < density), 1)
    src, dst = np.nonzero(A + A.T + np.eye(n))
    return RegionGraph.from_edges(
        np.arange(n).reshape(1, n), np.zeros((n, 1)), np.ones(n), np.zeros((n, 2)), src, dst, np.ones(len(src))
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; prints, and writes no file."""
    parser = argparse.ArgumentParser(COMMAND, description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--nodes", type=positive, default=3000)
    parser.add_argument("--channels", type=positive, nargs="+", default=[12, 96])
    parser.add_argument("--repeats", type=positive, default=15)
    args = parser.parse_args(argv)
    print(f"{args.nodes} nodes, {torch.get_num_threads()} threads, milliseconds")
    for density in DENSITIES:
        graph = random_graph(args.nodes, density)
        operators = {mode: product(graph.graph, graph.normalised, mode) for mode in MODES}
        for channels in args.channels:
            X = torch.randn(args.nodes, channels)
            seconds: dict[str, list[float]] = {mode: [] for mode in operators}
            for _ in range(args.repeats + 1):  # the first warms up
                for mode, operator in operators.items():
                    start = time.perf_counter()
                    operator(X)
                    seconds[mode].append(time.perf_counter() - start)
            print(
                f"density {graph.density:.3f}, {channels:3} channels: "
                + ", ".join(f"{mode} {1000 * np.median(values[1:]):.2f}" for mode, values in seconds.items())
            )
    return 0


if __name__ == "__main__":
    sys.exit(guard(main)())
