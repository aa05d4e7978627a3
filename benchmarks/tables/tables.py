"""The paper's tables and figures with our numbers, each by one command, on real EM sets and on the synthetic phantom.

    python benchmarks/tables/tables.py table1       DSC of every class and system (Table 1), five mappings side by side
    python benchmarks/tables/tables.py appendix1    IoU, sensitivity, accuracy (Appendix Table 1)
    python benchmarks/tables/tables.py appendix2    supervised references beside SCCS (Appendix Table 2)
    python benchmarks/tables/tables.py consistency  one mapping for all images against a mapping of its own for each
    python benchmarks/tables/tables.py table2       k = 6 to 9 (Table 2)
    python benchmarks/tables/tables.py figure5      superpixels 2,000 to 4,000, bases u = 4 to 16 (Figure 5)
    python benchmarks/tables/tables.py appendix3    noisy test images (Appendix Table 3)
    python benchmarks/tables/tables.py smoothness   with and without L_smo (Appendix Figure 1)
    python benchmarks/tables/tables.py plus         what each choice of SCCS+ is worth (not the paper's)

    [--data platelet hela cdeep3m vnc phantom betaseg] [--systems ...] [--seeds 0 1 2] [--size quick|full]
    [--root FOLDER of BetaSeg] [--out FOLDER, default benchmarks/results/SIZE] [--set a.b=c ...] [--kept]

Real sets are found through SCCS_DATA. Finished runs are kept in OUT/runs and not repeated (`harness.py` says what makes
two runs the same), so that a command that was stopped goes on, tables share runs, and several commands may work on one
OUT side by side; `--kept` makes the table of the runs that are there and runs nothing. Time and node counts:
benchmarks/speed/timing.py. Writes OUT/<table>.md, .csv and .png. The paper's own numbers are of BetaSeg, volume c4, and stand
in a column of their own.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from harness import REAL, SETS, describe, job, markdown, mean_sd, result_of
from noise import LEVELS

from registry.base import UserError
from sccs.cli import guard
from sccs.evaluation.scores import MAPPINGS, MEASURES
from sccs.recipe.grammar import packaged_recipes
from sccs.report.figures import INK, new_figure, save_png
from sccs.system.colours import class_colours, cluster_colours, colourise
from sccs.system.files import atomic_path, write_text

# system -> DSC on BetaSeg c4 as the paper prints it: nucleus, granules, mitochondria, unrecognized, average (Table 1)
PAPER = {
    "sccs": (0.954, 0.573, 0.861, 0.875, 0.816),
    "kmeans": (0.803, 0.571, 0.679, 0.858, 0.728),
    "dsm": (0.848, 0.345, 0.742, 0.817, 0.688),
    "deepcut_cc": (0.861, 0.333, 0.694, 0.778, 0.666),
    "han": (None, None, None, None, 0.659),
    "maester": (0.943, 0.556, 0.778, 0.868, 0.786),
    "wo_nsc": (0.903, 0.365, 0.769, 0.848, 0.721),
    "wo_nc_hm": (0.740, 0.485, 0.664, 0.802, 0.673),
    "wo_nc_inc": (0.945, 0.500, 0.785, 0.858, 0.772),
}
PAPER_K = {6: 0.559, 7: 0.798, 8: 0.816, 9: 0.761}  # Table 2, average DSC
UNSUPERVISED = (
    "sccs_plus",
    "sccs",
    "kmeans",
    "filters_kmeans",
    "intensity_kmeans",
    "raw_kmeans",
    "pixel_kmeans",
    "spectral",
    "dsm",
    "deepcut_ncut",
    "deepcut_cc",
    "han",
    "maester",
    "wo_nsc",
    "wo_nc_hm",
    "wo_nc_inc",
    "wo_smo",
    "paper_letter",
    "later_code",
)
SUPERVISED = ("linear_probe", "segmenter", "vit")  # trained on the labels of the training images
ONE_SLICE = 4  # systems a row in the picture of one slice


@dataclass(frozen=True)
class Row:
    """A line of a table: a system, its label there, what is changed in it."""

    label: str
    system: str
    overrides: tuple[str, ...] = ()


@dataclass
class Table:
    """rows(systems, size). write(answers, args): the pictures, and the text."""

    title: str
    rows: Callable[[Sequence[str], str], list[Row]]
    systems: Sequence[str]
    write: Callable[[Answers, argparse.Namespace], str]
    measures: Sequence[str] = ("dsc",)  # in the CSV


class Answers:
    """Results of all rows, sets and seeds, asked for by label."""

    def __init__(self, rows: Sequence[Row], results: dict[str, list[dict]]):
        self.rows, self.results = rows, results

    def of(self, label: str, data: str | None = None) -> list[dict]:
        return [r for r in self.results.get(label, []) if "failed" not in r and data in (None, r["set"])]

    def failures(self) -> list[str]:
        seen = [
            f"{label} on {r['set']}: {r['failed']}" for label, rs in self.results.items() for r in rs if "failed" in r
        ]
        return list(dict.fromkeys(seen))

    @property
    def sets(self) -> list[str]:
        seen = {r["set"] for results in self.results.values() for r in results}
        return [data for data in (*SETS, "betaseg") if data in seen]

    def classes(self, data: str) -> list[str]:
        return next((r["classes"] for row in self.rows for r in self.of(row.label, data)), [])

    def score(self, label: str, data: str, *, rule: str = "train", measure: str = "dsc", of: str = "mean") -> list:
        """Values over seeds of one measure: of a class, of the `mean`, or of `mean_without_rest`."""
        values = []
        for result in self.of(label, data):
            scores = result["test"][rule]
            values.append((scores["classes"][of] if of in scores["classes"] else scores[of])[measure])
        return values

    def over_sets(self, label: str, value: Callable[[str], list], sets: Iterable[str]) -> list[float]:
        """Means over sets, seed by seed; nothing where a set is missing."""
        columns = [value(data) for data in sets]
        complete = columns and all(columns) and len({len(c) for c in columns}) == 1
        return [float(np.mean(c)) for c in zip(*columns)] if complete and None not in sum(columns, []) else []


def plain(systems: Sequence[str], size: str) -> list[Row]:
    return [Row(system, system) for system in systems]


def real(answers: Answers) -> list[str]:
    return [data for data in answers.sets if data in REAL]


def named(data: str) -> str:
    return "phantom (synthetic)" if data == "phantom" else data


# --------------------------------------------------------------------------------------------------------- the tables
def table1(answers: Answers, args) -> str:
    sets = answers.sets
    heads = ["system", *map(named, sets), "mean of real sets", "clusters in use, least", "paper, BetaSeg c4"]
    lines = []
    for row in answers.rows:
        cells = [mean_sd(answers.score(row.label, data)) for data in sets]
        whole = answers.over_sets(row.label, lambda data: answers.score(row.label, data), real(answers))
        used = [u for r in answers.of(row.label) for u in r["used_per_test_volume"]]
        lines.append([marked(row), *cells, mean_sd(whole), str(min(used, default=0)), paper(row.system)])
    text = "Mean DSC over classes, by set:\n\n" + markdown(heads, lines)
    for data in sets:
        classes = answers.classes(data)
        heads = [
            "system",
            *classes,
            "mean",
            "without rest",
            *(rule + (" (upper bound)" if rule == "oracle" else "") for rule in MAPPINGS[1:]),
        ]
        lines = [
            [
                marked(row),
                *(mean_sd(answers.score(row.label, data, of=c)) for c in classes),
                mean_sd(answers.score(row.label, data)),
                mean_sd(answers.score(row.label, data, of="mean_without_rest")),
                *(mean_sd(answers.score(row.label, data, rule=rule)) for rule in MAPPINGS[1:]),
            ]
            for row in answers.rows
        ]
        text += f"\n\n{named(data)}: DSC of each class by mapping `train`, then the mean by other mappings:\n\n"
        text += markdown(heads, lines)
    matched = [
        [
            row.label,
            *(
                mean_sd([r["per_image"]["hungarian"]["mean"]["dsc"] for r in answers.of(row.label, data)])
                for data in sets
            ),
        ]
        for row in answers.rows
        if row.system == "wo_nc_hm"
    ]
    if matched:
        text += (
            "\n\nThe paper matches the clusters of `wo_nc_hm` with the ground truth of each test image. So matched "
            "(an upper bound, which no image without labels can have):\n\n"
            + markdown(["system", *map(named, sets)], matched)
        )
    text += "\n\nThe paper's Table 1 (BetaSeg c4; not our numbers):\n\n" + markdown(
        ["system", "nucleus", "granules", "mitochondria", "unrecognized", "average"],
        [[name, *("-" if v is None else f"{v:.3f}" for v in values)] for name, values in PAPER.items()],
    )
    bars(answers, args.out / "table1.png", "mean DSC, mapping `train`", lambda label, data: answers.score(label, data))
    for data in sets:
        slice_picture(answers, data, args.out / f"table1_{data}.png")
    return text


def marked(row: Row) -> str:
    return f"{row.label} (supervised)" if row.system in SUPERVISED else row.label


def paper(system: str) -> str:
    return f"{PAPER[system][-1]:.3f}" if system in PAPER else "-"


def appendix1(answers: Answers, args) -> str:
    text = []
    for data in answers.sets:
        classes = answers.classes(data)
        for measure in MEASURES[1:]:
            lines = [
                [
                    marked(row),
                    *(mean_sd(answers.score(row.label, data, measure=measure, of=c)) for c in classes),
                    mean_sd(answers.score(row.label, data, measure=measure)),
                    mean_sd(answers.score(row.label, data, measure=measure, of="mean_without_rest")),
                ]
                for row in answers.rows
            ]
            text.append(
                f"{named(data)}, {measure}, mapping `train`:\n\n"
                + markdown(["system", *classes, "mean", "without rest"], lines)
            )
    bars(
        answers,
        args.out / "appendix1.png",
        "mean IoU, mapping `train`",
        lambda label, data: answers.score(label, data, measure="iou"),
    )
    return "\n\n".join(text)


def appendix2(answers: Answers, args) -> str:
    bars(
        answers, args.out / "appendix2.png", "mean DSC, mapping `train`", lambda label, data: answers.score(label, data)
    )
    heads = ["system", "labels used in training", *map(named, answers.sets), "mean of real sets"]
    lines = [
        [
            row.label,
            "yes" if row.system in SUPERVISED else "none",
            *(mean_sd(answers.score(row.label, data)) for data in answers.sets),
            mean_sd(answers.over_sets(row.label, lambda data: answers.score(row.label, data), real(answers))),
        ]
        for row in answers.rows
    ]
    return "Mean DSC over classes:\n\n" + markdown(heads, lines)


def consistency(answers: Answers, args) -> str:
    def values(label: str, data: str, key: str) -> list:
        return [r["consistency"][key] for r in answers.of(label, data)]

    def gap(label: str, data: str) -> list:
        return values(label, data, "gap")

    bars(answers, args.out / "consistency.png", "gap: mean DSC that a map per image would add", gap)
    heads = [
        "system",
        *(f"{named(data)}: one map / one per image / gap" for data in answers.sets),
        "gap, mean of real sets",
    ]
    lines = [
        [
            row.label,
            *(
                " / ".join(
                    f"{np.mean(values(row.label, data, key)):.3f}" if answers.of(row.label, data) else "-"
                    for key in ("one_mapping", "per_image", "gap")
                )
                for data in answers.sets
            ),
            mean_sd(answers.over_sets(row.label, lambda data: gap(row.label, data), real(answers))),
        ]
        for row in answers.rows
    ]
    return (
        "Mean DSC per test FOV under two maps fitted on the test labels (upper bounds): one map for all images, and "
        "a map of its own for each. The gap is what clusters lose by meaning another thing in each image.\n\n"
        + markdown(heads, lines)
    )


def by_value(answers: Answers, args, name: str, note: str, published: dict[str, float]) -> str:
    """Tables whose rows are values of one setting."""
    sets = answers.sets
    curves(answers, args.out / f"{name}.png")
    heads = ["setting", *map(named, sets), "mean of real sets", "nodes per FOV", "paper, BetaSeg c4"]
    lines = []
    for row in answers.rows:
        nodes = [n for r in answers.of(row.label) for n in r["nodes"]]
        lines.append(
            [
                row.label,
                *(mean_sd(answers.score(row.label, data)) for data in sets),
                mean_sd(answers.over_sets(row.label, lambda data: answers.score(row.label, data), real(answers))),
                f"{np.mean(nodes):.0f}" if nodes else "-",
                f"{published[row.label]:.3f}" if row.label in published else "-",
            ]
        )
    return f"Mean DSC over classes, mapping `train`. {note}\n\n" + markdown(heads, lines)


def appendix3(answers: Answers, args) -> str:
    text = []
    for data in answers.sets:
        lines = []
        for row in answers.rows:
            clean = mean_sd(answers.score(row.label, data))
            cells = [
                mean_sd([r["noise"][f"{kind} {level:g}"]["train"] for r in answers.of(row.label, data)])
                for kind, level in noise_levels(args.size)
            ]
            lines.append([row.label, clean, *cells])
        heads = ["system", "clean", *(f"{kind} {level:g}" for kind, level in noise_levels(args.size))]
        text.append(f"{named(data)}:\n\n" + markdown(heads, lines))
    noise_curves(answers, args)
    return (
        "Mean DSC over classes, mapping `train` fitted on clean training images; only test images are degraded, and "
        "standardised anew. Strengths: benchmarks/noise.py.\n\n" + "\n\n".join(text)
    )


def smoothness(answers: Answers, args) -> str:
    heads = ["system", *(f"{named(data)}: DSC / pieces per megapixel" for data in answers.sets)]
    lines = [
        [
            row.label,
            *(
                f"{mean_sd(answers.score(row.label, data))} / "
                f"{np.mean([r['fragments'] for r in answers.of(row.label, data)]):.0f}"
                if answers.of(row.label, data)
                else "-"
                for data in answers.sets
            ),
        ]
        for row in answers.rows
    ]
    for data in answers.sets:
        slice_picture(answers, data, args.out / f"smoothness_{data}.png", clusters=True)
    return (
        "Mean DSC, mapping `train`, and connected pieces of one cluster per megapixel of the test slices: fewer "
        "pieces are a smoother labelling.\n\n" + markdown(heads, lines)
    )


def k_rows(systems: Sequence[str], size: str) -> list[Row]:
    return [
        Row(f"{system}, k = {k}" if len(systems) > 1 else f"k = {k}", system, (f"clusterer.k={k}",) if k != 8 else ())
        for system in systems
        for k in PAPER_K
    ]


def figure5_rows(systems: Sequence[str], size: str) -> list[Row]:
    area, counts = 560 * 560, (2000, 3000, 4000) if size == "quick" else (2000, 2500, 3000, 3500, 4000)
    # 3,000 superpixels and u = 12 are the recipe as it stands: no run of their own
    return [
        *(
            Row(f"superpixels {n}", s, (f"graph.pixels_per_superpixel={area / n:.2f}",) if n != 3000 else ())
            for s in systems
            for n in counts
        ),
        *(Row(f"u = {u}", s, (f"embedder.u={u}",) if u != 12 else ()) for s in systems for u in (4, 8, 12, 16)),
    ]


SIDES, AREAS = ", sides: [3, 7, 15]", ", areas: [100, 400, 1600, 6400, 25600]"  # of sccs_plus
FILTERS = "{name: filters%s}"
PARTS = "[{name: mae, stride: 80%s}, {name: filters%s}]"
CONCAT = f"features={{name: concat, of: {PARTS % ('', SIDES + AREAS)}}}"
GRID = ("graph.slic=grid", "graph.slic_iterations=5")
MIXTURE = ("clusterer.teacher=mixture", "clusterer.shares=equal")
# recipes/sccs_plus.yaml with one choice changed; then what lies around it
PLUS = (
    ("SCCS+", "sccs_plus", ()),
    ("MAE features alone", "sccs_plus", ("features={name: mae, stride: 80}",)),
    ("classical filters alone", "sccs_plus", (f"features={FILTERS % (SIDES + AREAS)}",)),
    ("filters without `sides` and `areas`", "sccs_plus", (f"features.of={PARTS % ('', '')}",)),
    ("filters without `sides`", "sccs_plus", (f"features.of={PARTS % ('', AREAS)}",)),
    ("filters without `areas`", "sccs_plus", (f"features.of={PARTS % ('', SIDES)}",)),
    ("layer 8 of the MAE's 14", "sccs_plus", (f"features.of={PARTS % (', layer: 8', SIDES + AREAS)}",)),
    ("no propagation", "sccs_plus", ("embedder.hops=0",)),
    ("2 propagations", "sccs_plus", ("embedder.hops=2",)),
    ("4 propagations", "sccs_plus", ("embedder.hops=4",)),
    ("8 propagations", "sccs_plus", ("embedder.hops=8",)),
    ("propagation by Â of the paper", "sccs_plus", ("embedder.normalisation=symmetric",)),
    ("feature neighbours only", "sccs_plus", ("graph.edges=knn",)),
    ("touching regions only", "sccs_plus", ("graph.edges=adjacent",)),
    ("u = 8", "sccs_plus", ("embedder.u=8",)),
    ("u = 24", "sccs_plus", ("embedder.u=24",)),
    ("k = 16", "sccs_plus", ("clusterer.k=16",)),
    ("k = 32", "sccs_plus", ("clusterer.k=32",)),
    ("taught by spherical Gaussians of equal shares", "sccs_plus", (*MIXTURE, "clusterer.covariance=spherical")),
    ("taught by Gaussians of equal shares", "sccs_plus", MIXTURE),
    ("taught by Gaussians", "sccs_plus", ("clusterer.teacher=mixture",)),
    ("k-means in place of the head", "sccs_plus", ("clusterer={name: kmeans, k: 8}",)),
    ("the paper's head and teacher", "sccs_plus", ("clusterer={name: mlp_incremental, k: 8}", "train.iterations=2000")),
    ("4 propagations by Â", "sccs_plus", ("embedder.hops=4", "embedder.normalisation=symmetric")),
    ("SLIC as tensor operations (`grid`)", "sccs_plus", GRID),
    ("sccs", "sccs", ()),
    ("sccs, k = 32", "sccs", ("clusterer.k=32",)),
    ("sccs, `grid` SLIC", "sccs", GRID),
    ("sccs_fast", "sccs_fast", ()),
    ("kmeans on both features", "kmeans", (CONCAT,)),
    ("kmeans on both features, k = 32", "kmeans", (CONCAT, "clusterer.k=32")),
    ("linear_probe on both features (supervised)", "linear_probe", (CONCAT,)),
    ("linear_probe on MAE features (supervised)", "linear_probe", ()),
)


def plus_rows(systems: Sequence[str], size: str) -> list[Row]:
    return [Row(label, system, overrides) for label, system, overrides in PLUS if system in systems]


def plus(answers: Answers, args) -> str:
    bars(answers, args.out / "plus.png", "mean DSC, mapping `train`", lambda label, data: answers.score(label, data))
    heads = [
        "choice",
        *map(named, answers.sets),
        "mean of real sets",
        "gap, mean of real sets",
        "clusters in use, least",
        "training images, mean of real sets",
    ]

    def over_real(label: str, value: Callable[[dict], float | None]) -> str:
        return mean_sd(
            answers.over_sets(label, lambda data: [value(r) for r in answers.of(label, data)], real(answers))
        )

    lines = []
    for row in answers.rows:
        used = [u for r in answers.of(row.label) for u in r["used_per_test_volume"]]
        lines.append(
            [
                row.label,
                *(mean_sd(answers.score(row.label, data)) for data in answers.sets),
                mean_sd(answers.over_sets(row.label, lambda data: answers.score(row.label, data), real(answers))),
                over_real(row.label, lambda r: r["consistency"]["gap"]),
                str(min(used, default=0)),
                over_real(row.label, lambda r: r.get("train_images")),
            ]
        )
    return (
        "Mean DSC over classes, mapping `train`: recipes/sccs_plus.yaml with one choice changed, and what lies "
        "around it. Gap: what a map for each image by itself would add (table `consistency`). Training images: the "
        "same DSC there, by which choices are made.\n\n" + markdown(heads, lines)
    )


def noise_levels(size: str) -> list[tuple[str, float]]:
    return [(kind, level) for kind, levels in LEVELS.items() for level in (levels[1:] if size == "quick" else levels)]


TABLES = {
    "table1": Table("Table 1", plain, (*UNSUPERVISED, *SUPERVISED), table1),
    "appendix1": Table("Appendix Table 1", plain, (*UNSUPERVISED, *SUPERVISED), appendix1, MEASURES[1:]),
    "appendix2": Table("Appendix Table 2", plain, ("sccs", *SUPERVISED), appendix2),
    "consistency": Table(
        "Consistency across images", plain, UNSUPERVISED, consistency, ("one_mapping", "per_image", "gap")
    ),
    "table2": Table(
        "Table 2",
        k_rows,
        ("sccs",),
        lambda a, args: by_value(a, args, "table2", "", {f"k = {k}": dsc for k, dsc in PAPER_K.items()}),
    ),
    "figure5": Table(
        "Figure 5",
        figure5_rows,
        ("sccs",),
        lambda a, args: by_value(
            a,
            args,
            "figure5",
            "The paper prints no numbers in its Figure 5; its best are 3,000 superpixels and u = 12. "
            "Superpixels are per 560 x 560 px (the recipe's 100 px are 3,136).",
            {},
        ),
    ),
    "appendix3": Table("Appendix Table 3", plain, ("sccs", "kmeans", "filters_kmeans"), appendix3),
    "plus": Table("What makes SCCS+", plus_rows, ("sccs_plus", "sccs", "sccs_fast", "kmeans", "linear_probe"), plus),
    "smoothness": Table("Appendix Figure 1", plain, ("sccs", "wo_smo"), smoothness, ("dsc", "fragments")),
}


# ------------------------------------------------------------------------------------------------------------ pictures
def bars(answers: Answers, path: Path, title: str, values: Callable[[str, str], list]) -> None:
    """One panel per set: a bar per system, the deviation over seeds as a line."""
    labels = [row.label for row in answers.rows]
    figure, axes = new_figure(2.6 * len(answers.sets) + 1.4, 0.2 * len(labels) + 1.1, 1, len(answers.sets), sharey=True)
    for axis, data in zip(axes[0], answers.sets):
        means = [np.mean(values(label, data) or [np.nan]) for label in labels]
        deviation = [np.std(values(label, data), ddof=1) if len(values(label, data)) > 1 else 0 for label in labels]
        colours = [
            "#c8553d" if row.system == "sccs" else "#9aa5b1" if row.system in SUPERVISED else "#3d6fa8"
            for row in answers.rows
        ]
        axis.barh(
            range(len(labels)),
            np.nan_to_num(means),
            xerr=deviation,
            color=colours,
            height=0.75,
            error_kw={"elinewidth": 0.8, "ecolor": INK},
        )
        axis.set_title(named(data), fontsize=9, color=INK)
        axis.set_yticks(range(len(labels)), labels, fontsize=7)
        axis.tick_params(axis="x", labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0, 0].invert_yaxis()
    figure.supxlabel(title, fontsize=8, color=INK)
    save_png(figure, path)


def curves(answers: Answers, path: Path) -> None:
    """Mean DSC against a setting, one panel per name of a setting, one line per set."""
    groups: dict[str, list[tuple[float, str]]] = {}
    for row in answers.rows:
        name, _, value = row.label.replace(" = ", " ").rpartition(" ")
        groups.setdefault(name, []).append((float(value), row.label))
    figure, axes = new_figure(3.6 * len(groups) + 0.6, 2.8, 1, len(groups))
    for axis, (name, points) in zip(axes[0], groups.items()):
        for data in answers.sets:
            seen = [(x, answers.score(label, data)) for x, label in points if answers.score(label, data)]
            axis.errorbar(
                [x for x, _ in seen],
                [np.mean(v) for _, v in seen],
                yerr=[np.std(v, ddof=1) if len(v) > 1 else 0 for _, v in seen],
                marker="o",
                markersize=3,
                linewidth=1,
                capsize=2,
                label=named(data),
            )
        axis.set_xlabel(name, fontsize=8)
        axis.set_ylabel("mean DSC", fontsize=8)
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0, -1].legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    save_png(figure, path)


def noise_curves(answers: Answers, args) -> None:
    kinds = list(LEVELS)
    figure, axes = new_figure(
        2.3 * len(kinds) + 0.8, 1.9 * len(answers.sets), len(answers.sets), len(kinds), sharey="row"
    )
    for line, data in zip(axes, answers.sets):
        for axis, kind in zip(line, kinds):
            levels = [level for each, level in noise_levels(args.size) if each == kind]
            for row in answers.rows:
                values = [answers.score(row.label, data)] + [
                    [r["noise"][f"{kind} {level:g}"]["train"] for r in answers.of(row.label, data)] for level in levels
                ]
                if all(values):
                    axis.plot(
                        ["clean", *(f"{level:g}" for level in levels)],
                        [np.mean(v) for v in values],
                        marker="o",
                        markersize=3,
                        linewidth=1,
                        label=row.label,
                    )
            axis.set_title(f"{named(data)}, {kind}", fontsize=7, color=INK)
            axis.tick_params(labelsize=6)
            axis.spines[["top", "right"]].set_visible(False)
    axes[0, 0].legend(fontsize=6, frameon=False)
    save_png(figure, args.out / "appendix3.png")


def slice_picture(answers: Answers, data: str, path: Path, clusters: bool = False) -> None:
    """The first test slice: image, labels, and what each system makes of it with the first seed: classes by mapping
    `train`, or its clusters."""
    shown = [(row.label, answers.of(row.label, data)[0]) for row in answers.rows if answers.of(row.label, data)]
    shown = [(label, result, np.load(result["slice"])) for label, result in shown if Path(result["slice"]).is_file()]
    if not shown:
        return
    first, slice_ = shown[0][1:]
    colours = class_colours(first["classes"])
    by_code = {code: colours[name] for code, name in zip(first["codes"], first["classes"])}
    panels = [
        ("image", np.repeat(slice_["image"][..., None], 3, 2)),
        ("labels", colourise(slice_["labels"], by_code, slice_["image"], 0.6)),
    ]
    for label, result, arrays in shown:
        k = len(result["mapping"])
        table = (
            dict(enumerate(cluster_colours(k)))
            if clusters
            else {i: colours[name] for i, name in enumerate(result["mapping"]) if name is not None}
        )
        panels.append((label, colourise(arrays["clusters"].astype(int), table, arrays["image"], 0.6)))
    columns = min(ONE_SLICE + 2, len(panels))
    rows = -(-len(panels) // columns)
    height, width = slice_["image"].shape
    figure, axes = new_figure(2.2 * columns, (2.2 * height / width + 0.3) * rows, rows, columns)
    for axis in axes.ravel():
        axis.set_axis_off()
    for axis, (title, picture) in zip(axes.ravel(), panels):
        axis.imshow(picture, interpolation="antialiased")
        axis.set_title(title, fontsize=10, color=INK)
    save_png(figure, path, dpi=60)


# ------------------------------------------------------------------------------------------------------------- running
def write_csv(answers: Answers, path: Path, measures: Sequence[str]) -> None:
    """A line per row, set, seed, images, mapping, class and measure, of the table's measures."""
    with atomic_path(path) as scratch, open(scratch, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            ["row", "system", "set", "seed", "configuration", "images", "mapping", "class", "measure", "value"]
        )
        for row in answers.rows:
            for result in answers.of(row.label):
                key = [row.label, row.system, result["set"], result["seed"], result["configuration"]]
                for images, rule, name, measure, value in numbers(result):
                    if measure not in measures:
                        continue
                    writer.writerow([*key, images, rule, name, measure, "" if value is None else f"{value:.6g}"])


