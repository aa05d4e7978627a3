"""Seconds per 560 x 560 field of view by stage, and nodes of the graph, for SCCS and its competitors.

    python -m benchmarks.speed.timing [--systems sccs ...] [--repeats 5] [--size quick|full] [--threads N]
                                      [--out benchmarks/results/SIZE]

The image is a FOV of the synthetic phantom; its content hardly matters to any stage. Systems take turns, round by
round, so that a busy machine slows all of them equally; medians and ranges are reported. MAESTER sends every pixel
through the encoder: `full` times it once over the whole FOV, `quick` over a corner of 160 x 160 px, in proportion to
its passes (and says so). Trainings, which are not timed, are as short as possible: no time depends on them.
Writes OUT/timing.md, .csv and .png. The paper's times were measured on an RTX 2080 Ti.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.harness import phantom
from benchmarks.pages import Origin, markdown, publish, typed
from registry.features.maester import Maester
from sccs.arguments import positive
from sccs.data import load_dataset
from sccs.model.model import STAGES
from sccs.pipeline import Pipeline
from sccs.report.drawing import INK, new_figure, save_png
from sccs.system.exits import guard

COMMAND = "python -m benchmarks.speed.timing"

SIDE = 560  # px of the FOV (paper)
CORNER = 160  # px, for MAESTER at the quick size
PAPER = {"features": 1.997, "graph": 1.129, "embed + cluster": 0.003}  # s on an RTX 2080 Ti
PAPER_RATIO, PAPER_NODES = 137.61, 6.53
RELEASED_PASSES = 24_649  # of MAESTER's released code over 560 x 560 px; 19,600 would do
SYSTEMS = (
    "sccs",
    "sccs_fast",
    "sccs_plus",
    "sccs_plus_own",
    "sccs_plus_mae",
    "kmeans",
    "spectral",
    "wo_nsc",
    "deepcut_cc",
    "deepcut_ncut",
    "dsm",
    "han",
    "maester",
)
BRIEF = ["train.iterations=40", "clusterer.warmup=20"]
BRIEF_PLUS = ["clusterer.iterations=20"]
SHORT = {
    "sccs": BRIEF,
    "sccs_fast": BRIEF,
    "sccs_plus": BRIEF_PLUS,
    "sccs_plus_own": [*BRIEF_PLUS, "features.of.2.steps=5"],
    "sccs_plus_mae": BRIEF_PLUS,
    "han": ["features.steps=20"],
}


def trained(system: str) -> Pipeline:
    """A model of the phantom, trained as briefly as possible."""
    pipeline = Pipeline.from_recipe(system, SHORT.get(system, []))
    side = CORNER if system == "maester" else SIDE
    return pipeline.fit(load_dataset(phantom(side), Path.cwd(), 0, pipeline.min_side))


def field_of_view(side: int) -> np.ndarray:
    """A field of view of the phantom, (side, side) float32, standardised."""
    return next(load_dataset(phantom(side), Path.cwd(), 0).test[0].fovs()).image


def measure(pipelines: dict[str, Pipeline], repeats: int, whole: bool) -> dict[str, tuple[np.ndarray, int]]:
    """(rounds, stages) seconds and nodes of each system."""
    images = {name: field_of_view(CORNER if name == "maester" and not whole else SIDE) for name in pipelines}
    rounds: dict[str, list] = {name: [] for name in pipelines}
    nodes = {}
    for turn in range(-1, repeats):  # the first round warms up
        for name, pipeline in pipelines.items():
            if name == "maester" and (turn > 0 or (whole and turn < 0)):
                continue
            result = pipeline.segment_fov(images[name])
            nodes[name] = result.graph.n
            if turn >= 0:
                rounds[name].append([result.seconds[stage] for stage in STAGES])
            print(f"{name}: {', '.join(f'{s} {v:.3f}' for s, v in result.seconds.items())} s", flush=True)
    seconds = {name: np.array(values) for name, values in rounds.items()}
    if "maester" in seconds and not whole:
        features = pipelines["maester"].features
        assert isinstance(features, Maester)
        seconds["maester"] *= (SIDE / CORNER) ** 2
        seconds["maester"][:, 0] *= features.passes(SIDE, SIDE) / features.passes(CORNER, CORNER) / (SIDE / CORNER) ** 2
        nodes["maester"] = SIDE * SIDE
    return {name: (seconds[name], nodes[name]) for name in pipelines}


def _table(measured: dict[str, tuple[np.ndarray, int]], whole: bool) -> str:
    base = np.median(measured["sccs"][0].sum(1)) if "sccs" in measured else np.nan
    lines = []
    for name, (seconds, nodes) in measured.items():
        stages, total = np.median(seconds, axis=0), seconds.sum(1)
        lines.append(
            [
                name,
                f"{nodes:,}",
                *(f"{value:.4f}" for value in stages),
                f"{np.median(total):.3f} ({total.min():.3f} to {total.max():.3f})",
                f"{np.median(total) / base:.2f}",
            ]
        )
    lines.append(
        [
            "SCCS, paper (RTX 2080 Ti)",
            "about 3,000",
            f"{PAPER['features']:.3f}",
            f"{PAPER['graph']:.3f}",
            f"{PAPER['embed + cluster']:.3f}",
            "(with the former)",
            f"{sum(PAPER.values()):.3f}",
            "-",
        ]
    )
    text = markdown(["system", "nodes", *STAGES, "total: median (range)", "of sccs"], lines)
    notes = []
    if "maester" in measured and "sccs" in measured:
        total = np.median(measured["maester"][0].sum(1))
        passes = _measured_passes()
        notes.append(
            f"SCCS is {total / base:.0f} times as fast as MAESTER at {passes:,} passes over the FOV"
            + ("" if whole else f", timed on {CORNER} x {CORNER} px in proportion to passes")
            + f"; at the {RELEASED_PASSES:,} of the released code (calculated) "
            f"{total / base * RELEASED_PASSES / passes:.0f} times. Paper: {PAPER_RATIO} times."
        )
    if "dsm" in measured and "sccs" in measured:
        notes.append(
            f"The patch graph of DSM has {measured['dsm'][1] / measured['sccs'][1]:.2f} times the nodes of the "
            f"spG. Paper: {PAPER_NODES} times."
        )
    return "\n\n".join([text, *notes])


def _measured_passes() -> int:
    features = Pipeline.from_recipe("maester").features
    assert isinstance(features, Maester)
    return features.passes(SIDE, SIDE)


def _picture(measured: dict[str, tuple[np.ndarray, int]], path: Path) -> None:
    figure, axes = new_figure(6, 0.3 * len(measured) + 1)
    axis, left = axes[0, 0], np.zeros(len(measured))
    for i, (stage, colour) in enumerate(zip(STAGES, ("#3d6fa8", "#e0a458", "#7a9e7e", "#c8553d"))):
        values = np.array([np.median(seconds[:, i]) for seconds, _ in measured.values()])
        axis.barh(range(len(measured)), values, left=left, color=colour, label=stage)
        left += values
    axis.set_yticks(range(len(measured)), measured, fontsize=8)
    axis.invert_yaxis()
    axis.set_xscale("symlog", linthresh=1)
    axis.set_xlabel("seconds per 560 x 560 FOV (linear to 1 s, then logarithmic)", fontsize=8, color=INK)
    axis.tick_params(axis="x", labelsize=7)
    axis.legend(fontsize=7, frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    save_png(figure, path)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(COMMAND, description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS))
    parser.add_argument("--repeats", type=positive, default=5)
    parser.add_argument("--size", choices=("quick", "full"), default="quick")
    parser.add_argument("--threads", type=positive, help="CPU threads; default: PyTorch's own choice")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args(argv)
    out = args.out or Path("benchmarks/results") / args.size
    if args.threads:
        torch.set_num_threads(args.threads)
    whole = args.size == "full"
    measured = measure({name: trained(name) for name in args.systems}, args.repeats, whole)
    text = f"Median of {args.repeats} rounds in which the systems take turns; seconds.\n\n" + _table(measured, whole)
    rows = [
        [name, nodes, turn, *(f"{v:.6f}" for v in stages)]
        for name, (seconds, nodes) in measured.items()
        for turn, stages in enumerate(seconds)
    ]
    _picture(measured, out / "timing.png")
    heads = ["system", "nodes", "round", *STAGES]
    origin, title = Origin.here(typed(COMMAND, argv)), "Time per field of view and nodes"
    print(publish(out, "timing", title, origin, text, heads, rows))
    return 0


if __name__ == "__main__":
    sys.exit(guard(main)())
