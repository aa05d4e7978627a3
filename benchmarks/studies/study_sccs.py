"""What each choice in recipes/sccs.yaml is worth: the recipe with one choice changed at a time.

    python -m benchmarks.studies.study_sccs [--data platelet hela cdeep3m vnc] [--seeds 0] [--iterations 2000]
                                            [--variants N ...] [--out benchmarks/results/study_sccs]

Shorter than the recipe (2,000 iterations, warm-up 400) so that all of it takes minutes. Results are kept and resumed as
benchmarks/harness.py says. Writes OUT/table.md and .csv.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from benchmarks.harness import REAL, job, result_of
from benchmarks.pages import Origin, describe, markdown, mean_sd, publish
from sccs.system.exits import guard

COMMAND = "python -m benchmarks.studies.study_sccs"
VARIANTS: dict[str, list[str]] = {
    "as in recipes/sccs.yaml": [],
    "L_spe graph by graph": ["embedder.columns=graph"],
    "unit columns": ["embedder.scale=unit"],
    "columns as the layers give them": ["embedder.scale=none"],
    "start at principal directions": ["embedder.init=pca"],
    "joint: L_clu and L_smo reach the embedding": ["clusterer.detach=false"],
    "constant learning rate": ["train.schedule=constant"],
    "all pairs as edges": ["graph.edges=all"],
    "feature neighbours only": ["graph.edges=knn"],
    "touching regions only": ["graph.edges=adjacent"],
    "kappa 2 on features as they are": ["graph.standardize=none", "graph.kappa=2"],
    # `paper_letter` has more: the head from the first iteration, centroids of all nodes seen, no reseeding
    "all of the printed choices among these": [
        "graph.standardize=none",
        "graph.kappa=2",
        "graph.edges=all",
        "embedder.columns=graph",
        "embedder.scale=graph",
        "embedder.orthogonality=paper",
        "clusterer.detach=false",
        "train.schedule=constant",
    ],
}


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.studies.study_sccs", description=__doc__.partition("\n")[0], allow_abbrev=False
    )
    parser.add_argument("--data", nargs="+", default=list(REAL), metavar="SET")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--variants", nargs="+", type=int, metavar="N", help="numbers of rows, from 0 (default: all)")
    parser.add_argument("--iterations", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/study_sccs"))
    args = parser.parse_args()
    length = [f"train.iterations={args.iterations}", f"clusterer.warmup={args.iterations // 5}"]
    rows: list[list[str]] = []
    values: list[list[str | int]] = []
    machines, commits = set(), set()
    chosen = list(VARIANTS.items())
    for name, overrides in chosen if args.variants is None else [chosen[i] for i in args.variants]:
        found = {
            data: [result_of(job("sccs", data, seed, overrides=length + overrides), args.out) for seed in args.seeds]
            for data in args.data
        }
        done = {data: [r for r in results if "failed" not in r] for data, results in found.items()}
        scores = {data: [r["test"]["train"]["mean"]["dsc"] for r in results] for data, results in done.items()}
        machines |= {describe(r["machine"]) for results in done.values() for r in results}
        commits |= {r["commit"] for results in done.values() for r in results}
        for result in (r for results in done.values() for r in results):
            dsc, use = result["test"]["train"]["mean"]["dsc"], min(result["used_per_test_volume"])
            values.append([name, result["set"], result["seed"], f"{dsc:.6g}", use])
        used = [u for results in done.values() for r in results for u in r["used_per_test_volume"]]
        complete = all(len(values) == len(args.seeds) for values in scores.values())
        mean = f"{np.mean([np.mean(values) for values in scores.values()]):.3f}" if complete else "-"
        rows.append([name, *(mean_sd(values) for values in scores.values()), mean, str(min(used, default=0))])
        print(" | ".join(rows[-1]), flush=True)
    text = f"Mean DSC on test images, mapping `train`, {args.iterations} iterations.\n\n"
    text += markdown(["choice", *args.data, "mean", "clusters in use, least"], rows)
    origin = Origin(COMMAND, sorted(machines), sorted(commits), args.seeds)
    heads = ["choice", "set", "seed", "dsc", "clusters in use"]
    print(publish(args.out, "table", "One choice at a time", origin, text, heads, values))
    return 0


if __name__ == "__main__":
    sys.exit(guard(main)())