def numbers(result: dict) -> Iterable[tuple]:
    for rule, scores in result["test"].items():
        for name, measures in {
            **scores["classes"],
            "mean": scores["mean"],
            "mean_without_rest": scores["mean_without_rest"],
        }.items():
            yield from (
                ("clean", rule, name, measure, value)
                for measure, value in measures.items()
                if measure == "dsc" or rule == "train"
            )
    for rule, scores in result["per_image"].items():
        if scores:
            yield "clean", f"{rule}, per image", "mean", "dsc", scores["mean"]["dsc"]
    for key, value in result["consistency"].items():
        yield "clean", "oracle", "mean of images", key, value
    for key in ("training_seconds", "fragments"):
        yield "clean", "", "", key, result[key]
    for images, rules in result["noise"].items():
        yield from ((images, rule, "mean", "dsc", value) for rule, value in rules.items())


def collect(table: Table, args) -> Answers:
    systems = args.systems or table.systems
    rows = table.rows(systems, args.size)
    noise = noise_levels(args.size) if table.write is appendix3 else ()
    results: dict[str, list[dict]] = {row.label: [] for row in rows}
    for data in args.data:
        for row in rows:
            for seed in args.seeds:
                wanted = job(row.system, data, seed, args.size, [*row.overrides, *args.overrides], noise)
                if args.kept and not (args.out / "runs" / wanted.file).exists():
                    continue
                result = result_of(wanted, args.out)
                results[row.label].append(result)
                said = (
                    result["failed"]
                    if "failed" in result
                    else (
                        f"DSC {result['test']['train']['mean']['dsc']:.3f}, clusters in use "
                        f"{result['used_per_test_volume']}, training {result['training_seconds']:.1f} s"
                    )
                )
                print(f"{data:9} {row.label:20} seed {seed}: {said}", flush=True)
    return Answers([row for row in rows if results[row.label]] if args.kept else rows, results)


