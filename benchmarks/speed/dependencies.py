"""What each dependency costs, as a table in docs/decisions.md: megabytes on disk, seconds to import.

    python -m benchmarks.speed.dependencies          # prints the page
    python -m benchmarks.speed.dependencies --write  # writes docs/decisions.md

Names come from setup.cfg, sizes from the files that pip installed (the package alone, and with what it needs beyond the
packages above it in the table), times from fresh processes (CPU time, the smaller of two, minus that of an empty
process, so that other work hardly affects it). The reasons are written by hand: `WHY`, and `BY_HAND` for what we write
ourselves.
"""

from __future__ import annotations

import argparse
import configparser
import os
import platform
import resource
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from benchmarks.pages import commit

COMMAND = "python -m benchmarks.speed.dependencies"
ROOT = Path(__file__).resolve().parents[2]
MODULES = {
    "ncempy": "ncempy.io.dm",
    "pylibczirw": "pylibCZIrw.czi",
    "scikit-image": "skimage",
    "scikit-learn": "sklearn",
    "pyyaml": "yaml",
    "pillow": "PIL",
    "faiss-cpu": "faiss",
    "faiss-gpu-cu12": "faiss",
    "pytest-timeout": "pytest_timeout",
    "pytest-xdist": "xdist",
    "connected-components-3d": "cc3d",
    "bioimageio-spec": "bioimageio.spec",
    "ome-zarr-models": "ome_zarr_models",
    "mkdocs-material": "material",
    "import-linter": "importlinter",
}
WHY = {
    "numpy": "arrays, which all other packages use",
    "scipy": "filters, sparse eigensolvers, Hungarian matching, components: code that should not be rewritten",
    "torch": "the MAE, trained parts, GPU; replaces hand-written gradients and kernels",
    "dgl": "every superpixel graph is a DGLGraph from the start, so any DGL layer works on it",
    "pandas": "the tables of `sccs objects`; dgl imports it without declaring it",
    "numba": "compiles the few loops over pixels (SLIC, pooling); replaces our own compiled extension",
    "scikit-image": "label tools, and the SLIC that ours must equal",
    "scikit-learn": "k-means++ seeds, logistic regression, the estimator interface; replaces our own solvers",
    "pydantic": "checks recipes against signatures and says where they are wrong; replaces our own validator",
    "pyyaml": "reads recipes, with the line of each value",
    "tqdm": "the progress bars of all commands",
    "filelock": "file locks of the operating system; replaces our own lock",
    "matplotlib": "figures and inline SVG charts; replaces our own drawing library",
    "jinja2": "the template of report.html",
    "safetensors": "models without pickle, readable anywhere; replaces our own file format",
    "tifffile": "TIFF of every kind: BigTIFF, OME, ImageJ, pyramids",
    "pillow": "PNG, JPEG, BMP, PGM, and pictures in the report",
    "tensorboard": "losses and pictures during a run",
    "faiss-cpu": "nearest centroids and k-means, in every run that clusters",
    "faiss-gpu-cu12": "the same on a GPU",
    "zarr": "OME-Zarr and Zarr, local or not",
    "tensorstore": "N5, which zarr-python 3 no longer reads; Neuroglancer's precomputed format",
    "connected-components-3d": "connected components of 3-D masks, several times as fast as SciPy's",
    "edt": "distances in anisotropic voxels, to split objects and between classes; several times as fast as SciPy's",
    "zmesh": "closed surfaces of objects, simplified within an error; replaces marching cubes and a simplifier",
    "pyarrow": "Parquet tables of objects, if it is installed",
    "h5py": "HDF5",
    "ncempy": "the headers of Gatan's DM3 and DM4",
    "pylibczirw": "ZEISS's CZI, by ZEISS",
    "mrcfile": "writes and checks MRC in our tests",
    "imagecodecs": "compressed TIFF (LZW, JPEG, Zstandard)",
    "ruff": "format and lint, in one tool",
    "mypy": "checks types",
    "import-linter": "checks that imports run downward (docs/architecture.md)",
    "types-pyyaml": "types of PyYAML, for mypy",
    "pytest": "tests",
    "pytest-cov": "which lines the tests reach",
    "pytest-timeout": "ends a test that hangs",
    "pytest-xdist": "tests in several processes at once",
    "hypothesis": "property tests of readers, tiling and mapping",
    "mkdocs": "the documentation site, from the Markdown that the checkout is read in; fails at a dead link",
    "mkdocs-material": "its theme and search, which also work from local files",
    "mkdocstrings": (
        "its API pages from docstrings, without importing the code; replaces pdoc, whose pages were separate"
    ),
    "dask": "work shared between processes and machines, lazy arrays; replaces a scheduler of our own",
    "distributed": "the scheduler of Dask for several machines",
    "onnx": "the encoder as a file that other runtimes read",
    "onnxscript": "torch.onnx.export needs it to write the file",
    "onnxruntime": "checks the exported encoder against torch",
    "bioimageio-spec": "the Zoo's own description and validator",
    "napari": "the viewer that hosts the plug-in",
    "npe2": "the plug-in's manifest",
    "ome-zarr-models": "public validator of OME-Zarr in our tests",
}
BY_HAND = {
    "locks on outputs": (
        "filelock | the operating system frees a dead command's lock at once, on every machine that sees it; our own "
        "code had to watch a file for a minute. Still our own: naming the holder, and leaving no file behind"
    ),
    "progress bars": (
        "tqdm | the same bars in all commands. The lines in log.txt, one per tenth, are our own: tqdm redraws one line"
    ),
    "N5": "tensorstore | reads it lazily, with all codecs but lz4; zarr-python 3 no longer reads it",
    "HTML": "jinja2 | one template, which escapes its input",
    "MRC": (
        "by hand | mrcfile reads IMOD's unsigned bytes as signed ones, refuses headers without the word MAP"
        " unless told to be permissive, and reads compressed files, which our reader does not accept, into memory as "
        "a whole. It handles modes, byte orders and extended headers equally well. Our tests read files that it "
        "writes"
    ),
    "OME-Zarr: metadata, pyramid of labels": (
        "by hand, on zarr | many processes fill a store block by block, in bounded memory, and resume after a kill. "
        "ome-zarr 0.18 has names, colours and both versions, but writes one Dask graph, with the nearest voxels. "
        "ngff-zarr 0.50 takes the most frequent label, but cuts off edges that do not fill a cell, and writes no "
        "`image-label`. yaozarrs 0.3 creates empty stores with it, for 0.5 only, and computes no levels. The tests "
        "check our files with ome-zarr-models"
    ),
    "colours": (
        "by hand | grey values of clusters are even steps, so that a grey print tells them apart; classes "
        "have the paper's colours. Qualitative maps of matplotlib and cmap are fixed lists; glasbey spreads colours "
        "over all of colour space"
    ),
    "files that appear whole": (
        "by hand | atomicwrites is no longer maintained, and replaces files, but not folders such as a Zarr store"
    ),
    "cache of features and graphs": (
        "by hand, on safetensors | joblib and diskcache use pickle, and joblib's key covers the code of one function;"
        " ours covers all modules that a part imports"
    ),
    "exports with hashes": (
        "by hand, on zipfile | `sha256sum -c` checks them; BagIt would add files that loading a model does not need"
    ),
    "places of mistakes in recipes": (
        "by hand, on PyYAML and pydantic | PyYAML knows the places, pydantic the mistakes; we found no library that "
        "combines the two across `extends` and `--set`"
    ),
    "registry of parts": (
        "by hand, on entry points | a table of names, and `importlib.metadata` for other people's parts; registries "
        "by decorator know a part only when it is imported"
    ),
    "SLIC, openings by area": (
        "by hand, compiled by Numba | equal to scikit-image, in a fraction of the time ([speed.md](speed.md))"
    ),
    "trees that learn from a few labels": (
        "by hand, compiled by Numba | scikit-learn spends most of the time on checks of its input, tree by tree "
        "([speed.md](speed.md)); ours agree with its trees in the tests"
    ),
    "tiles, halos, seams": (
        "by hand | tiling libraries blend overlapping scores; clusters are labels, which do not blend"
    ),
}


