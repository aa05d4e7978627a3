"""Quotes of scores: tables, and sentences whose rankings are computed. `results`: the folder benchmarks/results."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import REAL, shortened
from benchmarks.pages import Origin, markdown
from benchmarks.quotes import lines, paragraph, short, short_sd, sourced, speed
from benchmarks.studies import convolutions as convolutions_study
from benchmarks.studies import fast as fast_study
from benchmarks.studies import leads, study_sccs
from benchmarks.studies import own as own_study
from benchmarks.studies import sizes as sizes_study
from benchmarks.studies import students as students_study
from benchmarks.studies import teaching as teaching_study
from benchmarks.studies.strokes import NAMES
from benchmarks.tables import few_labels as few_labels_table
from benchmarks.tables import reproduce, text
from benchmarks.tables.answers import Answers, read_csv
from benchmarks.tables.labelled import BUDGETS
from benchmarks.tables.rows import PAPER, PAPER_K, SUPERVISED

MAE_SEEN = (
    "The bundled MAE was pre-trained, without labels, on platelet, hela and the phantom, including their test parts; "
    "it has never seen cdeep3m or vnc."
)
BY_KMEANS = ("kmeans", "filters_kmeans", "intensity_kmeans", "raw_kmeans", "pixel_kmeans")
FINE, OWN = "sccs_plus_fine", "sccs_plus_own"  # of 32 clusters
TAUGHT = "label_spreading"  # the default head
AIMS, SUGGESTED = (0.48, 0.58, 0.63, 0.66), (0.50, 0.56, 0.60, 0.63)  # of a few labels, by budget
LEADS = (0.05, 0.09, 0.09, 0.09)  # over the forest on pixels
EQUAL = "the larger of the two deviations over seeds"


def _quick(results: Path, name: str) -> tuple[Answers, Origin]:
    table = results / "quick" / f"{name}.csv"
    return read_csv(table), Origin.read(table)


def _with_own(results: Path) -> tuple[Answers, list[Origin]]:
    """Table 1 with `sccs_plus_own`, which has a file of its own, below the other system of 32 clusters."""
    table = results / "own" / "table1.csv"
    (answers, origin), own = _quick(results, "table1"), read_csv(table)
    at = [row.label for row in answers.rows].index(FINE) + 1
    rows = [*answers.rows[:at], *own.rows, *answers.rows[at:]]
    return Answers(rows, {**answers.results, **own.results}), [origin, Origin.read(table)]


def summary(results: Path) -> str:
    """The summary in README: mean DSC of the real sets by how much a person labels, and how to read it."""
    answers, origins = _with_own(results)
    others = ("quick/few_labels", "own/few_labels", "quick/timing", "segment/whole")
    origins += [Origin.read(results / f"{name}.csv") for name in others]
    by_clicks = partial(few_labels_table.over_real, _clicks(results))

    def taught(row: str) -> str:
        few, many = (text.mean_sd(by_clicks(row, n)) for n in (10, 100))
        return f"{few} ({many})"

    named = [
        ("name 8 clusters", "k-means on MAE features", "kmeans"),
        ("", "`sccs`, the paper's system", "sccs"),
        ("", "`sccs_plus`, the default of `sccs init`", "sccs_plus"),
        ("name 32 clusters", f"`{FINE}`", FINE),
        ("", f"`{OWN}`, features learned from your images", OWN),
    ]
    rows = [
        *([words, system, text.mean_sd(answers.over_real(label))] for words, system, label in named),
        ["label 10 (100) superpixels of each class", "`sccs_plus`, `sccs teach`", taught(TAUGHT)],
        ["", f"`{OWN}`, `sccs teach`", taught(f"{TAUGHT}, `{OWN}`")],
        [
            "label all training images",
            "linear probe on the features of `sccs_plus`",
            text.mean_sd(by_clicks("linear probe (supervised)", -1)),
        ],
    ]
    ahead, _ = _difference(answers, "sccs", "kmeans")
    galleries = {k: by_clicks(f"{k} clusters, named from galleries", 0) for k in (8, 32)}
    by_galleries = " and ".join(f"{k} clusters reach {short_sd(scores)}" for k, scores in galleries.items())
    commits = list(dict.fromkeys(commit for origin in origins for commit in origin.commits))
    said = (
        f"Mean DSC over classes on the test images of four small public EM sets ({', '.join(REAL)}), ± standard "
        "deviation over seeds or draws of labels. All sets share one configuration. The labels of the training images "
        f"name the clusters (commits {', '.join(commits)})."
    )
    read = (
        "**How to read this.** If a (simulated) person names the clusters from their galleries instead, "
        f"{by_galleries}. The paper's system is {short(ahead)} ahead of k-means on the same features; the paper "
        f"reports {short(PAPER['sccs'][-1])} against {short(PAPER['kmeans'][-1])} on BetaSeg, which we do not have. "
        "We did not measure a network trained on dense labels (nnU-Net); expect it to beat every line."
    )
    read += f" {speed.brief(results)}"
    return f"{markdown(['your part', 'system', 'mean DSC'], rows)}\n\n{paragraph(said)}\n\n{paragraph(read)}"


def table1(results: Path) -> str:
    """Table 1, mean DSC by system and set."""
    answers, (origin, own) = _with_own(results)
    said = (
        f"{origin}; {own}. Mean DSC over classes on test images, mapping `train`, ± standard deviation over seeds. "
        f"{MAE_SEEN} `{FINE}` and `{OWN}` have 32 clusters, all others 8. "
        "Clusters in use: the smallest number, over all runs, of clusters with at least 0.1 % of a test volume. The "
        f"last column shows the paper's results on a data set that we do not have. {origin.notes} {own.notes}"
    )
    return sourced(text.by_system(answers), said)


def _difference(answers: Answers, one: str, other: str) -> tuple[float, float]:
    """The lead of `one` over `other` in the mean of the real sets, and the larger of their deviations over seeds."""
    scores = [answers.over_real(label) for label in (one, other)]
    return float(np.mean(scores[0]) - np.mean(scores[1])), max(
        float(np.std(s, ddof=1)) if len(s) > 1 else 0 for s in scores
    )


def reading(results: Path) -> str:
    """What Table 1 shows: which system is first, and which equal SCCS."""
    answers, _ = _quick(results, "table1")
    mean = {row.label: float(np.mean(s)) for row in answers.rows if (s := answers.over_real(row.label))}
    order = sorted((label for label in mean if label not in (*SUPERVISED, FINE, OWN)), key=lambda label: -mean[label])
    wins = {data: max(order, key=lambda label: np.mean(answers.score(label, data) or [0])) for data in answers.sets}
    groups: dict[str, list[str]] = {"equal": [], "ahead": [], "behind": []}
    for label in order:
        if label != "sccs":
            ahead, deviation = _difference(answers, label, "sccs")
            group = "equal" if abs(ahead) <= deviation else "ahead" if ahead > 0 else "behind"
            groups[group].append(f"{label} ({short(mean[label])})")
    said = (
        f"On the mean of the real sets `{order[0]}` is first among the systems of 8 clusters without labels "
        f"({short(mean[order[0]])}), {short(mean[order[0]] - mean[order[1]])} ahead of `{order[1]}`. First by set: "
        + ", ".join(f"{data} `{label}`" for data, label in wins.items())
        + f". The paper's system, `sccs`, reaches {short_sd(answers.over_real('sccs'))}. "
        + "; ".join(
            f"{f'Equal within {EQUAL}' if group == 'equal' else group}: {', '.join(found) or 'none'}"
            for group, found in groups.items()
        )
        + ". With labels: "
        + ", ".join(
            f"{label}{' on the features of `sccs`' * (label == 'linear_probe')} {short(mean[label])}"
            for label in SUPERVISED
            if label in mean
        )
        + "."
    )
    return paragraph(said)


def agreement(results: Path) -> str:
    """Agreement of SCCS's head with the centroids that taught it, on training nodes."""
    said = []
    for size in ("quick", "full"):
        table = results / size / "table1.csv"
        answers = read_csv(table) if table.exists() else Answers([], {})
        least = {
            data: min(shares)
            for data in answers.sets
            if (shares := [r["agreement"] for r in answers.of("sccs", data) if "agreement" in r])
        }
        if least:
            by_set = ", ".join(f"{data} {100 * share:.1f} %" for data, share in least.items())
            said.append(f"at the size `{size}` {by_set} ({Origin.read(table)})")
    return paragraph(f"Lowest agreement of any seed: {'; '.join(said) or 'not measured'}.")


