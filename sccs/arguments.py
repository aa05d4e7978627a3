"""The arguments of every command. Heavy imports are avoided, so that `sccs --help` appears at once."""

from __future__ import annotations

import argparse
from typing import NoReturn

import sccs
from sccs.system.text import printable

DIGITS = 18  # longest number accepted: ample, and fits into 64 bits
LISTS = ("features", "graph", "embedder", "clusterer", "recipes", "datasets")


def add_recipe_arguments(parser: argparse.ArgumentParser) -> None:
    """RECIPE and --set, for commands that read a recipe."""
    parser.add_argument("recipe", metavar="RECIPE", help="a YAML file, or the name of a packaged recipe")
    _add_set_argument(parser)


def _add_set_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        metavar="a.b=c",
        nargs="+",
        action="extend",
        default=[],
        help="change values of the recipe: --set graph.kappa=3 train.lr=1e-3",
    )


def add_device_argument(parser: argparse.ArgumentParser, default: str) -> None:
    """--device; `default` is the default as shown in the help."""
    parser.add_argument("--device", metavar="auto|cpu|cuda[:N]", help=f"where to compute (default: {default})")


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `sccs run` and `python -m sccs.run`."""
    add_recipe_arguments(parser)
    parser.add_argument("--out", metavar="DIR", help="run folder (default: runs/<recipe>/<time>-s<seed>)")
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--resume", action="store_true", help="continue the run in that folder")
    existing.add_argument("--overwrite", action="store_true", help="overwrite the run in that folder")
    add_device_argument(parser, default="the recipe's")
    parser.add_argument("--seed", type=int, metavar="N", help="random seed (default: the recipe's)")


def _init(parser: argparse.ArgumentParser) -> None:
    _add_look_arguments(parser)
    parser.add_argument("--out", metavar="RECIPE.yaml", help="recipe to write (default: named after the input)")


def _auto(parser: argparse.ArgumentParser) -> None:
    _add_look_arguments(parser)
    parser.add_argument("--recipe", metavar="RECIPE.yaml", help="recipe to write (default: named after the input)")
    parser.add_argument("--out", metavar="DIR", help="run folder (default: runs/<recipe>/<time>-s<seed>)")
    parser.add_argument("--no-open", dest="open", action="store_false", help="do not open the report in a browser")


def _add_look_arguments(parser: argparse.ArgumentParser) -> None:
    """What `sccs init` and `sccs auto` look at, and how."""
    parser.add_argument("input", metavar="FOLDER_OR_VOLUME", help="an image, or a folder of volumes or slices")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing recipe")
    parser.add_argument(
        "--minutes", type=float, default=30, metavar="N", help="how long the run may take, in minutes (default: 30)"
    )
    parser.add_argument("--level", type=_natural, metavar="L", help="resolution level (default: chosen by pixel size)")
    parser.add_argument(
        "--voxel-size",
        type=float,
        nargs=3,
        metavar=("Z", "Y", "X"),
        help="voxel size in nm at the finest level, if the file does not give it",
    )
    parser.add_argument("--axes", help="order of the image's axes, such as ZYX, if the file does not give it")
    parser.add_argument(
        "--no-mask", dest="mask", action="store_false", help="use empty background as well, instead of masking it"
    )
    parser.add_argument(
        "--extends",
        choices=("sccs_plus", "sccs_plus_fine", "sccs_plus_own", "sccs_plus_mae", "sccs_fast", "sccs"),
        help="the recipe to start from (default: sccs_plus); `sccs list` describes them",
    )
    add_device_argument(parser, default="auto, the first GPU if there is one")


def _segment(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="folder of a finished run, or an export")
    parser.add_argument("input", metavar="INPUT", help="image: TIFF, PNG, folder, HDF5 (file.h5:/path), MRC, Zarr, N5")
    parser.add_argument("output", metavar="OUTPUT", help="where to write: *.tif or *.ome.zarr")
    parser.add_argument(
        "--level",
        type=_level,
        metavar="L|auto",
        help="resolution level of a multi-scale image; "
        "auto: the level whose voxel size is closest to that of the training images (default: 0, the finest)",
    )
    parser.add_argument(
        "--voxel-size",
        type=float,
        nargs=3,
        metavar=("Z", "Y", "X"),
        help="voxel size in nm, if the file does not give it",
    )
    parser.add_argument("--axes", help="order of the image's axes, such as ZYX, if the file does not give it")
    parser.add_argument(
        "--plane",
        choices=("xy", "xz", "yz"),
        default="xy",
        help="orientation of the planes to segment (default: xy); the others need nearly isotropic voxels",
    )
    parser.add_argument(
        "--depth",
        type=float,
        metavar="WEIGHT",
        help="link the graphs of neighbouring slices by edges of this weight, such as 16, for labels that are "
        "smoother along z (default: slices are independent)",
    )
    parser.add_argument(
        "--classes",
        action="store_true",
        help="write classes (see sccs name) instead of clusters: the class codes of the run's data, "
        "then those of other names; unnamed clusters become the rest class, or else 255; "
        "if the run was taught (sccs teach), its teacher assigns the classes",
    )
    parser.add_argument(
        "--probabilities",
        metavar="OUT.ome.zarr",
        help="also write the class probabilities of a taught run: one channel per class (0 to 255), then one for "
        "doubt; OUTPUT then contains classes",
    )
    _segment_work(parser)


def _segment_work(parser: argparse.ArgumentParser) -> None:
    """What to segment, in which blocks, and which processes do the work."""
    parser.add_argument(
        "--region",
        metavar="Z0:Z1,Y0:Y1,X0:X1",
        help="region to segment, in voxels of the level; omitted bounds extend to the image's border: 0:100,:,512:",
    )
    parser.add_argument(
        "--mask",
        metavar="FILE",
        help="segment only where this image is nonzero; same shape as INPUT, or coarser by integer factors",
    )
    parser.add_argument(
        "--halo",
        type=_natural,
        metavar="PX",
        help="margin by which each field of view extends beyond its part (default: 20, or 40 for features in windows, "
        "such as an MAE's, and for small slices; at most 1/14 of the side of a field of view); 0: no overlap",
    )
    parser.add_argument(
        "--block",
        type=positive,
        nargs=3,
        metavar=("Z", "Y", "X"),
        help="block size in voxels; y and x are rounded to whole fields of view (default: 32 1120 1120)",
    )
    parser.add_argument("--ome", choices=("0.5", "0.4"), help="version of OME-Zarr (default: 0.5)")
    _add_crew_arguments(parser)
    add_device_argument(parser, default="auto, the first GPU if there is one")


def _add_crew_arguments(parser: argparse.ArgumentParser) -> None:
    """Which processes compute the blocks, and what to do with an existing OUTPUT."""
    crew = parser.add_mutually_exclusive_group()
    crew.add_argument("--workers", type=positive, default=1, metavar="N", help="processes on this machine (default: 1)")
    crew.add_argument(
        "--scheduler", metavar="tcp://HOST:PORT", help="a Dask scheduler whose workers process the blocks"
    )
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--resume", action="store_true", help="continue an unfinished OUTPUT, or start a new one")
    existing.add_argument("--overwrite", action="store_true", help="replace an existing OUTPUT")


def _objects(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "labels", metavar="LABELS", help="a class map, from `sccs segment --classes` or elsewhere; or a RUN"
    )
    parser.add_argument("out", metavar="OUT", help="a new folder for labels, tables and a page")
    parser.add_argument(
        "--class",
        dest="classes",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME",
        help="classes to measure: names stored in the file, codes, or NAME=CODE such as mitochondria=3 (default: all)",
    )
    parser.add_argument(
        "--to", nargs="+", metavar="NAME", help="classes to measure distances and contacts to (default: the others)"
    )
    parser.add_argument("--image", metavar="FILE", help="image of the same shape, for mean grey values and pictures")
    parser.add_argument("--level", type=_natural, metavar="L", help="resolution level of LABELS and the image")
    parser.add_argument(
        "--voxel-size",
        type=float,
        nargs=3,
        metavar=("Z", "Y", "X"),
        help="voxel size in nm, if the file does not give it",
    )
    parser.add_argument("--axes", help="order of the axes of LABELS, such as ZYX, if the file does not give it")
    tidy = parser.add_argument_group("tidying")
    tidy.add_argument(
        "--smooth", type=float, default=0.0, metavar="NM", help="smooth by majority vote within NM of each voxel"
    )
    tidy.add_argument("--bridge", type=_natural, default=0, metavar="N", help="fill gaps of up to N slices along z")
    tidy.add_argument(
        "--fill", default="0", metavar="SIZE|all", help="fill holes up to this size: 500 (voxels), 1e6nm3"
    )
    tidy.add_argument(
        "--split",
        nargs="?",
        const="auto",
        type=_depth,
        metavar="NM",
        help="split objects at necks narrower than both parts by NM or more in radius (default NM: two voxel edges)",
    )
    tidy.add_argument("--min-size", default="0", metavar="SIZE", help="drop smaller objects: 500 (voxels), 1e6nm3")
    tidy.add_argument("--largest", type=positive, metavar="N", help="keep the N largest objects of each class")
    tidy.add_argument(
        "--inside",
        nargs="+",
        default=[],
        metavar="NAME",
        help="keep objects whose surface mostly touches these classes",
    )
    tidy.add_argument(
        "--connectivity", type=int, choices=(6, 18, 26), default=26, help="neighbours of a voxel (default: 26)"
    )
    written = parser.add_argument_group("output")
    written.add_argument(
        "--format",
        dest="formats",
        nargs="+",
        choices=("zarr", "tiff", "precomputed"),
        default=["zarr"],
        help="format of the labels: OME-Zarr, OME-TIFF, or Neuroglancer precomputed (default: zarr)",
    )
    written.add_argument("--ome", choices=("0.5", "0.4"), help="version of OME-Zarr (default: 0.5)")
    written.add_argument(
        "--mesh",
        nargs="?",
        const="object",
        choices=("object", "class"),
        help="write surfaces: one per object or per class",
    )
    written.add_argument(
        "--mesh-format", choices=("ply", "obj"), default="ply", help="file format of the surfaces (default: ply)"
    )
    written.add_argument("--simplify", type=float, metavar="NM", help="simplify surfaces with an error of at most NM")
    parser.add_argument(
        "--block", type=positive, nargs=3, metavar=("Z", "Y", "X"), help="block size in voxels (default: 64 320 320)"
    )
    _add_crew_arguments(parser)


def _compare_labels(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("a", metavar="A", help="class map, or objects")
    parser.add_argument("b", metavar="B", help="the reference, of the same shape")
    parser.add_argument("--instances", action="store_true", help="labels are objects, not classes; 0 means no object")
    parser.add_argument(
        "--ignore", type=_natural, default=255, metavar="CODE", help="code of B to ignore (default: 255)"
    )
    parser.add_argument(
        "--csv", dest="csv_file", metavar="FILE", help="also write the rows to FILE; - prints only the CSV"
    )


def _export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="folder of a finished run, or an earlier export")
    parser.add_argument("out", metavar="OUT", help="a new folder, or *.zip")
    extra = parser.add_mutually_exclusive_group()
    extra.add_argument("--onnx", action="store_true", help="add the encoder, MAE or student, as encoder.onnx")
    extra.add_argument(
        "--bioimage", action="store_true", help="write a BioImage Model Zoo package of the encoder instead, OUT.zip"
    )
    parser.add_argument("--licence", metavar="SPDX", help="licence of the weights, such as CC-BY-4.0")
    parser.add_argument(
        "--author",
        metavar="NAME",
        action="append",
        default=[],
        dest="authors",
        help="author of the weights; repeat for several authors",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing export")


def _graphs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", metavar="RECIPE|RUN", help="a YAML file, a packaged recipe's name, or the folder of a finished run"
    )
    parser.add_argument("out", metavar="OUT", help="a new folder")
    _add_set_argument(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace the graphs in an existing OUT")


def _compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder of a finished run")
    parser.add_argument("--csv", metavar="FILE", help="also write one line per run to FILE; - prints only the CSV")


def _name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="folder of a finished run")
    parser.add_argument(
        "names",
        nargs="*",
        metavar="3=nucleus[:#rrggbb]",
        help="cluster number, name and optional colour; 3= clears a name; or a classes.yaml saved from the report; "
        "without arguments, print the names",
    )


def _teach(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="folder of a finished run")
    parser.add_argument(
        "labels",
        nargs="+",
        metavar="LABELS",
        help="a sparse label image (TIFF, PNG, Zarr ...; 0 and 255 are not labelled), "
        "or a table of points, *.csv with the columns z,y,x,class",
    )
    parser.add_argument(
        "--image", metavar="FILE", help="the labelled image (default: the run's image of the same shape)"
    )
    parser.add_argument(
        "--name",
        metavar="CODE=NAME[:#rrggbb]",
        nargs="+",
        action="extend",
        default=[],
        dest="names",
        help="meaning of label codes that the run's data does not define: --name 1=nucleus 2=mitochondria",
    )
    parser.add_argument(
        "--head",
        metavar="NAME",
        help="classifier to train: label_spreading (default), sparse_trees, sparse_logistic, or a plug-in's head",
    )
    parser.add_argument("--anew", action="store_true", help="forget all earlier labels")
    add_device_argument(parser, default="auto, the first GPU if there is one")


def _suggest(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="folder of a finished run")
    parser.add_argument("-n", type=positive, default=20, metavar="N", help="number of superpixels (default: 20)")
    parser.add_argument("--image", metavar="FILE", help="image to suggest from (default: the run's training images)")
    parser.add_argument("--out", metavar="FILE.csv", help="write the table to this file (default: print it)")
    parser.add_argument(
        "--page",
        nargs="?",
        const="",
        metavar="FILE.html",
        help="write a page that shows each superpixel and lets you label it (default: RUN/suggestions.html)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing table or page")
    add_device_argument(parser, default="auto, the first GPU if there is one")


def _split(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="folder of a finished run")
    parser.add_argument("cluster", type=_natural, metavar="CLUSTER", help="number of the cluster")
    parser.add_argument("--into", type=_several, required=True, metavar="N", help="number of parts, 2 or more")
    add_device_argument(parser, default="auto, the first GPU if there is one")


def _merge(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="folder of a finished run")
    parser.add_argument(
        "clusters", type=_natural, nargs="+", metavar="CLUSTER", help="two or more numbers; the first one is kept"
    )
    add_device_argument(parser, default="auto, the first GPU if there is one")


def _undo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="folder of a finished run")
    add_device_argument(parser, default="auto, the first GPU if there is one")


def _history(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="folder of a finished run")


def _list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", nargs="?", choices=LISTS, help="what to list (default: everything)")


def _show(parser: argparse.ArgumentParser) -> None:
    add_recipe_arguments(parser)


def _cache(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--clear", action="store_true", help="empty the cache; it fills again when needed")


# command: (what it does, its arguments); `sccs.cli` executes it
COMMANDS = {
    "init": ("inspect images, write a recipe for them, estimate its cost", _init),
    "auto": ("init, run, and open the report, in one go", _auto),
    "run": ("train from a recipe, segment, score, report", add_run_arguments),
    "segment": ("apply a trained run to another image", _segment),
    "objects": ("count and measure the objects of a class map", _objects),
    "compare-labels": ("score labels against a reference, by class or by object", _compare_labels),
    "export": ("pack a trained run into one portable folder or zip file", _export),
    "graphs": ("write the superpixel graphs of a recipe or run as a DGL data set", _graphs),
    "compare": ("compare finished runs", _compare),
    "name": ("name the clusters of a run", _name),
    "teach": ("teach a run its classes from a few labels", _teach),
    "suggest": ("list the superpixels most worth labelling", _suggest),
    "split": ("split a cluster, the same way in all images", _split),
    "merge": ("merge several clusters into one", _merge),
    "history": ("list the steps taken on a run: names, splits, merges, labels", _history),
    "undo": ("undo the last step", _undo),
    "list": ("list parts, recipes and data sets", _list),
    "show": ("print a recipe in full, and where each value comes from", _show),
    "cache": ("show or empty the cache of features, graphs and synthetic volumes", _cache),
    "info": ("print versions, device, threads, cache and bundled MAE checkpoint", lambda parser: None),
}


class Parser(argparse.ArgumentParser):
    """An argument parser whose error messages escape control characters."""

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))


def build_parser() -> argparse.ArgumentParser:
    """The parser of the `sccs` command."""
    parser = Parser(
        prog="sccs",
        description=(sccs.__doc__ or "").partition("\n")[0],
        epilog="RUN: a run's folder, or `latest` for the newest in runs/. Exit codes: 0 success, 2 invalid input, "
        "1 a bug in sccs or a plug-in, 130 interrupted",
    )
    parser.add_argument("--version", action="version", version=f"sccs {sccs.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (purpose, add) in COMMANDS.items():
        command = commands.add_parser(name, help=purpose)
        add(command)
        command.add_argument("--quiet", action="store_true", help="print neither progress nor messages")
    return parser


def _level(text: str) -> int | str:
    return text if text == "auto" else _natural(text)


def positive(text: str) -> int:
    """The type of an option that counts: a whole number above 0."""
    if (number := _natural(text)) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number > 0")
    return number


def _depth(text: str) -> float | str:
    return text if text == "auto" else float(text)


def _several(text: str) -> int:
    if (number := _natural(text)) < 2:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number >= 2")
    return number


def _natural(text: str) -> int:
    if not text.isdecimal() or len(text) > DIGITS:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a whole number >= 0 with at most {DIGITS} digits")
    return int(text)
