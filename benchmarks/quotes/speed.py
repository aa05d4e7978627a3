"""Quotes of times and memory. `results`: the folder benchmarks/results."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.pages import Origin, markdown, named
from benchmarks.quotes import lines, paragraph, short_sd, sourced
from benchmarks.speed import beside as besides
from benchmarks.speed import engine, scaling
from benchmarks.speed import estimates as estimated
from benchmarks.speed import neighbours as near
from benchmarks.speed import overlaps as overlapped
from benchmarks.speed import student as students
from benchmarks.speed import throughput as throughputs
from benchmarks.speed import trees as forests
from benchmarks.speed import whole as images
from benchmarks.speed.timing import PAPER, PAPER_NODES, PAPER_RATIO
from benchmarks.studies import students as distilled

STAGES = ("features", "graph", "embed", "cluster")
SHOWN = {
    "sccs": "sccs",
    "sccs_fast": "sccs_fast (convolutional student of the MAE)",
    "sccs_plus": "sccs_plus (the student and filters)",
    "sccs_plus_own": "sccs_plus_own (the student, filters and a net of your images)",
    "sccs_plus_mae": "sccs_plus_mae (the MAE and filters)",
    "dsm": "dsm (4 px cells, {nodes:.2f} times the nodes; paper: {paper} times)",
    "maester": "maester (`central: 4`, 19,600 windows; timed on 160 × 160 px, in proportion)",
}


def _timing(results: Path) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """By system: (rounds, stages) seconds, and nodes."""
    rows = lines(results / "quick" / "timing.csv")
    seconds = {
        name: np.array([[float(row[stage]) for stage in STAGES] for row in rows if row["system"] == name])
        for name in dict.fromkeys(row["system"] for row in rows)
    }
    return seconds, {row["system"]: int(row["nodes"]) for row in rows}


def _total(seconds: np.ndarray) -> float:
    return float(np.median(seconds.sum(1)))


def _digits(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.4f}"


def brief(results: Path) -> str:
    """A sentence on the time of a field of view and of a volume."""
    seconds, _ = _timing(results)
    fast, plus, sccs, maester = (_total(seconds[name]) for name in ("sccs_fast", "sccs_plus", "sccs", "maester"))
    volume = _volume(results)
    size, minutes = volume["what"][len("a volume of ") :], float(volume["seconds"]) / 60
    return (
        f"On 2 CPU cores, 560 × 560 px take {fast:.2f} s with `sccs_fast`, {plus:.2f} s with `sccs_plus`, {sccs:.1f} s "
        f"with `sccs` and {maester:.0f} s with MAESTER (extrapolated); `sccs_fast` segments {size} of noise in "
        f"{minutes:.0f} minutes."
    )


def timing(results: Path) -> str:
    """Seconds per field of view."""
    seconds, nodes = _timing(results)
    rows = []
    for name, label in SHOWN.items():
        stages = np.median(seconds[name], axis=0)
        shown = (stages[0], stages[1], stages[2] + stages[3], _total(seconds[name]))
        label = label.format(nodes=nodes["dsm"] / nodes["sccs"], paper=PAPER_NODES)
        rows.append([label, *map(_digits, shown)])
    rows.append(
        [
            "*the paper's SCCS, RTX 2080 Ti*",
            *(f"*{value:g}*" for value in PAPER.values()),
            f"*{sum(PAPER.values()):.2f}*",
        ]
    )
    origin = Origin.read(results / "quick" / "timing.csv")
    said = f"{origin}. Seconds per 560 × 560 px, medians of rounds in which systems take turns."
    return sourced(markdown(["system", "features", "graph", "embedding + clustering", "total"], rows), said)


def ratios(results: Path) -> str:
    """SCCS against MAESTER, the embedding against eigensolvers."""
    seconds, _ = _timing(results)
    maester = _total(seconds["maester"])
    return paragraph(
        f"SCCS is {maester / _total(seconds['sccs']):,.0f} times as fast as MAESTER here (paper: {PAPER_RATIO} times), "
        f"`sccs_fast` {maester / _total(seconds['sccs_fast']):,.0f} times. {_scaling(results)}"
    )


def _scaling(results: Path) -> str:
    graphs = scaling.read(results / "quick" / "scaling.csv")
    return scaling.in_words(graphs, (scaling.PAPER_NODES, max(n for n, _ in graphs)))


def eigensolvers(results: Path) -> str:
    """The embedding against eigensolvers, and how its time grows."""
    table = results / "quick" / "scaling.csv"
    graphs = scaling.read(table)
    sparse = [(n, int(row["entries"])) for row in lines(table) if row["edges"] != "all" for n in [int(row["nodes"])]]
    edges = dict(sparse)
    growth = {
        name: scaling.growth(
            *zip(
                *(
                    (edges[n], timed[name].medians[1])
                    for (n, kind), timed in graphs.items()
                    if kind != "all" and name in timed
                )
            )
        )
        for name in ("lgc", "eigsh", "eigsh float32", "lobpcg")
    }
    said = (
        f"{_scaling(results)} Times grow with the number of edges to the power of "
        f"{', '.join(f'{value:.2f} ({name})' for name, value in growth.items())}. {Origin.read(table)}."
    )
    if full := [timed for (_, kind), timed in graphs.items() if kind == "all"]:
        alone, whole, *_ = scaling.times_as_fast(full[0], "lgc")
        said += (
            f" On a graph of all pairs, the embedding is {alone:.1f} times as fast as the quickest solver, "
            f"{whole:.1f} times with the operator."
        )
    return paragraph(said)


def _training(results: Path) -> dict[str, np.ndarray]:
    rows = lines(results / "quick" / "training.csv")
    return {
        name: np.array([float(row["training"]) for row in rows if row["system"] == name])
        for name in ("sccs", "sccs_plus", "mae")
    }


def training(results: Path) -> str:
    """Training times."""
    seconds = _training(results)
    sccs = seconds["sccs"]
    origin = Origin.read(results / "quick" / "training.csv")
    return paragraph(
        f"6,000 iterations of `sccs` take {np.median(sccs):.1f} s ({sccs.min():.1f} to {sccs.max():.1f}; the paper: "
        f"6 h on an RTX 2080 Ti); `sccs_plus` fits in {np.median(seconds['sccs_plus']):.1f} s. The MAE does "
        f"{1 / np.median(seconds['mae']):.2f} steps of 8 crops per second, in single precision. {origin}."
    )


def targets(results: Path) -> str:
    """Targets and measurements."""
    seconds, _ = _timing(results)
    sccs, fast, plus, maester = (seconds[name] for name in ("sccs", "sccs_fast", "sccs_plus", "maester"))
    stages = np.median(sccs, axis=0)
    graph, its = (float(np.median(each[:, 1])) for each in (fast, plus))
    graphs = scaling.read(results / "quick" / "scaling.csv")
    nearest = min((n for n, kind in graphs if kind != "all"), key=lambda n: abs(n - scaling.PAPER_NODES))
    alone, whole, *_ = scaling.times_as_fast(graphs[nearest, "knn+adjacent"], "lgc")
    train = float(np.median(_training(results)["sccs"]))
    ratio, quick = (_total(maester) / _total(each) for each in (sccs, fast))
    rows = [
        ["a FOV, `sccs`", "1.8 s", f"{_total(sccs):.2f} s", _reached(_total(sccs) <= 1.8)],
        ["its features", "1.3 s", f"{stages[0]:.2f} s", _reached(stages[0] <= 1.3)],
        ["its graph", ".4 s, goal .06 s", f"{stages[1]:.3f} s", _reached(stages[1] <= 0.06)],
        [
            "its embedding and clustering",
            ".02 s",
            f"{stages[2] + stages[3]:.4f} s",
            _reached(stages[2] + stages[3] <= 0.02),
        ],
        ["MAESTER / `sccs`", "137.6, goal 300", f"{ratio:.0f}", _reached(ratio >= 300)],
        ["a FOV, `sccs_fast`", "goal .15 s", f"{_total(fast):.3f} s", _reached(_total(fast) <= 0.15)],
        ["its graph", "goal .06 s", f"{graph:.3f} s", _reached(graph <= 0.06)],
        ["a FOV, `sccs_plus`", "goal .30 s", f"{_total(plus):.3f} s", _reached(_total(plus) <= 0.30)],
        ["its graph", "goal .06 s", f"{its:.3f} s", _reached(its <= 0.06)],
        ["MAESTER / `sccs_fast`", "goal 1,500", f"{quick:,.0f}", _reached(quick >= 1500)],
        [f"quickest solver / embedding, {nearest:,} nodes", "20", f"{alone:.1f}", _reached(alone >= 20)],
        ["the same, including building the operator", "", f"{whole:.1f}", ""],
        ["training, 6,000 iterations", "10 min", f"{train:.1f} s", _reached(train <= 600)],
        *_large(results),
    ]
    found = distilled.read(results / "students" / "students.csv")
    lost = (found["sccs_plus", "MAE"] - found["sccs_plus", "student"]).tolist()
    rows += [
        [
            "mean DSC that `sccs_plus` loses by the student, training images",
            "goal .005",
            short_sd(lost),
            _reached(float(np.mean(lost)) <= 0.005),
        ],
        ["`sccs_fast` on one H100", "goal 20 Mpx/s", "not measured: no GPU", "-"],
    ]
    tables = ("quick/timing", "quick/scaling", "quick/training", "quick/overlaps", "segment/whole", "students/students")
    origins = {str(Origin.read(results / f"{name}.csv")) for name in tables}
    return (
        f"{markdown(['what', 'target', 'measured', 'reached'], rows)}\n\n{paragraph('; '.join(sorted(origins)) + '.')}"
    )


def _volume(results: Path) -> dict[str, str]:
    return next(row for row in lines(results / "segment" / "whole.csv") if row["what"].startswith("a volume"))


def _large(results: Path) -> list[list[str]]:
    """Rows of `targets` on whole images: the volume, the largest slice, and overlapping fields of view."""
    volume = _volume(results)
    speed = np.prod([int(volume[axis]) for axis in "zyx"]) / float(volume["seconds"]) / 1e6
    largest = float(volume["largest process, GiB"])
    times = overlapped.times([list(row.values()) for row in lines(results / "quick" / "overlaps.csv")])
    paid = {key: overlapped.ratio(seconds) for key, seconds in times.items()}
    worst = {system: max((paid[system, side], side) for of, side in paid if of == system) for system, _ in paid}
    slices = [row for row in lines(results / "segment" / "whole.csv") if row["what"].startswith("a slice")]
    spent = [float(row["seconds"]) / (int(row["y"]) * int(row["x"]) / 1e6) for row in slices]
    peak = float(slices[-1]["peak, GiB"])
    return [
        [
            f"`sccs_fast`, {volume['what'][2:]}, {volume['workers']} workers",
            "goal 3 Mpx/s",
            f"{speed:.2f} Mpx/s",
            _reached(speed >= 3),
        ],
        ["its largest process", "goal 1 GiB", f"{largest:.2f} GiB", _reached(largest <= 1)],
        [
            f"`sccs_fast`, {slices[-1]['what'][2:]} (and {slices[-2]['what'][len('a slice of ') :]}), time per Mpx",
            "goal: linear",
            f"{spent[-1]:.2f} s ({spent[-2]:.2f} s)",
            _reached(spent[-1] <= 1.1 * spent[-2]),
        ],
        ["its peak memory", "goal 1 GiB", f"{peak:.2f} GiB", _reached(peak <= 1)],
        *(
            [f"`{system}`, stitched / separate FOVs, worst: {side:,} px", "goal 1.1", f"{r:.2f}", _reached(r <= 1.1)]
            for system, (r, side) in worst.items()
        ),
    ]


def _reached(yes: bool) -> str:
    return "yes" if yes else "no"


def encoder(results: Path) -> str:
    """What runs the encoder, against plain torch."""
    table = results / "quick" / "encoder.csv"
    seconds: dict[tuple[str, str], list[float]] = {}
    for row in lines(table):
        seconds.setdefault((row["run by"], row["precision"]), []).append(float(row["seconds"]))
    base = float(np.median(seconds["torch", "float32"]))
    listed = ", ".join(f"{name} in {precision} {np.median(s) / base:.2f}" for (name, precision), s in seconds.items())
    return paragraph(f"Of the time of torch in float32 ({base:.2f} s): {listed}. {Origin.read(table)}.")


def slic(results: Path) -> str:
    """SLIC by set."""
    table = results / "quick" / "superpixels.csv"
    measures = ("boundary recall", "undersegmentation error", "seconds per 560 x 560 px")
    found: dict[tuple[str, str], list[list[float]]] = {}
    for row in lines(table):
        found.setdefault((row["set"], row["SLIC"]), []).append([float(row[measure]) for measure in measures])
    rows = [
        [named(data), name, *(f"{value:.4f}" for value in np.mean(values, axis=0))]
        for (data, name), values in found.items()
    ]
    return sourced(markdown(["set", "SLIC", *measures], rows), f"{Origin.read(table)}; means over FOVs.")


def areas(results: Path) -> str:
    """Openings and closings by area."""
    table = results / "quick" / "areas.csv"
    seconds: dict[str, dict[str, list[float]]] = {}
    for row in lines(table):
        method = row["method"] if row["method"].startswith("scikit") else "ours"
        seconds.setdefault(row["set"], {}).setdefault(method, []).append(float(row["seconds"]))
    listed = "; ".join(
        f"{named(data)} {np.median(by['ours']):.3f} s, scikit-image with its tree shared "
        f"{np.median(by['scikit-image, one tree']):.1f} s, unmodified {np.median(by['scikit-image']):.1f} s"
        for data, by in seconds.items()
    )
    return paragraph(f"Openings and closings by area of a FOV: {listed} ({Origin.read(table)}).")


def trees(results: Path) -> str:
    """The trees of `sccs teach`, side by side with scikit-learn's."""
    path = results / "quick" / "trees.csv"
    rows = [list(row.values()) for row in lines(path)]
    return sourced(forests.table(rows), f"{Origin.read(path)}; synthetic points, seconds, medians (ranges) of rounds.")