def losses(results: Path) -> str:
    """The systems without a network that are ahead of SCCS, by set."""
    answers, origin = _quick(results, "table1")
    said = []
    for data in answers.sets:
        own = np.mean(answers.score("sccs", data))
        better = [
            f"{label} {short(float(np.mean(scores)))}"
            for label in BY_KMEANS
            if (scores := answers.score(label, data)) and np.mean(scores) > own
        ]
        said.append(f"{data} ({short(float(own))}): {', '.join(better) or 'none'}")
    return paragraph(f"k-means on one kind of features beats `sccs` ({origin}): {'; '.join(said)}.")


def order(results: Path) -> str:
    """SCCS against the paper's other systems, there and here."""
    answers, origin = _quick(results, "table1")
    rows, means = [], {}
    for label, (*_, published) in sorted(PAPER.items(), key=lambda item: -item[1][-1]):
        if label == "sccs" or not answers.over_real(label):
            continue
        ahead, deviation = _difference(answers, "sccs", label)
        means[label] = float(np.mean(answers.over_real(label)))
        verdict = "equal" if abs(ahead) <= deviation else "as in the paper" if ahead > 0 else "reversed"
        rows.append(
            [
                label,
                f"{published:.3f}",
                f"{PAPER['sccs'][-1] - published:+.3f}",
                text.mean_sd(answers.over_real(label)),
                f"{ahead:+.3f}",
                verdict,
            ]
        )
    heads = ["system", "paper", "lead of SCCS", "here, mean of real sets", "lead of SCCS here", "SCCS ahead"]
    ranks = sorted(means, key=lambda label: -means[label])
    places = ", ".join(f"{label} {ranks.index(label) + 1}" for label in means)
    said = (
        f"{origin}. SCCS reaches {PAPER['sccs'][-1]:.3f} there and {text.mean_sd(answers.over_real('sccs'))} here. "
        f"Equal: within {EQUAL}. Rank among these {len(ranks)}, in the paper's order: {places}. {origin.notes}"
    )
    return sourced(markdown(heads, rows), said)


