"""The results of a table's runs, new or kept: looked up by row and set, and written as a CSV."""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import REAL, SETS, job, rest_of, result_of, shortened
from benchmarks.pages import Origin, describe
from benchmarks.tables.rows import Row
from registry.base import UserError
from sccs.system.files import atomic_path

MEANS, PER_IMAGE = ("mean", "mean_without_rest"), ", per image"
Result = dict[str, Any]  # of one job (benchmarks.harness.carry_out)


class Answers:
    """Results of all rows, sets and seeds, looked up by label. earlier: the origin of those that come from a CSV."""

    def __init__(self, rows: Sequence[Row], results: Mapping[str, list[Result]], earlier: Origin | None = None):
        self.rows, self.results, self.earlier = rows, results, earlier

    def of(self, label: str, data: str | None = None) -> list[Result]:
        """Results of a row that did not fail, over seeds: of one set, or of all."""
        return [r for r in self.results.get(label, []) if "failed" not in r and data in (None, r["set"])]

    def failures(self) -> list[str]:
        """Which rows failed on which sets, and why."""
        seen = [
            f"{label} on {r['set']}: {r['failed']}" for label, rs in self.results.items() for r in rs if "failed" in r
        ]
        return list(dict.fromkeys(seen))

    @property
    def sets(self) -> list[str]:
        """Sets that have results, in the order of the tables."""
        seen = {r["set"] for results in self.results.values() for r in results}
        return [data for data in (*SETS, "betaseg") if data in seen]

    def classes(self, data: str) -> list[str]:
        """Names of a set's classes."""
        return next((r["classes"] for row in self.rows for r in self.of(row.label, data)), [])

    def rest(self, data: str) -> str | None:
        """The rest class of a set, which the mean without rest leaves out."""
        return next((r["rest"] for row in self.rows for r in self.of(row.label, data)), None)

    def score(self, label: str, data: str, *, rule: str = "train", measure: str = "dsc", of: str = "mean") -> list[Any]:
        """Values over seeds of one measure: of a class, of the `mean`, or of `mean_without_rest`."""
        values = []
        for result in self.of(label, data):
            scores = result["test"][rule]
            values.append((scores["classes"][of] if of in scores["classes"] else scores[of])[measure])
        return values

    def over_real(self, label: str, value: Callable[[str], list[Any]] | None = None) -> list[float]:
        """Means over the real sets of `value(set)` (the score by default), by seed; empty if a set lacks values."""
        columns = [value(data) if value else self.score(label, data) for data in self.sets if data in REAL]
        if not all(columns) or len({len(c) for c in columns}) != 1 or any(None in c for c in columns):
            return []
        return [float(np.mean(c)) for c in zip(*columns)]

    def least_in_use(self, label: str) -> str:
        """The smallest number of clusters that a run of a row uses in a test volume; "-" if it was not counted."""
        used = [used for r in self.of(label) for used in r.get("used_per_test_volume", ())]
        return str(min(used)) if used else "-"

    def origin(self, command: str, size: str) -> Origin:
        """The origin of the runs."""
        runs = [run for label in self.results for run in self.of(label) if "commit" in run]
        machines, commits = {describe(run["machine"]) for run in runs}, {run["commit"] for run in runs}
        notes = shortened([(row.system, row.overrides) for row in self.rows], size)
        if self.earlier:
            new = " and ".join(sorted({run["set"] for run in runs}))
            notes += f" Runs of {new}: commit {', '.join(sorted(commits))}; of all other sets: commit "
            notes = f"{notes}{', '.join(self.earlier.commits)}.".strip()
            machines, commits = machines | {*self.earlier.machines}, commits | {*self.earlier.commits}
        return Origin(command, sorted(machines), sorted(commits), sorted({run["seed"] for run in runs}), notes)


def collect(
    rows: Sequence[Row], noise: Sequence[tuple[str, float]], args: argparse.Namespace, cuts: Mapping[str, Sequence[str]]
) -> Answers:
    """Results of all rows on the sets and seeds of the command line, `cuts` applied to the data of the sets that they
    name; with --kept, only of existing runs."""
    results: dict[str, list[Result]] = {row.label: [] for row in rows}
    for data in args.data:
        for row in rows:
            for seed in args.seeds:
                changes = [*row.overrides, *cuts.get(data, ()), *args.overrides]
                wanted = job(row.system, data, seed, args.size, changes, noise)
                if args.kept and not (args.out / "runs" / wanted.file).exists():
                    continue
                result = result_of(wanted, args.out)
                results[row.label].append(result)
                print(f"{data:9} {row.label:20} seed {seed}: {_in_brief(result)}", flush=True)
    return Answers([row for row in rows if results[row.label]] if args.kept else rows, results)


