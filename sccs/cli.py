"""The `sccs` command: dispatches each subcommand. For exit codes see `sccs.system.exits`.

A subcommand's module is imported only when it is used, so that `sccs --help` and `sccs list` start at once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sccs.arguments import build_parser
from sccs.system.exits import guard
from sccs.system.log import be_quiet

RUNS = ("run", "runs", "labels", "source")  # arguments that may name a run


def main(argv: Sequence[str] | None = None) -> int:
    """Execute a command line (default: `sys.argv`) and return the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = build_parser()
    if not arguments:
        parser.print_help(sys.stderr)
        return 2
    args = parser.parse_args(arguments)
    be_quiet(args.__dict__.pop("quiet"))
    given = vars(args).items()  # `--page` without a file is empty
    if empty := [n for n, value in given if n != "page" and "" in (value if isinstance(value, list) else [value])]:
        parser.error(f"argument {empty[0]} is empty")
    return guard(lambda: COMMANDS[args.command](_of_latest(args)))()


def _of_latest(args: argparse.Namespace) -> argparse.Namespace:
    """Replace `latest` in the arguments by the newest run. Raises UserError if there is no run."""
    given = vars(args)
    runs = [*RUNS, "out"] if given.get("resume") and args.command == "run" else RUNS
    for name in runs:
        if given.get(name) == "latest" or (name == "runs" and "latest" in given.get(name, [])):
            from sccs.run_folder import newest

            found = str(newest()) if not Path("latest").exists() else "latest"
            several = [found if run == "latest" else run for run in given[name]]
            setattr(args, name, several if name == "runs" else found)
    return args


def _run(args: argparse.Namespace) -> int:
    from sccs.run import command

    return command(args)


def _init(args: argparse.Namespace) -> None:
    from sccs.init.command import init

    init(args.input, args.out, device=args.device or "auto", **_look(args))


def _look(args: argparse.Namespace) -> dict[str, Any]:
    """What `sccs init` and `sccs auto` have in common."""
    names = ("overwrite", "axes", "voxel_size", "level", "minutes", "mask", "extends")
    return {name: getattr(args, name) for name in names}


def _auto(args: argparse.Namespace) -> None:
    from sccs.init.command import init
    from sccs.recipe import load_recipe
    from sccs.run import run
    from sccs.system.log import say

    recipe = init(args.input, args.recipe, device=args.device or "auto", **_look(args))
    report = run(load_recipe(recipe, [], None, args.device), Path(args.out) if args.out else None)
    say(f"report: {report}\nnext: open the report and name the clusters; it lists the commands to segment and teach")
    if args.open and sys.stdout.isatty():
        import webbrowser

        webbrowser.open(report.absolute().as_uri())


def _segment(args: argparse.Namespace) -> None:
    from sccs.inference.segment import segment

    options = {name: value for name, value in vars(args).items() if name not in ("command", "run", "input", "output")}
    segment(args.run, args.input, args.output, **{**options, "device": args.device or "auto"})


def _objects(args: argparse.Namespace) -> None:
    from sccs.instances.command import objects

    options = {name: value for name, value in vars(args).items() if name not in ("command", "labels", "out")}
    objects(args.labels, args.out, **options)


def _compare_labels(args: argparse.Namespace) -> None:
    from sccs.instances.compare import compare_labels

    compare_labels(args.a, args.b, instances=args.instances, ignore=args.ignore, csv_file=args.csv_file)


def _export(args: argparse.Namespace) -> None:
    if args.bioimage:
        from sccs.sharing.bioimage import main as package

        package(args.run, args.out, licence=args.licence, authors=args.authors, overwrite=args.overwrite)
        return
    from sccs.sharing.export import main as export

    export(args.run, args.out, onnx=args.onnx, licence=args.licence, authors=args.authors, overwrite=args.overwrite)


def _graphs(args: argparse.Namespace) -> None:
    from sccs.sharing.graphs import main as graphs

    graphs(args.source, args.out, args.set, overwrite=args.overwrite)


def _compare(args: argparse.Namespace) -> int:
    from sccs.evaluation.compare import main as compare

    return compare(args.runs, args.csv)


def _name(args: argparse.Namespace) -> int:
    from sccs.evaluation.naming import main as name
    from sccs.recipe.named import read_state

    if not args.names:
        return name(args.run, args.names, _gone(args.run))
    from sccs.recipe.history import is_behind, taken
    from sccs.report.page import refresh
    from sccs.run_folder import check_finished
    from sccs.system.lock import BRIEFLY, held
    from sccs.system.log import say

    with held(args.run, "sccs name", wait=BRIEFLY):
        check_finished(Path(args.run), taught=True)
        code = name(args.run, args.names, _gone(args.run))
        if read_state(Path(args.run)).teacher is not None or is_behind(Path(args.run)):
            from sccs.steps import show

            with taken(args.run):
                show(args.run)
    with taken(args.run), held(Path(args.run, "report.html"), "sccs name", wait=10 * BRIEFLY):  # several take turns
        say(f"report: {refresh(Path(args.run))}")
    return code


def _gone(run: str) -> list[int]:
    """The run's clusters that were merged into others."""
    from sccs.recipe.named import read_state

    edits = read_state(Path(run)).edits
    if edits is None:
        return []
    from sccs.model.edits import Edits  # heavy

    return Edits.gone_of(Path(run, edits))


def _teach(args: argparse.Namespace) -> None:
    from sccs.steps import teach

    options = {name: getattr(args, name) for name in ("image", "names", "head", "anew")}
    teach(args.run, args.labels, device=args.device or "auto", **options)


def _suggest(args: argparse.Namespace) -> None:
    from sccs.steps import suggest

    options = {name: getattr(args, name) for name in ("image", "out", "page", "overwrite")}
    suggest(args.run, args.n, device=args.device or "auto", **options)


def _split(args: argparse.Namespace) -> None:
    from sccs.steps import split

    split(args.run, args.cluster, args.into, device=args.device or "auto")


def _merge(args: argparse.Namespace) -> None:
    from sccs.steps import merge

    merge(args.run, args.clusters, device=args.device or "auto")


def _undo(args: argparse.Namespace) -> None:
    from sccs.steps import undo

    undo(args.run, device=args.device or "auto")


def _history(args: argparse.Namespace) -> None:
    from sccs.evaluation.files import read_metrics
    from sccs.recipe.history import tell

    read_metrics(Path(args.run))  # refuses what is not a finished run
    tell(Path(args.run))


def _cache(args: argparse.Namespace) -> None:
    from sccs.system.cache import tell
    from sccs.system.log import say

    say(tell(args.clear))


def _list(args: argparse.Namespace) -> None:
    from sccs.recipe import listing
    from sccs.system.log import say

    say(listing.tables(args.what))


def _show(args: argparse.Namespace) -> None:
    from sccs.recipe import listing
    from sccs.system.log import say

    say(listing.recipe(args.recipe, args.set))


def _info(args: argparse.Namespace) -> None:
    from sccs.recipe import listing
    from sccs.system.log import say

    say(listing.information())


COMMANDS: dict[str, Callable[[argparse.Namespace], int | None]] = {
    "init": _init,
    "run": _run,
    "auto": _auto,
    "segment": _segment,
    "objects": _objects,
    "compare-labels": _compare_labels,
    "export": _export,
    "graphs": _graphs,
    "compare": _compare,
    "name": _name,
    "teach": _teach,
    "suggest": _suggest,
    "split": _split,
    "merge": _merge,
    "history": _history,
    "undo": _undo,
    "list": _list,
    "show": _show,
    "cache": _cache,
    "info": _info,
}
