"""What each choice in recipes/sccs.yaml is worth: the recipe with one choice changed at a time, on the real sets.

    python benchmarks/study_sccs.py [--sets platelet hela cdeep3m vnc] [--seeds 0] [--iterations 2000]
                                    [--out benchmarks/results/study_sccs]

Shorter than the recipe (2,000 iterations, warm-up 400) so that all of it takes minutes. Results are kept and resumed
as in benchmarks/real_sets.py, whose harness this is. Writes OUT/table.md.
"""
from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from real_sets import REAL, carry_out, describe, job, mean_sd  # noqa: E402
from registry.base import UserError  # noqa: E402
from sccs.files import write_json, write_text  # noqa: E402

VARIANTS = {
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
    "the paper's letter": ["graph.standardize=none", "graph.kappa=2", "graph.edges=all", "embedder.columns=graph",
                           "embedder.scale=graph", "embedder.orthogonality=paper", "clusterer.detach=false",
                           "train.schedule=constant"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sets", nargs="+", default=list(REAL))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--variants", nargs="+", type=int, metavar="N", help="numbers of rows, from 0 (default: all)")
    parser.add_argument("--iterations", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/study_sccs"))
    args = parser.parse_args()
    length = [f"train.iterations={args.iterations}", f"clusterer.warmup={args.iterations // 5}"]
    lines = ["| choice | " + " | ".join(args.sets) + " | mean | clusters in use, least |",
             "|---" * (len(args.sets) + 3) + "|"]
    machines = set()
    chosen = list(VARIANTS.items())
    for name, overrides in chosen if args.variants is None else [chosen[i] for i in args.variants]:
        scores, used = {data: [] for data in args.sets}, []
        for data in args.sets:
            for seed in args.seeds:
                wanted = job("sccs", data, seed, length + overrides)
                path = args.out / "runs" / wanted.file
                if not path.exists():
                    try:
                        write_json(path, carry_out(wanted))
                    except UserError as error:
                        print(f"{name}, {data}, seed {seed}: {error}", flush=True)
                        continue
                result = json.loads(path.read_text())
                scores[data].append(result["dsc_train"])
                used += result["used_per_test_volume"]
                machines.add(describe(result["machine"]))
        cells = [mean_sd(scores[data]) if scores[data] else "failed" for data in args.sets]
        complete = all(len(values) == len(args.seeds) for values in scores.values())
        mean = f"{np.mean([np.mean(values) for values in scores.values()]):.3f}" if complete else "-"
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {mean} | {min(used, default=0)} |")
        print(lines[-1], flush=True)
    about = (f"Mean DSC on test images, mapping `train`, seeds {args.seeds}, {args.iterations} iterations, "
             f"{'; '.join(sorted(machines))}.")
    write_text(args.out / "table.md", about + "\n\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