def by_image(results: Path) -> str:
    """One mapping for all images against one for each."""
    answers, _ = _quick(results, "table1")
    gaps, origin = _quick(results, "consistency")

    def over(found: Answers, label: str, value: Callable[[dict[str, Any]], float | None]) -> str:
        return text.mean_sd(found.over_real(label, lambda data: [value(r) for r in found.of(label, data)]))

    rows = [
        [
            label,
            text.mean_sd(answers.over_real(label)),
            over(answers, label, lambda r: r["per_image"]["hungarian"]["mean"]["dsc"]),
            over(gaps, label, lambda r: r["consistency"]["gap"]),
        ]
        for label in ("sccs", "wo_nc_hm", "spectral", "deepcut_cc", "wo_nsc", "wo_nc_inc", "kmeans")
        if answers.of(label)
    ]
    heads = ["system", "mapping `train`", "matched with the labels of each test image", "gap"]
    said = (
        f"{origin}; means of the real sets. Third column: clusters matched one to one with the ground truth of each "
        "test image, an upper bound that the paper uses for `wo_nc_hm`. Gap: what the best map for each image adds to "
        "the best map for all images."
    )
    return sourced(markdown(heads, rows), said)


def smoothness(results: Path) -> str:
    """With and without L_smo."""
    answers, origin = _quick(results, "smoothness")

    def fragments(label: str) -> float:
        return float(np.mean(answers.over_real(label, lambda data: [r["fragments"] for r in answers.of(label, data)])))

    return paragraph(
        f"Mean of the real sets: {short_sd(answers.over_real('sccs'))} with L_smo at the paper's weight (`sccs`), "
        f"{short_sd(answers.over_real('wo_smo'))} without (`wo_smo`), with {fragments('sccs'):.0f} and "
        f"{fragments('wo_smo'):.0f} connected pieces per megapixel ({origin})."
    )


