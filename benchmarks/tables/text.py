"""The text of each table, from the results of its runs; also draws the table's pictures."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.noise import noise_levels
from benchmarks.pages import markdown, mean_sd, named
from benchmarks.tables.answers import Answers
from benchmarks.tables.pictures import bars, curves, noise_curves, slice_picture
from benchmarks.tables.rows import MAESTER_CUTS, PAPER, PAPER_K, SUPERVISED, Row
from sccs.evaluation.mappings import MAPPINGS
from sccs.evaluation.scores import MEASURES

DSC = "mean DSC, mapping `train`"


def table1(answers: Answers, args: Namespace) -> str:
    """Table 1: DSC by set; of each class of each set, with other mappings; the paper's own."""
    bars(answers, args.out / "table1.png", DSC, answers.score)
    for data in answers.sets:
        slice_picture(answers, data, args.out / f"table1_{data}.png")
    published = [[name, *("-" if v is None else f"{v:.3f}" for v in values)] for name, values in PAPER.items()]
    parts = [
        "Mean DSC over classes, by set:",
        by_system(answers),
        *(part for data in answers.sets for part in _by_class(answers, data)),
        *_matched_by_image(answers),
        "The paper's Table 1 (BetaSeg c4; not our numbers):",
        markdown(["system", "nucleus", "granules", "mitochondria", "unrecognized", "average"], published),
    ]
    return "\n\n".join(parts)


def by_system(answers: Answers) -> str:
    """The mean DSC of each system on each set, and the paper's."""
    sets = map(named, answers.sets)
    heads = ["system", *sets, "mean of real sets", "clusters in use, least", "paper, BetaSeg c4"]
    lines = [
        [
            _marked(row),
            *_by_set(answers, row),
            mean_sd(answers.over_real(row.label)),
            answers.least_in_use(row.label),
            f"{PAPER[row.system][-1]:.3f}" if row.system in PAPER else "-",
        ]
        for row in answers.rows
    ]
    return markdown(heads, lines)


def _marked(row: Row) -> str:
    return f"{row.label} (supervised)" if row.system in SUPERVISED else row.label


def _by_set(answers: Answers, row: Row) -> list[str]:
    return [mean_sd(answers.score(row.label, data)) for data in answers.sets]


def _by_class(answers: Answers, data: str) -> list[str]:
    """A set's part of Table 1: the text above the table, and the table."""
    classes = answers.classes(data)
    others = [rule + (" (upper bound)" if rule == "oracle" else "") for rule in MAPPINGS[1:]]
    lines = [
        [
            _marked(row),
            *(mean_sd(answers.score(row.label, data, of=c)) for c in (*classes, "mean", "mean_without_rest")),
            *(mean_sd(answers.score(row.label, data, rule=rule)) for rule in MAPPINGS[1:]),
        ]
        for row in answers.rows
    ]
    rest = answers.rest(data)
    without = f" Without rest: without {rest}." if rest else " No class is a rest class."
    above = f"{named(data)}: DSC of each class by mapping `train`, then the mean by other mappings.{without}"
    return [above, markdown(["system", *classes, "mean", "without rest", *others], lines)]


def _matched_by_image(answers: Answers) -> list[str]:
    """Table 1's note on `wo_nc_hm`, whose clusters the paper matches with the labels of each test image."""

    def matched(row: Row, data: str) -> str:
        return mean_sd([r["per_image"]["hungarian"]["mean"]["dsc"] for r in answers.of(row.label, data)])

    lines = [
        [row.label, *(matched(row, data) for data in answers.sets)] for row in answers.rows if row.system == "wo_nc_hm"
    ]
    if not lines:
        return []
    above = (
        "The paper matches the clusters of `wo_nc_hm` with the ground truth of each test image. Matched in this "
        "way (an upper bound, impossible without labels):"
    )
    return [above, markdown(["system", *map(named, answers.sets)], lines)]


