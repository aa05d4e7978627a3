"""The `sccs` command. Exit codes: 0 done, 2 the user's input, 1 a defect of ours, 130 interrupted."""

from __future__ import annotations

import argparse
import errno
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sccs
from registry.base import UserError

# Faults of the user's disk, whichever call meets them: no permission, read-only, full, quota used up.
DENIED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)
LISTS = ("features", "graph", "embedder", "clusterer", "recipes", "datasets")


def guard(function: Callable[..., Any]) -> Callable[..., int]:
    """`function` with its exceptions turned into exit codes; an integer that it returns is the exit code."""

    def guarded(*args: Any, **kwargs: Any) -> int:
        try:
            with terminable():
                return function(*args, **kwargs) or 0
        except UserError as error:
            print(f"sccs: error: {' '.join(str(error).split())}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("sccs: interrupted", file=sys.stderr)
            return 130
        except OSError as error:
            if error.errno not in DENIED:
                return defect()
            print(f"sccs: error: {error.filename or 'the disk'}: {error.strerror}", file=sys.stderr)
            return 2
        except Exception:
            return defect()

    return guarded


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM ends what goes on here as SIGINT does, by KeyboardInterrupt, so that files are closed and removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if previous is None else previous)  # None: not set by Python


def defect() -> int:
    """Says that the exception at hand is ours to mend."""
    traceback.print_exc()
    print("sccs: this is a defect of sccs, please report it with the lines above", file=sys.stderr)
    return 1


def add_recipe_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", metavar="RECIPE", help="a YAML file, or the name of a packaged recipe")
    parser.add_argument(
        "--set",
        metavar="a.b=c",
        nargs="+",
        action="extend",
        default=[],
        help="change values of the recipe: --set graph.kappa=3 train.lr=1e-3",
    )