def settings(results: Path) -> str:
    """Numbers of clusters, superpixels, bases."""
    said = []
    for name, what, published in (
        ("table2", ("k",), f"the paper's best of these is k = {max(PAPER_K, key=lambda k: PAPER_K[k])}"),
        ("figure5", ("superpixels", "u"), "the paper's best are 3,000 superpixels and u = 12"),
    ):
        answers, origin = _quick(results, name)
        for start in what:
            found = {row.label: answers.over_real(row.label) for row in answers.rows if row.label.startswith(start)}
            said.append(", ".join(f"{label} {short_sd(scores)}" for label, scores in found.items()))
        said[-1] += f" ({published}; {origin})"
    return paragraph(f"Means of the real sets: {'; '.join(said)}.")


def noise(results: Path) -> str:
    """What noise on test images costs."""
    answers, origin = _quick(results, "appendix3")
    levels = list(next(r["noise"] for rs in answers.results.values() for r in rs))

    def lost(label: str, level: str) -> str:
        def by_set(data: str) -> list[float]:
            return [r["test"]["train"]["mean"]["dsc"] - r["noise"][level]["train"] for r in answers.of(label, data)]

        return text.mean_sd(answers.over_real(label, by_set))

    rows = [[row.label, *(lost(row.label, level) for level in levels)] for row in answers.rows]
    return sourced(markdown(["system", *levels], rows), f"{origin}; DSC lost, mean of the real sets.")


def supervised(results: Path) -> str:
    """Appendix Table 2: what Table 1 has of it is taken from there, the rest is older."""
    (now, origin), (before, earlier) = _quick(results, "table1"), _quick(results, "appendix2")
    if "features.steps" not in earlier.notes:  # it was made anew
        return sourced(text.supervised(before), f"{earlier}. Mean DSC over classes. {earlier.notes}")
    labels = [row.label for row in now.rows]
    rows = [row for row in before.rows if row.label not in labels]
    older = {row.label: [r for r in before.of(row.label) if r["set"] in REAL] for row in rows}  # of an older phantom
    shown = [row for row in now.rows if row.label in {each.label for each in before.rows}]
    found = Answers([*shown, *rows], {**{row.label: now.of(row.label) for row in shown}, **older})
    shortest = earlier.notes.rpartition("; ")[2].partition(" for ")[0]
    said = (
        f"Mean DSC over classes. {' and '.join(f'`{row.label}`' for row in shown)}: as in Table 1 ({origin}). "
        f"{' and '.join(f'`{row.label}`' for row in rows)}: {earlier}, with {shortest}, less than their "
        "recipes have, on the phantom of that time, which is left out."
    )
    return sourced(text.supervised(found), said)


def maester(results: Path) -> str:
    """The windows that MAESTER's accuracy and time were measured with."""
    _, origin = _quick(results, "table1")
    said = (
        "MAESTER's accuracy above was measured with `central: 16`"
        if "features.central=16" in origin.notes
        else "MAESTER's accuracy above was measured with its recipe"
    )
    said += ", and its time with the published `central: 4` (19,600 windows for 560 × 560 px)."
    if not (results / "quick" / "maester.csv").exists():
        return paragraph(f"{said} The accuracy of 4 has not been measured yet (`python -m benchmarks.tables maester`).")
    answers, origin = _quick(results, "maester")
    return sourced(text.by_system(answers), f"{said} Accuracy of both: {origin}. {text.maester_cuts(answers)}".strip())


