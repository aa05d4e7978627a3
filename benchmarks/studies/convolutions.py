"""Whether another graph convolution of DGL gives a better embedding than the paper's, on training images.

    python -m benchmarks.studies.convolutions [--data cdeep3m vnc] [--seeds 0] [--iterations 2000]
                                              [--out benchmarks/results/convolutions]

No test image is used; scores are computed as in benchmarks/studies/study_sccs.py. The head is that of `sccs`; the first
quarter of the iterations trains the embedding alone. Writes OUT/convolutions.md and OUT/convolutions.csv.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.harness import REAL
from benchmarks.pages import Origin, markdown, mean_sd, publish, typed
from benchmarks.studies.study_sccs import FEATURES, seen_of, trial
from benchmarks.studies.views import views_of
from sccs.system.exits import guard

COMMAND = "python -m benchmarks.studies.convolutions"
OPTIONS = {  # of each class, as used by its authors or in DGL's examples
    "GraphConv": {},
    "SGConv": {"k": 2},
    "TAGConv": {"k": 3},
    "ChebConv": {"k": 3},
    "APPNPConv": {"k": 3, "alpha": 0.1},
    "GCN2Conv": {"alpha": 0.1},
    "SAGEConv": {"aggregator_type": "mean"},
    "GATv2Conv": {"num_heads": 2},
}
MEASURES = ("dsc", "spe", "seconds")


def systems() -> dict[str, tuple[str, ...]]:
    """Overrides of `sccs` by row: its own embedder, the same graph by graph as `gnn` is trained, and each class."""
    alike = ("embedder.columns=graph", "embedder.scale=explained")
    rows: dict[str, tuple[str, ...]] = {"lgc, as in sccs": (), "lgc, graph by graph": alike}
    for name, options in OPTIONS.items():
        block = {"name": "gnn", "conv": name, "options": options, "channels": [96, 48], "u": 12}
        rows[name] = (f"embedder={json.dumps(block)}",)
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(COMMAND, description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--data", nargs="+", default=["cdeep3m", "vnc"], choices=REAL, metavar="SET")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--iterations", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/convolutions"))
    args = parser.parse_args(argv)
    length = (f"train.iterations={args.iterations}", f"clusterer.warmup={args.iterations // 4}")
    sets = {data: seen_of(views_of(data, FEATURES)) for data in args.data}
    lines, values = [], []
    for name, overrides in systems().items():
        found = {
            data: [trial("sccs", (*length, *overrides), each, s) for s in args.seeds] for data, each in sets.items()
        }
        values += [
            [name, data, seed, measure, f"{each[measure]:.6g}"]
            for data, trials in found.items()
            for seed, each in zip(args.seeds, trials)
            for measure in MEASURES
        ]
        trials = [each for several in found.values() for each in several]
        dsc = [mean_sd([each["dsc"] for each in several]) for several in found.values()]
        spe, seconds = (np.mean([each[measure] for each in trials]) for measure in ("spe", "seconds"))
        mean = np.mean([each["dsc"] for each in trials])
        lines.append([name, *dsc, f"{mean:.3f}", f"{spe:.4f}", f"{seconds:.0f}"])
        print(" | ".join(lines[-1]), flush=True)
    text = (
        f"DSC: mean over classes on halves of the training images, as in the study of `sccs`. L_spe: Eq. 2, mean "
        f"over the training graphs, each on its own. Seconds of {args.iterations} iterations, of which the last three "
        "quarters also train the head.\n\n"
    ) + markdown(["embedder", *args.data, "mean DSC", "L_spe", "seconds"], lines)
    origin = Origin.here(typed(COMMAND, argv), seeds=args.seeds)
    heads = ["embedder", "set", "seed", "measure", "value"]
    print(publish(args.out, "convolutions", "Graph convolutions of DGL", origin, text, heads, values))
    return 0


if __name__ == "__main__":
    sys.exit(guard(main)())