def listed() -> list[tuple[str, Requirement]]:
    """(group, requirement) of setup.cfg: "core", then each extra; a package is listed only once, where it is named
    first."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    groups = {"core": setup["options"]["install_requires"], **setup["options.extras_require"]}
    seen, found = {"sccs-em"}, []
    for group, text in groups.items():
        for line in text.splitlines():
            if line.strip() and not line.strip().startswith("#"):
                requirement = Requirement(line)
                if (name := canonicalize_name(requirement.name)) not in seen:
                    seen.add(name)
                    found.append((group, requirement))
    return found


def size(name: str) -> int | None:
    """Bytes of a package's files; None if it is not installed."""
    try:
        files = metadata.files(name) or []
    except metadata.PackageNotFoundError:
        return None
    paths = (Path(file.locate()) for file in files if file.suffix != ".pyc")
    return sum(path.stat().st_size for path in paths if path.is_file())


def needs(name: str, found: set[str] | None = None) -> set[str]:
    """The package and everything installed that it requires, without extras."""
    found = set() if found is None else found
    name = canonicalize_name(name)
    if name in found or size(name) is None:
        return found
    found.add(name)
    for line in metadata.requires(name) or []:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            needs(requirement.name, found)
    return found


def seconds(code: str) -> float | None:
    """CPU time of a fresh process that runs `code`, the smaller of two; None if it fails."""
    times = []
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        environment = {**os.environ, "DGLBACKEND": "pytorch", "OMP_NUM_THREADS": "1"}
        if subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment, cwd=ROOT).returncode:
            return None
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(times)