def few_labels(results: Path) -> str:
    """What a few labels give."""
    table = results / "quick" / "few_labels.csv"
    said = f"{Origin.read(table)}. Mean DSC of the real sets, test images, ± standard deviation over draws of labels."
    if times := few_labels_table.read_times(table):
        side = few_labels_table.SIDE
        rest = ", ".join(f"{row} {value:.1f} s" for row, value in times.items() if row != "SCCS")
        said += (
            f" Refitting and predicting {side:,} x {side:,} px, with nodes and pixel features "
            f"precomputed: SCCS {times['SCCS']:.2f} s, {rest}."
        )
    own = Origin.read(results / "own" / "few_labels.csv")
    said += f" `{OWN}`: {own}. {shortened([(OWN, ())], 'quick')}"
    return sourced(few_labels_table.by_budget(_clicks(results)), said)


def _clicks(results: Path) -> few_labels_table.Found:
    """What a few labels give, with the default head on the features of `sccs_plus_own` last."""
    own = few_labels_table.read(results / "own" / "few_labels.csv")
    named = {(f"{row}, `{OWN}`", *rest): value for (row, *rest), value in own.items() if row.startswith(TAUGHT)}
    return {**few_labels_table.read(results / "quick" / "few_labels.csv"), **named}


def aims(results: Path) -> str:
    """What we aimed at with a few labels, and what was reached."""
    clicks = _clicks(results)

    def means(row: str) -> list[float]:
        return [float(np.mean(few_labels_table.over_real(clicks, row, n))) for n in BUDGETS]

    forests = np.max([means(row) for row in dict.fromkeys(key[0] for key in clicks) if row.startswith("forest")], 0)
    rows = []
    for what, aim, row, less in (
        ("mean DSC", AIMS, TAUGHT, 0.0),
        ("lead over the better forest on pixels", LEADS, TAUGHT, forests),
        ("mean DSC, suggested labels", SUGGESTED, f"{TAUGHT}, suggested", 0.0),
    ):
        rows.append([f"{what}: aim", *(f"{value:.2f}" for value in aim)])
        for system, label in (("sccs_plus", row), (OWN, f"{row}, `{OWN}`")):
            rows.append([f"`{system}`", *(f"{value:.3f}" for value in np.array(means(label)) - less)])
    return sourced(markdown(["labels of each class", *map(str, BUDGETS)], rows), _refits(results))


def _refits(results: Path) -> str:
    """Times of learning and predicting, against what we aimed at."""
    times = few_labels_table.read_times(results / "quick" / "few_labels.csv")
    own, side = times.pop("SCCS"), few_labels_table.SIDE
    ratios = " and ".join(f"{value / own:.0f} times as fast as the {row}" for row, value in times.items())
    return (
        f"Refitting `sccs_plus` and predicting {side:,} x {side:,} px takes {own:.2f} s (aim: 0.3 s), {ratios} "
        "(aim: 30 times)."
    )


def convolutions(results: Path) -> str:
    """Which graph convolution of DGL embeds best, on training images."""
    path = results / "convolutions" / "convolutions.csv"
    said = (
        f"{Origin.read(path)}. Mean DSC over classes on training images, ± deviation over seeds. L_spe: Eq. 2, "
        "mean over graphs. Time: an iteration of the embedding, median (range)."
    )
    return sourced(convolutions_study.table(convolutions_study.read(path)), said)


def own_images(results: Path) -> str:
    """What features learned from the own images give, on training images."""
    path = results / "own" / "own.csv"
    said = f"{Origin.read(path)}. Mean DSC over classes and sets, ± standard deviation over draws or seeds of k-means."
    return sourced(own_study.table(own_study.read(path)), said)


def sizes(results: Path) -> str:
    """Which size of student is best, on training images."""
    path = results / "students" / "sizes.csv"
    return sourced(sizes_study.table(sizes_study.read(path)), f"{Origin.read(path)}. {sizes_study.TEXT}")


def teaching(results: Path) -> str:
    """Which head learns best, on training images."""
    path = results / "teaching" / "teaching.csv"
    tables = [teaching_study.table(teaching_study.read(path), labels) for labels in teaching_study.DRAWS]
    return "\n\n".join([paragraph(f"{Origin.read(path)}. Mean DSC over classes and sets."), *tables])


