"""What the runs of a table's rows gave: carried out or kept, asked for by row and set, and written as a CSV."""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import REAL, SETS, job, result_of
from benchmarks.tables.rows import Row
from sccs.system.files import atomic_path

Result = dict[str, Any]  # of one job (benchmarks.harness.carry_out)


class Answers:
    """Results of all rows, sets and seeds, asked for by label."""

    def __init__(self, rows: Sequence[Row], results: Mapping[str, list[Result]]):
        self.rows, self.results = rows, results

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

    def score(self, label: str, data: str, *, rule: str = "train", measure: str = "dsc", of: str = "mean") -> list[Any]:
        """Values over seeds of one measure: of a class, of the `mean`, or of `mean_without_rest`."""
        values = []
        for result in self.of(label, data):
            scores = result["test"][rule]
            values.append((scores["classes"][of] if of in scores["classes"] else scores[of])[measure])
        return values

    def over_real(self, label: str, value: Callable[[str], list[Any]] | None = None) -> list[float]:
        """Means over the real sets of `value(set)` (the score by default), by seed; empty where a set lacks values."""
        columns = [value(data) if value else self.score(label, data) for data in self.sets if data in REAL]
        if not all(columns) or len({len(c) for c in columns}) != 1 or any(None in c for c in columns):
            return []
        return [float(np.mean(c)) for c in zip(*columns)]

    def least_in_use(self, label: str) -> str:
        """The fewest clusters that any run of a row uses in a test volume."""
        return str(min((used for r in self.of(label) for used in r["used_per_test_volume"]), default=0))


def collect(rows: Sequence[Row], noise: Sequence[tuple[str, float]], args: argparse.Namespace) -> Answers:
    """Results of all rows on the sets and seeds of the command line; with --kept, only of runs that are there."""
    results: dict[str, list[Result]] = {row.label: [] for row in rows}
    for data in args.data:
        for row in rows:
            for seed in args.seeds:
                wanted = job(row.system, data, seed, args.size, [*row.overrides, *args.overrides], noise)
                if args.kept and not (args.out / "runs" / wanted.file).exists():
                    continue
                result = result_of(wanted, args.out)
                results[row.label].append(result)
                print(f"{data:9} {row.label:20} seed {seed}: {_in_brief(result)}", flush=True)
    return Answers([row for row in rows if results[row.label]] if args.kept else rows, results)


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
                for images, rule, name, measure, value in _numbers(result):
                    if measure in measures:
                        writer.writerow([*key, images, rule, name, measure, "" if value is None else f"{value:.6g}"])


def _numbers(result: Result) -> Iterator[tuple[str, str, str, str, float | None]]:
    """Images, mapping, class, measure and value of everything that a result holds."""
    for rule, scores in result["test"].items():
        means = {key: scores[key] for key in ("mean", "mean_without_rest")}
        for name, measures in {**scores["classes"], **means}.items():
            for measure, value in measures.items():
                if measure == "dsc" or rule == "train":
                    yield "clean", rule, name, measure, value
    for rule, scores in result["per_image"].items():
        if scores:
            yield "clean", f"{rule}, per image", "mean", "dsc", scores["mean"]["dsc"]
    for key, value in result["consistency"].items():
        yield "clean", "oracle", "mean of images", key, value
    for key in ("training_seconds", "fragments"):
        yield "clean", "", "", key, result[key]
    for images, rules in result["noise"].items():
        for rule, value in rules.items():
            yield images, rule, "mean", "dsc", value