def appendix1(answers: Answers, args: Namespace) -> str:
    """Appendix Table 1: IoU, sensitivity and accuracy of each class, a table for each set and measure."""

    def iou(label: str, data: str) -> list[Any]:
        return answers.score(label, data, measure="iou")

    bars(answers, args.out / "appendix1.png", "mean IoU, mapping `train`", iou)
    text = []
    for data in answers.sets:
        classes = answers.classes(data)
        for measure in MEASURES[1:]:
            columns = (*classes, "mean", "mean_without_rest")
            lines = [
                [_marked(row), *(mean_sd(answers.score(row.label, data, measure=measure, of=c)) for c in columns)]
                for row in answers.rows
            ]
            table = markdown(["system", *classes, "mean", "without rest"], lines)
            text.append(f"{named(data)}, {measure}, mapping `train`:\n\n{table}")
    return "\n\n".join(text)


def appendix2(answers: Answers, args: Namespace) -> str:
    """Appendix Table 2: supervised references compared with SCCS."""
    bars(answers, args.out / "appendix2.png", DSC, answers.score)
    return "Mean DSC over classes:\n\n" + supervised(answers)


def supervised(answers: Answers) -> str:
    """The table of Appendix Table 2."""
    heads = ["system", "labels used in training", *map(named, answers.sets), "mean of real sets"]
    lines = [
        [
            row.label,
            "yes" if row.system in SUPERVISED else "none",
            *_by_set(answers, row),
            mean_sd(answers.over_real(row.label)),
        ]
        for row in answers.rows
    ]
    return markdown(heads, lines)


def maester(answers: Answers, args: Namespace) -> str:
    """MAESTER's published windows and the quick ones."""
    said = f"Mean DSC over classes, mapping `train`. The timings refer to `central: 4`. {maester_cuts(answers)}"
    return f"{said.strip()}\n\n{by_system(answers)}"


def maester_cuts(answers: Answers) -> str:
    """Of which sets MAESTER's table uses a part only."""
    cut = [named(data) for data in answers.sets if data in MAESTER_CUTS]
    return (
        f"Of {' and '.join(cut)}, one training FOV and one test FOV (560 × 560 px) are used, so their scores differ "
        "from those of Table 1."
        if cut
        else ""
    )


def consistency(answers: Answers, args: Namespace) -> str:
    """One mapping for all images, one for each, and the gap between them."""

    def values(label: str, data: str, key: str = "gap") -> list[Any]:
        return [r["consistency"][key] for r in answers.of(label, data)]

    def cell(label: str, data: str, key: str) -> str:
        return f"{np.mean(values(label, data, key)):.3f}" if answers.of(label, data) else "-"

    bars(answers, args.out / "consistency.png", "gap: mean DSC that a map per image would add", values)
    sets = [f"{named(data)}: one map / one per image / gap" for data in answers.sets]
    lines = []
    for label in (row.label for row in answers.rows):
        cells = (
            " / ".join(cell(label, data, key) for key in ("one_mapping", "per_image", "gap")) for data in answers.sets
        )
        lines.append([label, *cells, mean_sd(answers.over_real(label, lambda data: values(label, data)))])
    return (
        "Mean DSC per test FOV under two maps fitted on the test labels (upper bounds): one map for all images, and "
        "one for each image. The gap is the loss from clusters whose meaning differs between images.\n\n"
        + markdown(["system", *sets, "gap, mean of real sets"], lines)
    )


def table2(answers: Answers, args: Namespace) -> str:
    """Table 2: k = 6 to 9."""
    curves(answers, args.out / "table2.png")
    return "Mean DSC over classes, mapping `train`.\n\n" + by_value(answers)


def figure5(answers: Answers, args: Namespace) -> str:
    """Figure 5: numbers of superpixels and of bases."""
    curves(answers, args.out / "figure5.png")
    note = (
        "The paper prints no numbers in its Figure 5; its best are 3,000 superpixels and u = 12. "
        "Superpixels are per 560 x 560 px (the recipe's 100 px are 3,136)."
    )
    return f"Mean DSC over classes, mapping `train`. {note}\n\n" + by_value(answers)