def suggesting(results: Path) -> str:
    """Which labels help a head most, on training images."""
    path = results / "teaching" / "suggesting.csv"
    found = teaching_study.read(path)
    tables = [teaching_study.table(found, way, teaching_study.RULES) for way in teaching_study.ASKED]
    return sourced("\n\n".join(tables), f"{Origin.read(path)}. Mean DSC over classes and sets.")


def fine(results: Path) -> str:
    """More clusters."""
    answers, origin = _quick(results, "plus")
    labels = {
        "`sccs_plus`": "k = 32",
        f"`{FINE}`, with four propagations instead of eight,": "32 clusters, 4 propagations: `sccs_plus_fine`",
        "k-means on the same features": "kmeans on both features, k = 32",
        "`sccs`": "sccs, k = 32",
    }
    scores = [f"{name} {short_sd(answers.over_real(label))}" for name, label in labels.items()]
    probe = short_sd(answers.over_real("linear_probe on both features (supervised)"))
    return paragraph(
        "Mean of the real sets with 32 clusters instead of 8: "
        f"{', '.join(scores)}; "
        f"the linear probe on these features, with labels, {probe} ({origin}; [study](study_plus.md))."
    )


def students(results: Path) -> str:
    """What the MAE's student costs, on training images."""
    table = results / "students" / "students.csv"
    found, rows = students_study.read(table), []
    for system in dict.fromkeys(system for system, _ in found):
        kinds = (*students_study.KINDS, students_study.HALVED)
        mae, student, halved = (found[system, of] for of in kinds)
        shown = (mae, student, mae - student, halved, student - halved)
        rows.append([f"`{system}`", *(short_sd(values.tolist()) for values in shown)])
    said = f"{Origin.read(table)}; mean DSC of the real sets on halves of the training images, ± deviation over seeds."
    answers, origin = _quick(results, "table1")
    pairs = [
        " and ".join(f"`{system}` {short_sd(answers.over_real(system))}" for system in pair)
        for pair in (("sccs", "sccs_fast"), ("sccs_plus_mae", "sccs_plus"))
    ]
    tested = f"On test images, mean of the real sets: {'; '.join(pairs)} (commit {', '.join(origin.commits)})."
    table_of = markdown(["system", "MAE", "student", "lost", "student in bfloat16", "lost by bfloat16"], rows)
    return f"{paragraph(said)}\n\n{table_of}\n\n{paragraph(_around(results))}\n\n{paragraph(tested)}"


def fast(results: Path) -> str:
    """What the shortcuts of `sccs_fast` cost, on training images."""
    path = results / "fast" / "fast.csv"
    said = (
        f"{Origin.read(path)}; mean DSC on halves of the training images, ± deviation over seeds; *lost*: mean of the "
        "first row less this one."
    )
    return sourced(fast_study.table(fast_study.read(path)), said)


def _around(results: Path) -> str:
    table = results / "students" / "around.csv"
    found: dict[str, list[float]] = {}  # of the MAE and of its student: over sets, settings and seeds
    for row in lines(table):
        found.setdefault(row["features"], []).append(float(row["dsc"]))
    mae, student = (float(np.mean(found[name])) for name in ("MAE", "student"))
    settings = len({tuple(row[key] for key in students_study.AROUND) for row in lines(table)})
    return (
        f"One setting is one draw. On the mean of {settings} settings around the recipe's (superpixels, propagations, "
        f"k) `sccs_plus` reaches {short(mae)} with the MAE and {short(student)} with the student, on the same halves "
        f"({Origin.read(table)})."
    )


def plus(results: Path) -> str:
    """What each choice of SCCS+ is worth."""
    answers, origin = _quick(results, "plus")
    return sourced(text.by_choice(answers), f"{origin}. Mapping `train`, test images. {origin.notes}")


def reproduced(results: Path) -> str:
    """Which committed tables a sample of runs of a later commit confirms."""
    path = results / "quick" / "reproduce.csv"
    return sourced(reproduce.summary(reproduce.read_comparisons(path)), f"{Origin.read(path)}.")