def add_device_argument(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument("--device", metavar="auto|cpu|cuda[:N]", help=f"where to compute (default: {default})")


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `sccs run` and `python -m sccs.run`."""
    add_recipe_arguments(parser)
    parser.add_argument("--out", metavar="DIR", help="run folder (default: runs/<recipe>/<time>-s<seed>)")
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--resume", action="store_true", help="go on with the run in that folder")
    existing.add_argument("--overwrite", action="store_true", help="write over the run in that folder")
    add_device_argument(parser, default="the recipe's")
    parser.add_argument("--seed", type=int, metavar="N", help="seed of everything random (default: the recipe's)")


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sccs",
        description=sccs.__doc__.partition("\n")[0],
        epilog="exit codes: 0 done, 2 your input, 1 a defect of sccs, 130 interrupted",
    )
    parser.add_argument("--version", action="version", version=f"sccs {sccs.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    start = commands.add_parser("init", help="look at images, write a recipe for them, say what it costs")
    start.add_argument("input", metavar="FOLDER_OR_VOLUME", help="one image, or a folder of volumes or of slices")
    start.add_argument("--out", metavar="RECIPE.yaml", help="recipe to write (default: named after the input)")
    start.add_argument("--overwrite", action="store_true", help="replace an existing recipe")
    start.add_argument("--minutes", type=float, default=30, metavar="N", help="how long the run may take (default: 30)")
    start.add_argument("--level", type=_natural, metavar="L", help="resolution level (default: chosen by pixel size)")
    start.add_argument(
        "--voxel-size",
        type=float,
        nargs=3,
        metavar=("Z", "Y", "X"),
        help="nm, of the finest level, for files that do not say",
    )
    start.add_argument("--axes", help="order of the image's axes, such as ZYX, for files that do not say so")
    add_device_argument(start, default="auto, the first GPU if there is one")

    run = commands.add_parser("run", help="train by a recipe, segment, score, report")
    add_run_arguments(run)

    segment = commands.add_parser("segment", help="apply a trained run to another image")
    segment.add_argument("run", metavar="RUN", help="folder of a finished run, or an export")
    segment.add_argument("input", metavar="INPUT", help="image: TIFF, PNG, folder, HDF5 (file.h5:/path), MRC, Zarr, N5")
    segment.add_argument("output", metavar="OUTPUT", help="where to write: *.tif or *.ome.zarr")
    segment.add_argument(
        "--level",
        type=_level,
        metavar="L|auto",
        help="resolution level of a multi-scale image; "
        "auto: the one of voxels nearest in size to those trained on (default: 0, the finest)",
    )
    segment.add_argument(
        "--voxel-size", type=float, nargs=3, metavar=("Z", "Y", "X"), help="nm, for files that do not say"
    )
    segment.add_argument("--axes", help="order of the image's axes, such as ZYX, for files that do not say so")
    segment.add_argument(
        "--plane",
        choices=("xy", "xz", "yz"),
        default="xy",
        help="which planes are segmented (default: xy); others need voxels that are nearly cubes",
    )
    segment.add_argument(
        "--depth",
        type=float,
        metavar="WEIGHT",
        help="link the graphs of neighbouring slices by edges of that weight, such as 16: smoother "
        "along z (default: slice by slice)",
    )
    segment.add_argument(
        "--classes",
        action="store_true",
        help="write classes (sccs name) instead of clusters: the run's own class codes, "
        "then further names; unnamed clusters count as the rest class, or are 255",
    )
    segment.add_argument(
        "--region",
        metavar="Z0:Z1,Y0:Y1,X0:X1",
        help="part to segment, in voxels of the level; a number left out is the image's end: 0:100,:,512:",
    )
    segment.add_argument(
        "--mask",
        metavar="FILE",
        help="segment only where this image is not 0; of the image's shape, or coarser by whole factors",
    )
    segment.add_argument(
        "--halo",
        type=_natural,
        metavar="PX",
        help="what neighbouring fields of view see of one "
        "another (default: 40, or a fourteenth of them); 0: they only touch",
    )
    segment.add_argument(
        "--block",
        type=_positive,
        nargs=3,
        metavar=("Z", "Y", "X"),
        help="unit of work in voxels; y and x become whole fields of view (default: 32 1120 1120)",
    )
    segment.add_argument("--ome", choices=("0.5", "0.4"), help="version of OME-Zarr (default: 0.5)")
    crew = segment.add_mutually_exclusive_group()
    crew.add_argument(
        "--workers", type=_positive, default=1, metavar="N", help="processes on this machine (default: 1)"
    )
    crew.add_argument("--scheduler", metavar="tcp://HOST:PORT", help="a Dask scheduler, whose workers do the blocks")
    existing = segment.add_mutually_exclusive_group()
    existing.add_argument("--resume", action="store_true", help="go on with an unfinished OUTPUT, or begin")
    existing.add_argument("--overwrite", action="store_true", help="replace an existing OUTPUT")
    add_device_argument(segment, default="auto, the first GPU if there is one")

    export = commands.add_parser("export", help="pack a trained run into one folder or zip that loads anywhere")
    export.add_argument("run", metavar="RUN", help="folder of a finished run, or an earlier export")
    export.add_argument("out", metavar="OUT", help="a new folder, or *.zip")
    extra = export.add_mutually_exclusive_group()
    extra.add_argument("--onnx", action="store_true", help="with the MAE encoder as encoder.onnx")
    extra.add_argument(
        "--bioimage", action="store_true", help="write a BioImage Model Zoo package of the MAE encoder instead, OUT.zip"
    )
    export.add_argument("--licence", metavar="SPDX", help="licence of the weights, such as CC-BY-4.0")
    export.add_argument(
        "--author",
        metavar="NAME",
        action="append",
        default=[],
        dest="authors",
        help="of the weights; may be given several times",
    )
    export.add_argument("--overwrite", action="store_true", help="replace an existing export")

    compare = commands.add_parser("compare", help="put finished runs side by side")
    compare.add_argument("runs", nargs="+", metavar="RUN", help="folder of a finished run")
    compare.add_argument("--csv", metavar="FILE", help="also write one line per run to FILE; - prints only that")

    name = commands.add_parser("name", help="give clusters of a run names, which segment and report then use")
    name.add_argument("run", metavar="RUN", help="folder of a finished run")
    name.add_argument(
        "names",
        nargs="*",
        metavar="3=nucleus[:#rrggbb]",
        help="cluster number, name and, if you like, colour; without any: print the names so far",
    )

    listing = commands.add_parser("list", help="parts, recipes and data sets that are there")
    listing.add_argument("what", nargs="?", choices=LISTS)

    show = commands.add_parser("show", help="a recipe in full, and where each value comes from")
    add_recipe_arguments(show)

    commands.add_parser("info", help="versions, device, threads, cache and bundled MAE checkpoint")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = build_parser()
    if not arguments:
        parser.print_help(sys.stderr)
        return 2
    args = parser.parse_args(arguments)
    return guard(_dispatch)(args, arguments)


def _dispatch(args: argparse.Namespace, arguments: list[str]) -> int | None:
    if args.command == "run":
        from sccs.run import main as run

        return run(arguments[1:])
    if args.command == "init":
        from sccs.init import init

        init(
            args.input,
            args.out,
            overwrite=args.overwrite,
            axes=args.axes,
            voxel_size=args.voxel_size,
            level=args.level,
            minutes=args.minutes,
            device=args.device or "auto",
        )
        return 0
    if args.command == "segment":
        from sccs.inference.segment import segment

        return segment(
            args.run,
            args.input,
            args.output,
            level=args.level,
            voxel_size=args.voxel_size,
            axes=args.axes,
            plane=args.plane,
            depth=args.depth,
            classes=args.classes,
            overwrite=args.overwrite,
            device=args.device or "auto",
            region=args.region,
            mask=args.mask,
            halo=args.halo,
            block=args.block,
            ome=args.ome,
            workers=args.workers,
            scheduler=args.scheduler,
            resume=args.resume,
        )
    if args.command == "export":
        from sccs.sharing.export import main as export

        return export(
            args.run,
            args.out,
            onnx=args.onnx,
            bioimage=args.bioimage,
            licence=args.licence,
            authors=args.authors,
            overwrite=args.overwrite,
        )
    if args.command == "compare":
        from sccs.evaluation.compare import main as compare

        return compare(args.runs, args.csv)
    if args.command == "name":
        from sccs.evaluation.naming import main as name
        from sccs.system.log import say

        code = name(args.run, args.names)
        if args.names:
            from sccs.report.page import refresh

            say(f"report: {refresh(Path(args.run))}")
        return code
    from sccs.recipe import listing
    from sccs.system.log import say

    if args.command == "list":
        say(listing.tables(args.what))
    elif args.command == "show":
        say(listing.recipe(args.recipe, args.set))
    else:
        say(listing.information())
    return 0


def _level(text: str) -> int | str:
    return text if text == "auto" else _natural(text)


def _positive(text: str) -> int:
    if (number := _natural(text)) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number > 0")
    return number


def _natural(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number >= 0")
    return int(text)
