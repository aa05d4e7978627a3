"""SCCS: unsupervised segmentation of electron microscopy volumes by spectral clustering of superpixel graphs.

import sccs
model = sccs.load("runs/sccs/...")                          # a trained run
labels = model.segment(volume, voxel_size=(16, 16, 16))      # (Z, Y, X)
sccs.Pipeline.from_recipe("recipes/sccs.yaml").fit(volumes)
found, table = sccs.objects(labels == 3, voxel_size=(16, 16, 16))   # instances, and a row for each
"""

import importlib
import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

__version__ = "0.1.0"
__all__ = ["Pipeline", "__version__", "load", "objects"]


def _leave_working_folder() -> None:
    """Keep `python -m sccs`, like `sccs`, from importing files of the working folder, which may not be trustworthy.

    A checkout that is the working folder stays importable.
    """
    ours = re.search(r"(^| )-m ?sccs( |\.|$)", " ".join(sys.orig_argv[1:]))
    if sys.argv[:1] != ["-m"] or not ours or getattr(sys.flags, "safe_path", False):
        return
    if Path(sys.path[0]).resolve() != Path(__file__).resolve().parents[1]:
        del sys.path[0]


def _check_registry() -> None:
    """Raises ImportError if Python finds another package called `registry` before ours, which it does not import."""
    spec = importlib.util.find_spec("registry")
    page = Path(spec.origin) if spec is not None and spec.origin else None
    if page is None or "sccs.components" not in page.read_text(encoding="utf-8", errors="replace"):
        found = "none" if spec is None else page or f"the folder {', '.join(spec.submodule_search_locations or [])}"
        raise ImportError(
            f"sccs needs its own package `registry`, but Python finds {found} first; uninstall that "
            "package, take its folder off PYTHONPATH, or start Python in another folder"
        )


_leave_working_folder()
_check_registry()
importlib.import_module("registry")  # with it, old module names of sccs work, too


def __getattr__(name: str) -> Any:
    # PyTorch and DGL take seconds to import: wait only when a pipeline is used
    if name in ("Pipeline", "load"):
        pipeline = importlib.import_module("sccs.pipeline").Pipeline
        return pipeline if name == "Pipeline" else pipeline.load
    if name == "objects":
        return importlib.import_module("sccs.instances.memory").objects
    raise AttributeError(f"module 'sccs' has no attribute {name!r}")