def _import_time(name: str, empty: float) -> float | None:
    module = MODULES.get(name, name.replace("-", "_"))
    # as the project imports it: DGL through its adapter
    took = seconds("from registry.spg.dgl_adapter import dgl; dgl.graph" if name == "dgl" else f"import {module}")
    return None if took is None else max(0.0, took - empty)


def by_hand() -> str:
    """The section on what we write by hand, on what a library does, and on the reasons."""
    rows = (f"| {what} | {choice_and_why} |" for what, choice_and_why in BY_HAND.items())
    return "\n".join(["## By hand or by a library", "", "| what | choice | why |", "|---|---|---|", *rows])


def page() -> str:
    """The text of docs/decisions.md."""
    empty = seconds("pass")
    assert empty is not None
    rows: list[str] = []
    known: set[str] = set()
    for group, requirement in listed():
        name = canonicalize_name(requirement.name)
        own, why = size(name), WHY.get(name, "no reason written down (WHY)")
        if own is None:
            rows.append(f"| {group} | {requirement.name} | not installed here | | | {why} |")
            continue
        new = needs(name) - known
        known |= new
        total = sum(size(each) or 0 for each in new)
        took = _import_time(name, empty)
        shown = "never" if name.startswith("types-") else "fails here" if took is None else f"{took:.2f}"
        rows.append(
            f"| {group} | {requirement.name} {metadata.version(name)} | {own / 1e6:.1f} | {total / 1e6:.1f} | "
            f"{shown} | {why} |"
        )
    start = seconds("import sccs.arguments; sccs.arguments.build_parser().format_help()")
    assert start is not None
    whole = sum(size(each) or 0 for each in known)
    return "\n".join(
        [
            "# Dependencies: what each replaces and costs",
            "",
            f"Written by `{COMMAND} --write`. MB: the package's own installed files. New MB: with",
            "what it needs beyond the rows above. Seconds: processor time of the import in a fresh process, "
            "the smaller of",
            f"two, with everything that it imports (Python {platform.python_version()}; commit {commit()}). A CUDA "
            "build of torch is larger.",
            "",
            "| group | package | MB | new MB | import, s | why, and what it replaces |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
            f"Total installed here: {whole / 1e6:.0f} MB. `sccs --help` imports none of them and takes "
            f"{max(start - empty, 0):.2f} s.",
            "Everything beyond the core is an extra. If one is missing, the command that needs it prints the pip "
            "command.",
            "",
            by_hand(),
            "",
        ]
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(COMMAND, description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="write docs/decisions.md")
    if parser.parse_args().write:
        (ROOT / "docs" / "decisions.md").write_text(page())
    else:
        print(page())


if __name__ == "__main__":
    main()