def to_update(rows: Sequence[Row], path: Path) -> Answers:
    """What a CSV of `write_csv` and its origin hold. Raises UserError if there is none, or if it lacks a row."""
    if not path.exists():
        raise UserError(f"--update: there is no {path}; leave --update out to make the table")
    before = read_csv(path)
    if missing := {row.label for row in rows} - {row.label for row in before.rows}:
        raise UserError(f"--update: {path} has no row {sorted(missing)[0]!r}, so only a new table can contain it")
    return Answers(before.rows, before.results, Origin.read(path))


def updated(answers: Answers, before: Answers) -> Answers:
    """The answers, and for all sets that they lack those of `to_update`. Raises UserError if a run failed."""
    if failures := answers.failures():
        raise UserError(f"{failures[0]}; an update needs every run")

    def kept(label: str) -> list[Result]:
        return [{**r, "rest": rest_of(r["set"])} for r in before.of(label) if r["set"] not in answers.sets]

    results = {row.label: [*kept(row.label), *answers.of(row.label)] for row in answers.rows}
    return Answers(answers.rows, results, before.earlier)


def _in_brief(result: Result) -> str:
    if "failed" in result:
        return result["failed"]
    return (
        f"DSC {result['test']['train']['mean']['dsc']:.3f}, clusters in use {result['used_per_test_volume']}, "
        f"training {result['training_seconds']:.1f} s"
    )


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
                    if measure in measures:
                        writer.writerow([*key, images, rule, name, measure, "" if value is None else f"{value:.6g}"])


def numbers(result: Result) -> Iterator[tuple[str, str, str, str, float | None]]:
    """Images, mapping, class, measure and value of everything that a result holds."""
    for rule, scores in result["test"].items():
        means = {key: scores[key] for key in MEANS}
        for name, measures in {**scores["classes"], **means}.items():
            for measure, value in measures.items():
                if measure == "dsc" or rule == "train":
                    yield "clean", rule, name, measure, value
    for rule, scores in result.get("per_image", {}).items():
        if scores:
            yield "clean", f"{rule}{PER_IMAGE}", "mean", "dsc", scores["mean"]["dsc"]
    for key, value in result.get("consistency", {}).items():
        yield "clean", "oracle", "mean of images", key, value
    for key in ("training_seconds", "graph_seconds", "fragments", "train_images", "agreement"):
        if result.get(key) is not None:  # agreement: only of a head with a teacher
            yield "clean", "", "", key, result[key]
    if "used_per_test_volume" in result:
        yield "clean", "", "", "clusters_in_use", min(result["used_per_test_volume"])
    if "nodes" in result:
        yield "clean", "", "", "nodes", float(np.mean(result["nodes"]))
    for images, rules in result.get("noise", {}).items():
        for rule, value in rules.items():
            yield images, rule, "mean", "dsc", value


def read_csv(path: Path) -> Answers:
    """The results in a CSV of `write_csv`, as far as the table's measures cover them."""
    results: dict[tuple[str, str, str], Result] = {}
    rows: dict[str, Row] = {}
    with open(path, newline="") as file:
        for line in csv.DictReader(file):
            rows.setdefault(line["row"], Row(line["row"], line["system"]))
            result = results.setdefault(
                (line["row"], line["set"], line["seed"]),
                {
                    **{key: line[key] for key in ("system", "set", "configuration")},
                    "seed": int(line["seed"]),
                    "classes": [],
                    "test": {},
                },
            )
            _take(result, line, float(line["value"]) if line["value"] else None)
    by_row = {label: [result for key, result in results.items() if key[0] == label] for label in rows}
    return Answers(list(rows.values()), by_row)


def _take(result: Result, line: Mapping[str, str], value: float | None) -> None:
    """Put one line of a CSV where `numbers` took it from."""
    rule, name, measure = line["mapping"], line["class"], line["measure"]
    if line["images"] != "clean":
        result.setdefault("noise", {}).setdefault(line["images"], {})[rule] = value
    elif measure in ("clusters_in_use", "nodes"):
        key = "used_per_test_volume" if measure == "clusters_in_use" else "nodes"
        result[key] = [int(value) if value == int(value or 0) else value]
    elif not name:
        result[measure] = value
    elif name == "mean of images":
        result.setdefault("consistency", {})[measure] = value
    elif rule.endswith(PER_IMAGE):
        result.setdefault("per_image", {})[rule.removesuffix(PER_IMAGE)] = {"mean": {measure: value}}
    else:
        scores = result["test"].setdefault(rule, {"classes": {}})
        where = scores if name in MEANS else scores["classes"]
        where.setdefault(name, {})[measure] = value
        if name not in MEANS and name not in result["classes"]:
            result["classes"].append(name)
