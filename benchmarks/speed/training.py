"""Training times: SCCS and SCCS+ on graphs that already exist, and steps of the MAE.

    python -m benchmarks.speed.training [--graphs 8] [--side 560] [--iterations 6000] [--repeats 3] [--steps 20]
                                        [--out benchmarks/results/quick]

Graphs of synthetic phantom slices, 560 x 560 px each. `sccs` is trained for the paper's 6,000 iterations, as in its
recipe; seconds are of the training alone (nodes come from the cache, and the time of the graphs has its own column).
`sccs_plus` is fitted instead. MAE: steps per second of the architecture in recipes/mae.yaml with 8 crops per step,
without the first two, in single precision. Writes OUT/training.md and .csv.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.harness import phantom
from benchmarks.pages import Origin, markdown, median_range, publish, typed
from sccs.arguments import positive
from sccs.data import load_dataset
from sccs.pipeline import Pipeline
from sccs.recipe import load_recipe
from sccs.system.exits import guard
from sccs.training.pretrain import prepare

COMMAND = "python -m benchmarks.speed.training"

PAPER = "6 h on an RTX 2080 Ti"
BATCH = 8


def _train(system: str, side: int, slices: int, options: Sequence[str], seed: int) -> tuple[float, float, int]:
    """Seconds of graphs and of the training, and nodes of all graphs."""
    pipeline = Pipeline.from_recipe(system, options, seed=seed)
    pipeline.fit(
        load_dataset(phantom(side, depth=max(4, slices), train_slices=slices), Path.cwd(), 0, pipeline.min_side)
    )
    return pipeline.seconds["graphs"], pipeline.seconds["training"], sum(g["nodes"] for g in pipeline.diagnostics)


def _mae_steps(steps: int) -> list[float]:
    """Seconds of single steps of pre-training."""
    recipe = load_recipe("mae").resolved()["pretrain"]
    data = phantom(400, depth=8, train_slices=2)
    trainer = prepare({**recipe, "data": [data], "batch": BATCH, "amp": False}, "cpu", 0, Path.cwd())
    seconds = []
    for _ in range(steps + 2):
        start = time.perf_counter()
        trainer.step()
        seconds.append(time.perf_counter() - start)
    return seconds[2:]


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(COMMAND, description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--graphs", type=positive, default=8)
    parser.add_argument("--side", type=positive, default=560, help="px of a slice")
    parser.add_argument("--iterations", type=positive, default=6000)
    parser.add_argument("--repeats", type=positive, default=3, help="trainings, with seeds 0, 1, ...")
    parser.add_argument("--steps", type=positive, default=20, help="of the MAE")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/quick"))
    args = parser.parse_args(argv)
    rows, lines = [], []
    warmup = args.iterations // 4  # the recipe's share
    systems = {"sccs": [f"train.iterations={args.iterations}", f"clusterer.warmup={warmup}"], "sccs_plus": []}
    for system, options in systems.items():
        runs = [_train(system, args.side, args.graphs, options, seed) for seed in range(args.repeats)]
        rows += [[system, seed, f"{graphs:.3f}", f"{training:.3f}"] for seed, (graphs, training, _) in enumerate(runs)]
        what = f"{args.iterations:,} iterations" if system == "sccs" else "fit, and iterations of the head"
        lines.append(
            [
                system,
                what,
                f"{args.graphs} graphs, {runs[0][2]:,} nodes",
                f"{runs[0][0]:.1f}",
                median_range([training for _, training, _ in runs], digits=1),
            ]
        )
    seconds = _mae_steps(args.steps)
    rows += [["mae", step, "", f"{value:.4f}"] for step, value in enumerate(seconds)]
    lines.append(["mae", "one step", f"{BATCH} crops", "-", median_range(seconds, digits=3)])
    text = (
        f"Seconds, median (range) over "
        f"{args.repeats} trainings, {args.steps} steps. Graphs: seconds of the first run, with features unless cached. "
        f"The paper trains SCCS in {PAPER}.\n\n"
        + markdown(["system", "training", "on", "graphs, s", "training, s"], lines)
        + f"\n\nMAE: {1 / np.median(seconds):.2f} steps ({BATCH / np.median(seconds):.1f} crops) per second."
    )
    heads = ["system", "seed or step", "graphs", "training"]
    print(publish(args.out, "training", "Time of trainings", Origin.here(typed(COMMAND, argv)), text, heads, rows))
    return 0


if __name__ == "__main__":
    sys.exit(guard(main)())