def header(name: str, answers: Answers, args) -> str:
    machines = sorted({describe(r["machine"]) for label in answers.results for r in answers.of(label)})
    command = f"python benchmarks/tables/tables.py {name} --size {args.size}"
    if set(args.data) != set(SETS):
        command += f" --data {' '.join(args.data)}"
    if args.systems:
        command += f" --systems {' '.join(args.systems)}"
    if args.overrides:
        command += f" --set {' '.join(args.overrides)}"
    seeds = ", ".join(map(str, args.seeds))
    return (
        f"# {TABLES[name].title}\n\n`{command}`; seeds {seeds}: mean ± standard deviation over seeds. "
        f"{'; '.join(machines)}. The phantom is synthetic. The bundled MAE was pre-trained without labels on "
        "platelet, hela and phantom, their test parts included; cdeep3m and vnc it has never seen."
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("--data", nargs="+", default=None, choices=[*SETS, "betaseg"], metavar="SET")
    parser.add_argument("--systems", nargs="+", metavar="RECIPE")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--size", choices=("quick", "full"), default="quick")
    parser.add_argument("--root", type=Path, help="folder that the BetaSeg archive was unpacked in")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="a.b=c", dest="overrides")
    parser.add_argument("--kept", action="store_true", help="tables of the runs that are there; run nothing")
    args = parser.parse_args(argv)
    args.out = args.out or Path("benchmarks/results") / args.size
    if args.root:
        os.environ["BETASEG_ROOT"] = str(args.root.resolve())
    if args.data is None:
        args.data = list(SETS) if os.environ.get("SCCS_DATA") else ["phantom"]
    for system in args.systems or ():
        if system not in packaged_recipes():
            raise UserError(f"--systems: no recipe {system!r}; there are {', '.join(packaged_recipes())}")
    table = TABLES[args.table]
    answers = collect(table, args)
    if not answers.sets:
        raise UserError(f"--kept: {args.out / 'runs'} holds no run of this table; leave --kept out to run it")
    text = table.write(answers, args)
    if failures := answers.failures():
        text += "\n\nNot to be had:\n\n" + "\n".join(f"- {failure}" for failure in failures)
    write_text(args.out / f"{args.table}.md", f"{header(args.table, answers, args)}\n\n{text}\n")
    write_csv(answers, args.out / f"{args.table}.csv", table.measures)
    print(args.out / f"{args.table}.md")
    return 0


if __name__ == "__main__":
    sys.exit(guard(main)())
