"""Does today's code still give the numbers of the committed tables? A sample of their runs is run again and compared.

    [SCCS_DATA=DIR] python -m benchmarks.tables.reproduce [TABLE ...] [--data platelet] [--seeds 0] [--size quick]
                   [--committed benchmarks/results/SIZE] [--out benchmarks/results/SIZE] [--set a.b=c ...]

Every row of the tables named (default: all of `benchmarks.tables` whose CSV is committed) runs on the sets and seeds
given; each number of the run that the CSV has as well is compared with it, times excepted. `--set`: as it was given to
the tables. Runs are kept in OUT/runs and shared with the tables. Writes OUT/reproduce.md, .csv, .json.
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import SETS, job, result_of
from benchmarks.noise import noise_levels
from benchmarks.pages import Origin, markdown, named, publish, typed
from benchmarks.tables.__main__ import TABLES, Table
from benchmarks.tables.answers import Result, numbers, read_csv
from registry.base import UserError
from sccs.system.exits import guard

COMMAND = "python -m benchmarks.tables.reproduce"
HEADER = ["table", "row", "set", "seed", "numbers", "different", "largest", "committed_dsc", "dsc"]
Key = tuple[str, ...]  # images, mapping, class, measure
DSC: Key = ("clean", "train", "mean", "dsc")


@dataclass(frozen=True)
class Comparison:
    """One run beside its lines of a CSV: how many numbers both have, how many differ in the six digits of the CSV, the
    largest difference of a DSC, and the mean DSC of both."""

    table: str
    row: str
    data: str
    seed: int
    numbers: int
    different: int
    largest: float
    before: float
    now: float


def compared(table: str, row: str, before: Result, result: Result) -> Comparison:
    """Compare the result of a run with what a CSV holds of it. Raises UserError if they share no mean DSC."""
    committed, written = (
        {(*key,): "" if value is None else f"{value:.6g}" for *key, value in numbers(each)} for each in (before, result)
    )
    common = [key for key in written if key in committed and not key[-1].endswith("_seconds")]
    if DSC not in common:
        raise UserError(f"{table}.csv has no mean DSC of {row} on {result['set']}; make the table again")
    different = [key for key in common if written[key] != committed[key]]
    gaps = [abs(float(written[k] or math.nan) - float(committed[k] or math.nan)) for k in different if k[-1] == "dsc"]
    return Comparison(
        table, row, result["set"], result["seed"], len(common), len(different), max(gaps, default=0.0),
        float(committed[DSC]), float(written[DSC]),
    )  # fmt: skip


def again(name: str, args: argparse.Namespace) -> Iterator[Comparison]:
    """Run the sample of one table, and compare."""
    table: Table = TABLES[name]
    committed = read_csv(args.committed / f"{name}.csv")
    for row in table.rows(table.systems, args.size):
        for data in args.data:
            seeds = {result["seed"]: result for result in committed.of(row.label, data)}
            changes = [*row.overrides, *table.cuts.get(data, ()), *args.overrides]
            for seed in args.seeds:
                if seed not in seeds:
                    continue  # the committed table lacks this row, this set or this seed
                wanted = job(row.system, data, seed, args.size, changes, noise_levels(args.size) if table.noisy else ())
                result = result_of(wanted, args.out)
                if "failed" in result:
                    raise UserError(f"{name}: {row.label} on {data} fails today: {result['failed']}")
                one = compared(name, row.label, seeds[seed], result)
                print(f"{name:12} {row.label:40} {data:9} {one.different} of {one.numbers} differ", flush=True)
                yield one


def summary(found: Sequence[Comparison]) -> str:
    """A line for each table."""
    lines = []
    for name in dict.fromkeys(one.table for one in found):
        of = [one for one in found if one.table == name]
        same = sum(not one.different for one in of)
        worst = max(abs(one.now - one.before) for one in of)
        lines.append([f"`{name}`", str(len(of)), str(same), f"{worst:.4f}", f"{max(one.largest for one in of):.4f}"])
    return markdown(["table", "runs", "equal in all digits", "mean DSC: most changed", "any DSC: most changed"], lines)


def differing(found: Sequence[Comparison]) -> str:
    """A line for each run that differs; empty if none does."""
    rows = [
        [one.table, one.row, named(one.data), str(one.seed), f"{one.different} of {one.numbers}",
         f"{one.before:.4f}", f"{one.now:.4f}"] for one in found if one.different
    ]  # fmt: skip
    return markdown(["table", "row", "set", "seed", "different numbers", "mean DSC then", "now"], rows) if rows else ""


def page(found: Sequence[Comparison]) -> str:
    """The summary, and the runs that differ."""
    text = (
        "Each run with today's code is compared with the committed CSV of its table, in all of its six digits, except "
        f"times.\n\n{summary(found)}"
    )
    return text + (f"\n\nRuns that differ:\n\n{rows}" if (rows := differing(found)) else "")


def read_comparisons(path: Path) -> list[Comparison]:
    """The comparisons in a CSV of this script."""
    with open(path, newline="") as file:
        _, *lines = csv.reader(file)
    return [
        Comparison(table, row, data, int(seed), int(numbers), int(different), *map(float, rest))
        for table, row, data, seed, numbers, different, *rest in lines
    ]


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(COMMAND, description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=f"any of {', '.join(TABLES)}")
    parser.add_argument("--data", nargs="+", default=["platelet"], choices=SETS, metavar="SET")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--size", choices=("quick", "full"), default="quick")
    parser.add_argument("--committed", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="a.b=c", dest="overrides")
    args = parser.parse_args(argv)
    folder = Path("benchmarks/results") / args.size
    args.committed, args.out = args.committed or folder, args.out or folder
    if unknown := [name for name in args.tables if name not in TABLES]:
        raise UserError(f"no table {unknown[0]!r}; use any of {', '.join(TABLES)}")
    args.tables = [name for name in args.tables or TABLES if (args.committed / f"{name}.csv").exists() or args.tables]
    if missing := [name for name in args.tables if not (args.committed / f"{name}.csv").exists()]:
        raise UserError(f"{args.committed} has no {missing[0]}.csv; make it: python -m benchmarks.tables {missing[0]}")
    if not args.tables:
        raise UserError(f"{args.committed} has no table; give the folder of the committed ones with --committed")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Raises UserError for an unknown table or one without a CSV."""
    args = _arguments(argv)
    found = [one for name in args.tables for one in again(name, args)]
    if not found:
        raise UserError(f"none of the tables has a run of {', '.join(args.data)} with seed {args.seeds[0]}")
    rows = [
        [one.table, one.row, one.data, one.seed, one.numbers, one.different, f"{one.largest:.6g}", one.before, one.now]
        for one in found
    ]
    origin = Origin.here(typed(COMMAND, argv), seeds=args.seeds)
    print(publish(args.out, "reproduce", "Does today's code give the same tables?", origin, page(found), HEADER, rows))
    return 0


if __name__ == "__main__":
    sys.exit(guard(main)())