def by_value(answers: Answers) -> str:
    """A table whose rows are values of one setting."""
    published = {f"k = {k}": dsc for k, dsc in PAPER_K.items()}
    heads = ["setting", *map(named, answers.sets), "mean of real sets", "nodes per FOV", "paper, BetaSeg c4"]
    lines = []
    for row in answers.rows:
        nodes = [np.mean(r["nodes"]) for r in answers.of(row.label) if r.get("nodes")]  # every run weighs the same
        lines.append(
            [
                row.label,
                *_by_set(answers, row),
                mean_sd(answers.over_real(row.label)),
                f"{np.mean(nodes):.0f}" if nodes else "-",
                f"{published[row.label]:.3f}" if row.label in published else "-",
            ]
        )
    return markdown(heads, lines)


def appendix3(answers: Answers, args: Namespace) -> str:
    """Appendix Table 3: noisy test images."""
    noise_curves(answers, args.out / "appendix3.png", args.size)
    levels = [f"{kind} {level:g}" for kind, level in noise_levels(args.size)]
    text = []
    for data in answers.sets:
        lines = []
        for label in (row.label for row in answers.rows):
            noisy = (mean_sd([r["noise"][level]["train"] for r in answers.of(label, data)]) for level in levels)
            lines.append([label, mean_sd(answers.score(label, data)), *noisy])
        text.append(f"{named(data)}:\n\n" + markdown(["system", "clean", *levels], lines))
    return (
        "Mean DSC over classes, mapping `train` fitted on clean training images; only test images are degraded, and "
        "re-standardised. Strengths: benchmarks/noise.py.\n\n" + "\n\n".join(text)
    )


def smoothness(answers: Answers, args: Namespace) -> str:
    """Appendix Figure 1: DSC and connected pieces, with and without L_smo."""
    for data in answers.sets:
        slice_picture(answers, data, args.out / f"smoothness_{data}.png", clusters=True)

    def cell(label: str, data: str) -> str:
        results = answers.of(label, data)
        pieces = [r["fragments"] for r in results]
        return f"{mean_sd(answers.score(label, data))} / {np.mean(pieces):.0f}" if results else "-"

    heads = ["system", *(f"{named(data)}: DSC / pieces per megapixel" for data in answers.sets)]
    lines = [[row.label, *(cell(row.label, data) for data in answers.sets)] for row in answers.rows]
    return (
        "Mean DSC, mapping `train`, and connected pieces of one cluster per megapixel of the test slices: fewer "
        "pieces mean a smoother labelling.\n\n" + markdown(heads, lines)
    )


def plus(answers: Answers, args: Namespace) -> str:
    """What each choice of SCCS+ is worth."""
    bars(answers, args.out / "plus.png", DSC, answers.score)
    return (
        "Mean DSC over classes, mapping `train`: recipes/sccs_plus.yaml with one choice changed, and related "
        "systems. Gap: the gain from a separate map for each image (table `consistency`). Training images: the "
        "same DSC there, by which choices are made.\n\n" + by_choice(answers)
    )


def by_choice(answers: Answers) -> str:
    """The table of `plus`."""
    heads = [
        "choice",
        *map(named, answers.sets),
        "mean of real sets",
        "gap, mean of real sets",
        "clusters in use, least",
        "training images, mean of real sets",
    ]

    def over_real(label: str, value: Callable[[dict[str, Any]], float | None]) -> str:
        return mean_sd(answers.over_real(label, lambda data: [value(r) for r in answers.of(label, data)]))

    lines = [
        [
            row.label,
            *_by_set(answers, row),
            mean_sd(answers.over_real(row.label)),
            over_real(row.label, lambda r: r.get("consistency", {}).get("gap")),
            answers.least_in_use(row.label),
            over_real(row.label, lambda r: r.get("train_images")),
        ]
        for row in answers.rows
    ]
    return markdown(heads, lines)
