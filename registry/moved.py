"""Old module names for plug-ins: they import the module under its new name, with a DeprecationWarning.

Plug-ins live in third-party packages and inside exported models, which must keep loading.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

GONE_WITH = "1.0"  # the version that removes the old names
NAMES = {
    **{
        f"registry.{name}": f"registry.spg.{name}"
        for name in ("affinity", "dgl_adapter", "graphs", "losses", "pooling", "slab", "slic", "slic_grid")
    },
    **{
        f"registry.{name}": f"registry.numeric.{name}"
        for name in ("areas", "centroids", "compiled", "nearest", "projection", "smoothing")
    },
    **{f"sccs.{name}": f"sccs.inference.{name}" for name in ("block_job", "depth", "segment", "stitch")},
    **{f"sccs.{name}": f"sccs.evaluation.{name}" for name in ("compare", "continuity", "naming")},
    **{
        f"sccs.{name}": f"sccs.system.{name}"
        for name in ("archive", "cache", "colours", "device", "files", "lock", "log")
    },
    **{f"sccs.{name}": f"sccs.training.{name}" for name in ("checkpoint", "pretrain", "team", "trainer")},
    **{f"sccs.{name}": f"sccs.sharing.{name}" for name in ("bioimage", "encoder", "export")},
    **{f"sccs.{name}": f"sccs.recipe.{name}" for name in ("listing", "located")},
    **{
        f"sccs.data.format_{name}": f"sccs.data.formats.{name}"
        for name in ("flat", "hdf5", "mrc", "n5", "tiff", "zarr")
    },
    "sccs.blocks": "sccs.inference.blocks and sccs.data.pyramid",
    "sccs.survey": "sccs.data.survey",
    "sccs.figures": "sccs.report.views",
}


class Forwarder:
    """Finder and loader of the old names, after all others."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """A spec for an old name, None for every other."""
        return ModuleSpec(fullname, self) if fullname in NAMES else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module under its new name, with a DeprecationWarning."""
        new = NAMES[spec.name]
        warnings.warn(
            f"{spec.name} is now {new}; the old name will be removed in version {GONE_WITH}",
            DeprecationWarning,
            stacklevel=2,
        )
        module, *others = map(importlib.import_module, new.split(" and "))
        if others:
            known = {name: value for part in (*others, module) for name, value in vars(part).items()}
            module = ModuleType(spec.name)
            module.__dict__.update({**known, "__name__": spec.name, "__spec__": spec})
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to run: give the module its own spec back."""
        assert module.__spec__ is not None
        module.__spec__ = module.__spec__.loader_state  # the import system has put the old name's spec there


sys.meta_path.append(Forwarder())