def _trials(table: Path, key: str) -> dict[str, dict[str, list[dict[str, float]]]]:
    """By row, named by the column `key`, and set, the measures of each seed."""
    found: dict[str, dict[str, list[dict[str, float]]]] = {}
    for line in lines(table):
        seeds = found.setdefault(line[key], {}).setdefault(line["set"], [])
        if not seeds or line["measure"] in seeds[-1]:
            seeds.append({})
        seeds[-1][line["measure"]] = float(line["value"])
    return found


def _leads(results: Path, name: str) -> str:
    table = results / "leads" / f"{name}.csv"
    found: leads.Results = _trials(table, "lead")
    sets = list(next(iter(found.values())))
    return sourced(leads.table(found, sets, name == "halves"), f"{Origin.read(table)}.")


def study(results: Path) -> str:
    """One choice of recipes/sccs.yaml at a time."""
    table = results / "study_sccs" / "table.csv"
    found: study_sccs.Results = _trials(table, "choice")
    means = {
        choice: np.mean([[each["dsc"] for each in trials] for trials in by_set.values()], axis=0)
        for choice, by_set in found.items()
    }
    (base, kept), *others = means.items()
    groups: dict[str, list[str]] = {"worse": [], "better": []}
    for choice, each in others:
        change = float(each.mean() - kept.mean())
        if abs(change) > 2 * max(float(np.std(values, ddof=1)) for values in (each, kept)):
            groups["better" if change > 0 else "worse"].append(f"{choice} ({change:+.3f})")
    said = "; ".join(f"{group}: {', '.join(rows) or 'none'}" for group, rows in groups.items())
    return sourced(
        study_sccs.table(found),
        f"{Origin.read(table)}. Differs in the mean by more than twice the larger deviation over seeds, {said}.",
    )


def strokes(results: Path) -> str:
    """Teaching on one slice, stroke by stroke."""
    table = results / "teaching" / "strokes.csv"
    rows = [[row["strokes"], *(f"{float(row[name]):.2f}" for name in NAMES.values())] for row in lines(table)]
    said = f"Dice on the painted slice; simulated strokes where the result is wrong ({Origin.read(table)})."
    return sourced(markdown(["strokes", *NAMES.values()], rows), said)


def _differing(results: Path, kind: str) -> str:
    """For each system, the share of pixels that a kind of process labels differently."""
    table = results / "processors" / "processors.csv"
    shares: dict[str, list[float]] = {}
    for row in lines(table):
        if row["process"] == kind:
            shares.setdefault(row["system"], []).append(100 * float(row["share"]))
    each = "; ".join(f"`{system}` {np.mean(v):.2f} % ({min(v):.2f} to {max(v):.2f})" for system, v in shares.items())
    return f"{each}. Means and ranges over the real sets and seeds ({Origin.read(table)})."


def precision(results: Path) -> str:
    """What computing features in bfloat16 changes."""
    return paragraph(f"Pixels that change their cluster in bfloat16: {_differing(results, 'in bfloat16')}")


def processors(results: Path) -> str:
    """What another processor changes."""
    share = _differing(results, "without AVX-512")
    return paragraph(f"Pixels that change their cluster if the same processor computes without AVX-512: {share}")


QUOTES: dict[str, Callable[[Path], str]] = {
    "summary": summary,
    "sizes": sizes,
    "table1": table1,
    "convolutions": convolutions,
    "reading": reading,
    "agreement": agreement,
    "losses": losses,
    "order": order,
    "by_image": by_image,
    "smoothness": smoothness,
    "settings": settings,
    "noise": noise,
    "supervised": supervised,
    "maester": maester,
    "fast": fast,
    "few_labels": few_labels,
    "own": own_images,
    "aims": aims,
    "teaching": teaching,
    "strokes": strokes,
    "suggesting": suggesting,
    "fine": fine,
    "students": students,
    "precision": precision,
    "processors": processors,
    "plus": plus,
    "reproduced": reproduced,
    "leads": lambda results: _leads(results, "leads"),
    "halves": lambda results: _leads(results, "halves"),
    "study": study,
}