def neighbours(results: Path) -> str:
    """Neighbours by features in float32 and rounded to eight bits."""
    path = results / "quick" / "neighbours.csv"
    rows = [list(row.values()) for row in lines(path)]
    return sourced(near.table(rows), f"{Origin.read(path)}; seconds, medians (ranges) of rounds.")


def overlaps(results: Path) -> str:
    """Slices in overlapping and in separate fields of view."""
    path = results / "quick" / "overlaps.csv"
    rows = [list(row.values()) for row in lines(path)]
    return sourced(overlapped.table(rows), f"{Origin.read(path)}; seconds, medians (ranges) of rounds.")


def student(results: Path) -> str:
    """The student in its precisions."""
    path = results / "quick" / "student.csv"
    said = (
        f"{Origin.read(path)}; seconds for 560 x 560 px, medians (ranges) of rounds; *apart*: root mean square "
        "distance from the features in float32, over their standard deviation."
    )
    return sourced(students.table([list(row.values()) for row in lines(path)]), said)


def beside(results: Path) -> str:
    """This version against the last one whose runs used neither DGL nor FAISS."""
    path = results / "quick" / "engine.csv"
    found, commits = dict[str, dict[str, dict[str, float]]](), dict[str, str]()
    for line in lines(path):
        turns = found.setdefault(line["round"], {"base": {}, "here": {}})
        turns[line["checkout"]][line["what"]] = float(line["seconds"])
        commits[line["checkout"]] = line["commit"]
    said = f"{Origin.read(path)}; medians (ranges) of {len(found)} rounds in which the two take turns."
    return sourced(engine.table(list(found.values()), commits["base"], commits["here"]), said)


