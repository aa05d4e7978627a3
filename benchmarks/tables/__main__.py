"""The paper's tables and figures with our numbers, each by one command, on real EM sets and on the synthetic phantom.

    python -m benchmarks.tables table1       DSC of every class and system (Table 1), five mappings side by side
    python -m benchmarks.tables appendix1    IoU, sensitivity, accuracy (Appendix Table 1)
    python -m benchmarks.tables appendix2    supervised references against SCCS (Appendix Table 2)
    python -m benchmarks.tables consistency  one mapping for all images against one for each image
    python -m benchmarks.tables table2       k = 6 to 9 (Table 2)
    python -m benchmarks.tables figure5      superpixels 2,000 to 4,000, bases u = 4 to 16 (Figure 5)
    python -m benchmarks.tables appendix3    noisy test images (Appendix Table 3)
    python -m benchmarks.tables smoothness   with and without L_smo (Appendix Figure 1)
    python -m benchmarks.tables maester      MAESTER with its published central tokens and with those of `quick`
    python -m benchmarks.tables plus         what each choice of SCCS+ is worth (not the paper's)

    [--data platelet hela cdeep3m vnc phantom betaseg] [--systems ...] [--seeds 0 1 2] [--size quick|full]
    [--root FOLDER of BetaSeg] [--out FOLDER, default benchmarks/results/SIZE] [--set a.b=c ...] [--kept | --update]

Real sets are found through SCCS_DATA. Finished runs are kept in OUT/runs and not repeated (benchmarks/harness.py
defines when two runs are the same), so that an interrupted command can be resumed, tables share runs, and several
commands may work on one OUT at the same time. `--kept` makes the table from existing runs and runs nothing. `--update`
runs the sets in --data, and takes all others from the table's CSV: for a change that concerns some sets only. Time and
node counts: `python -m benchmarks.speed.timing`. Writes OUT/<table>.md, .csv and .png. The paper's own numbers are for
BetaSeg, volume c4, and have a separate column.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.harness import SETS
from benchmarks.noise import noise_levels
from benchmarks.tables import text
from benchmarks.tables.answers import Answers, collect, to_update, updated, write_csv
from benchmarks.tables.rows import (
    MAESTER_CUTS,
    SUPERVISED,
    UNSUPERVISED,
    Row,
    figure5_rows,
    k_rows,
    maester_rows,
    plain,
    plus_rows,
)
from registry.base import UserError
from sccs.evaluation.scores import MEASURES
from sccs.recipe import packaged_recipes
from sccs.system.exits import guard
from sccs.system.files import write_text

COMMAND = "python -m benchmarks.tables"


@dataclass
class Table:
    """rows(systems, size). write(answers, args): the pictures, and the text. `cuts`: changes to the data of single
    sets."""

    title: str
    rows: Callable[[Sequence[str], str], list[Row]]
    systems: Sequence[str]
    write: Callable[[Answers, argparse.Namespace], str]
    measures: Sequence[str] = ("dsc",)  # in the CSV
    noisy: bool = False  # whether noisy test images are scored as well
    data: Sequence[str] = SETS
    seeds: Sequence[int] = (0, 1, 2)
    cuts: Mapping[str, Sequence[str]] = field(default_factory=dict)


AROUND_PLUS = ("sccs_plus", "sccs_plus_fine", "sccs_plus_mae", "sccs", "sccs_fast", "kmeans", "linear_probe")
ALWAYS = ("clusters_in_use", "nodes", "agreement", "training_seconds", "graph_seconds")  # in every CSV
GAPS = ("one_mapping", "per_image", "gap")
TABLES = {
    "table1": Table("Table 1", plain, (*UNSUPERVISED, *SUPERVISED), text.table1),
    "appendix1": Table("Appendix Table 1", plain, (*UNSUPERVISED, *SUPERVISED), text.appendix1, MEASURES[1:]),
    "appendix2": Table("Appendix Table 2", plain, ("sccs", *SUPERVISED), text.appendix2),
    "consistency": Table("Consistency across images", plain, UNSUPERVISED, text.consistency, GAPS),
    "table2": Table("Table 2", k_rows, ("sccs",), text.table2),
    "figure5": Table("Figure 5", figure5_rows, ("sccs",), text.figure5),
    "appendix3": Table("Appendix Table 3", plain, ("sccs", "kmeans", "filters_kmeans"), text.appendix3, noisy=True),
    "plus": Table("What makes SCCS+", plus_rows, AROUND_PLUS, text.plus, ("dsc", "gap", "train_images")),
    "maester": Table(
        "MAESTER's windows",
        maester_rows,
        ("maester",),
        text.maester,
        data=("platelet", *MAESTER_CUTS),
        seeds=(0,),
        cuts=MAESTER_CUTS,
    ),
    "smoothness": Table("Appendix Figure 1", plain, ("sccs", "wo_smo"), text.smoothness, ("dsc", "fragments")),
}


def _header(name: str, answers: Answers, args: argparse.Namespace) -> str:
    """Title, the command that makes the page, seeds and machines."""
    origin = answers.origin(_command(name, args), args.size)
    return (
        f"# {TABLES[name].title}\n\n{origin}. Mean ± standard deviation over seeds. {origin.notes} "
        "The phantom is synthetic. The bundled MAE was pre-trained, without labels, on platelet, hela and the phantom, "
        "including their test parts; it has never seen cdeep3m or vnc."
    )


def _command(name: str, args: argparse.Namespace) -> str:
    command = f"{COMMAND} {name} --size {args.size}"
    if set(args.data) != set(TABLES[name].data):
        command += f" --data {' '.join(args.data)}"
    if args.systems:
        command += f" --systems {' '.join(args.systems)}"
    command += " --update" if args.update else ""
    return command + (f" --set {' '.join(args.overrides)}" if args.overrides else "")


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(COMMAND, description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("--data", nargs="+", default=None, choices=[*SETS, "betaseg"], metavar="SET")
    parser.add_argument("--systems", nargs="+", metavar="RECIPE")
    parser.add_argument("--seeds", nargs="+", type=int)
    parser.add_argument("--size", choices=("quick", "full"), default="quick")
    parser.add_argument("--root", type=Path, help="folder of the unpacked BetaSeg archive")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="a.b=c", dest="overrides")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--kept", action="store_true", help="make the table from existing runs; run nothing")
    how.add_argument("--update", action="store_true", help="take the sets that are not in --data from the table's CSV")
    args = parser.parse_args(argv)
    args.out = args.out or Path("benchmarks/results") / args.size
    if args.root:
        os.environ["BETASEG_ROOT"] = str(args.root.resolve())
    args.seeds = args.seeds or list(TABLES[args.table].seeds)
    if args.data is None:
        args.data = list(TABLES[args.table].data) if os.environ.get("SCCS_DATA") else ["phantom"]
    for system in args.systems or ():
        if system not in packaged_recipes():
            raise UserError(f"--systems: no recipe {system!r}; use any of {', '.join(packaged_recipes())}")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Raises UserError for an unknown system, if every run failed, and for --kept without a run."""
    args = _arguments(argv)
    table = TABLES[args.table]
    rows = table.rows(args.systems or table.systems, args.size)
    before = to_update(rows, args.out / f"{args.table}.csv") if args.update else None
    answers = collect(rows, noise_levels(args.size) if table.noisy else (), args, table.cuts)
    if not answers.sets:
        raise UserError(f"--kept: {args.out / 'runs'} holds no run of this table; leave --kept out to run it")
    failures = answers.failures()
    if failures and not any(answers.of(row.label) for row in answers.rows):
        raise UserError(f"every run failed, so nothing was written: {failures[0]}")
    if before:
        answers = updated(answers, before)
    page = table.write(answers, args)
    if failures:
        page += "\n\nFailed:\n\n" + "\n".join(f"- {failure}" for failure in failures)
    write_text(args.out / f"{args.table}.md", f"{_header(args.table, answers, args)}\n\n{page}\n")
    write_csv(answers, args.out / f"{args.table}.csv", (*table.measures, *ALWAYS))
    answers.origin(_command(args.table, args), args.size).write(args.out / f"{args.table}.csv")
    print(args.out / f"{args.table}.md")
    return 0


if __name__ == "__main__":
    sys.exit(guard(main)())