def estimates(results: Path) -> str:
    """The time of a run that `sccs init` estimates, and the time it takes."""
    path = results / "quick" / "estimates.csv"
    rows = [list(row.values()) for row in lines(path)]
    return sourced(estimated.table(rows), f"{Origin.read(path)}; cache empty, no labels.")


def beside_others(results: Path) -> str:
    """A FOV while other programs run."""
    path = results / "quick" / "beside.csv"
    rows = [list(row.values()) for row in lines(path)]
    return sourced(besides.table(rows), f"{Origin.read(path)}; seconds per FOV, medians (ranges) of rounds.")


def throughput(results: Path) -> str:
    """Throughput and cost by number of processes."""
    path = results / "quick" / "throughput.csv"
    rows = [list(row.values()) for row in lines(path)]
    return sourced(throughputs.table(rows, throughputs.PRICE), f"{Origin.read(path)}.")


def whole(results: Path) -> str:
    """A volume and large slices from the command line."""
    path = results / "segment" / "whole.csv"
    return sourced(images.table([list(row.values()) for row in lines(path)]), f"{Origin.read(path)}.")


QUOTES: dict[str, Callable[[Path], str]] = {
    "timing": timing,
    "beside_others": beside_others,
    "estimates": estimates,
    "throughput": throughput,
    "whole": whole,
    "ratios": ratios,
    "eigensolvers": eigensolvers,
    "training": training,
    "engine": beside,
    "targets": targets,
    "encoder": encoder,
    "slic": slic,
    "areas": areas,
    "neighbours": neighbours,
    "overlaps": overlaps,
    "student": student,
    "trees": trees,
}
